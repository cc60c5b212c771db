//! How often something that an event announced is asked for. Whoever gives up connects again and downloads everything.

use std::time::Duration;

use http::StatusCode;

use super::RequestError;
use super::rounds::Upstream;
use crate::dataset::Notice;
use crate::environments::HarnessEnvironment;
use crate::received::Fetched;

/// How often it is asked for before everything is downloaded instead.
const ATTEMPTS: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// What is left of it.
pub(super) struct Patience {
    attempts: u32,
    delay: Duration,
    has_new_token: bool,
}

/// What to do about a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    GiveUp,
    /// Get a new token and ask again.
    Renew,
    /// Ask again a little later.
    Wait(Duration),
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { attempts: 0, delay: FIRST_DELAY, has_new_token: false }
    }

    /// What to do after `error`.
    pub(super) fn after(&mut self, error: &RequestError) -> Next {
        self.attempts += 1;
        let is_token = matches!(error, RequestError::Status(StatusCode::UNAUTHORIZED));
        // A token that was made for the purpose does not get better by a third one.
        if self.attempts >= ATTEMPTS || is_token && self.has_new_token {
            return Next::GiveUp;
        }
        if is_token {
            self.has_new_token = true;
            return Next::Renew;
        }
        let delay = self.delay;
        self.delay *= 2;
        Next::Wait(delay)
    }
}

/// The item that an event names.
pub(super) async fn changed_item<U: Upstream>(
    upstream: &mut U,
    environment: &HarnessEnvironment,
    notice: &Notice,
) -> Result<Fetched, RequestError> {
    let mut patience = Patience::new();
    loop {
        let answer = upstream.fetcher().one(&environment.session(), notice.domain, &notice.identifier).await;
        let error = match answer {
            Ok(item) => return Ok(item),
            Err(error) => error,
        };
        tracing::warn!(environment = %environment.label, item = notice.identifier, %error, "changed item could not be fetched");
        match patience.after(&error) {
            Next::GiveUp => return Err(error),
            Next::Renew => upstream.authenticate().await?,
            Next::Wait(delay) => tokio::time::sleep(delay).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_new_token_and_a_few_attempts() {
        let status = |code: u16| RequestError::Status(StatusCode::from_u16(code).unwrap());
        let mut patience = Patience::new();
        assert_eq!(patience.after(&status(401)), Next::Renew);
        assert_eq!(patience.after(&status(401)), Next::GiveUp);
        let mut patience = Patience::new();
        let delays: Vec<_> = (0..4).map(|_| patience.after(&status(500))).collect();
        let wait = |ms| Next::Wait(Duration::from_millis(ms));
        assert_eq!(delays, [wait(250), wait(500), wait(1000), Next::GiveUp]);
    }
}
