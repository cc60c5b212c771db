//! Rate limit for log lines about repeated upstream errors.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Admits a log line from time to time and counts those suppressed in between.
#[derive(Debug)]
pub struct LogThrottle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// Admits at most one line per `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::new(State { last: None, suppressed: 0 }) }
    }

    /// Returns, if a line may be written now, how many were suppressed since the last one.
    pub fn next_line(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.last.is_some_and(|last| last.elapsed() < self.interval) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_between_are_counted() {
        let seldom = LogThrottle::new(Duration::from_secs(10));
        assert_eq!([seldom.next_line(), seldom.next_line(), seldom.next_line()], [Some(0), None, None]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!([seldom.next_line(), seldom.next_line()], [Some(2), None]);
    }
}
