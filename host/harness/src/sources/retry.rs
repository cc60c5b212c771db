//! Retries of requests for what an event announces. When they are exhausted, the stream is reopened and everything downloaded.

use std::time::Duration;

use http::StatusCode;

use crate::upstream::RequestError;

/// Attempts before everything is downloaded instead.
const ATTEMPTS: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// The attempts that are left for one request.
pub(super) struct RetryBudget {
    attempts: u32,
    delay: Duration,
    has_new_token: bool,
}

/// The action after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RetryAction {
    GiveUp,
    /// Get a new token, and retry.
    Renew,
    /// Retry after a delay.
    Wait(Duration),
}

impl RetryBudget {
    pub(super) fn new() -> Self {
        Self { attempts: 0, delay: FIRST_DELAY, has_new_token: false }
    }

    /// Returns the action after `error`.
    pub(super) fn after(&mut self, error: &RequestError) -> RetryAction {
        self.attempts += 1;
        let is_token = matches!(error, RequestError::Status(StatusCode::UNAUTHORIZED));
        // If a new token is rejected as well, another one would be too.
        if self.attempts >= ATTEMPTS || is_token && self.has_new_token {
            return RetryAction::GiveUp;
        }
        if is_token {
            self.has_new_token = true;
            return RetryAction::Renew;
        }
        let delay = self.delay;
        self.delay *= 2;
        RetryAction::Wait(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_new_token_and_a_few_attempts() {
        let status = |code: u16| RequestError::Status(StatusCode::from_u16(code).unwrap());
        let mut budget = RetryBudget::new();
        assert_eq!(budget.after(&status(401)), RetryAction::Renew);
        assert_eq!(budget.after(&status(401)), RetryAction::GiveUp);
        let mut budget = RetryBudget::new();
        let delays: Vec<_> = (0..4).map(|_| budget.after(&status(500))).collect();
        let wait = |ms| RetryAction::Wait(Duration::from_millis(ms));
        assert_eq!(delays, [wait(250), wait(500), wait(1000), RetryAction::GiveUp]);
    }
}
