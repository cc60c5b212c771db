//! Log lines about what upstream repeats as often as it wants.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lets a log line through once in a while and counts those between.
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
    /// At most one line in each `interval`.
    #[must_use]
    pub const fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::new(State { last: None, suppressed: 0 }) }
    }

    /// Whether a line may be written now: if so, how many were not since the one before.
    pub fn next_line(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
