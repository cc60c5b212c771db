//! The changes that a stream which opens now may have missed.
//!
//! Harness' streams only name what has changed, and SDKs fetch it. An SDK without a stream polls, so it may have missed the
//! changes since its last poll. A stream that opens gets these events once: those of the last 90 seconds and, soon after an
//! outage of Harness' own stream, all since the outage began.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Age of changes that a stream may have missed: SDKs without a stream poll once a minute, and need a moment to open one.
const RECENT: Duration = Duration::from_secs(90);
/// Time in which SDKs reconnect after an outage; the slowest wait for a minute between attempts.
const RETURN: Duration = Duration::from_secs(180);
/// Changes that are remembered; the change log of the environment holds a few more.
pub(crate) const MAX_ANNOUNCED: usize = 16_000;

/// The times at which changes were announced.
#[derive(Debug)]
pub(crate) struct Announced(Mutex<Times>);

#[derive(Debug)]
struct Times {
    /// Sequence numbers of changes that were sent to streams, in order, with the time of each.
    changes: VecDeque<(Instant, u64)>,
    /// When Harness' stream was lost, or this process started.
    lost: Instant,
    /// When it was open again; `None` while it is not.
    returned: Option<Instant>,
}

impl Default for Announced {
    fn default() -> Self {
        Self(Mutex::new(Times { changes: VecDeque::new(), lost: Instant::now(), returned: None }))
    }
}

impl Announced {
    /// Records that the change with this number was sent to streams.
    pub(crate) fn add(&self, number: u64) {
        let mut times = self.lock();
        if times.changes.len() >= MAX_ANNOUNCED {
            times.changes.pop_front();
        }
        times.changes.push_back((Instant::now(), number));
    }

    /// Notes that Harness' stream has ended.
    pub(crate) fn lose(&self) {
        let mut times = self.lock();
        let now = Instant::now();
        // If it ends again before SDKs have reconnected, the outage goes on.
        if times.returned.take().is_some_and(|at| now.duration_since(at) >= RETURN) {
            times.lost = now;
        }
    }

    /// Notes that Harness' stream is open.
    pub(crate) fn restore(&self) {
        self.lock().returned.get_or_insert_with(Instant::now);
    }

    /// Returns the sequence number of the first change that a stream which opens now may have missed; `None` if there is none.
    pub(crate) fn first_missed(&self) -> Option<u64> {
        let times = self.lock();
        let now = Instant::now();
        let is_after_outage = times.returned.is_none_or(|at| now.duration_since(at) < RETURN);
        let is_missed = |at: Instant| now.duration_since(at) < RECENT || is_after_outage && at >= times.lost;
        // The changes are in order, so the first is found from the end.
        let missed = times.changes.iter().rev().take_while(|(at, _)| is_missed(*at)).last();
        missed.map(|(_, number)| *number)
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn missed_changes_are_announced_and_no_others() {
        let announced = Announced::default();
        assert_eq!(announced.first_missed(), None);
        announced.add(3);
        announced.restore();
        assert_eq!(announced.first_missed(), Some(3), "the first download differed from what was persisted");
        wait(200).await;
        assert_eq!(announced.first_missed(), None);
        announced.add(4);
        wait(60).await;
        announced.add(5);
        assert_eq!(announced.first_missed(), Some(4), "an SDK that lost its own connection");
        wait(60).await;
        assert_eq!(announced.first_missed(), Some(5));

        wait(100).await;
        announced.lose();
        announced.add(6);
        wait(1000).await;
        announced.add(7);
        wait(1000).await;
        assert_eq!(announced.first_missed(), Some(6), "since the outage began");
        announced.restore();
        wait(10).await;
        announced.lose();
        announced.restore();
        wait(170).await;
        assert_eq!(announced.first_missed(), Some(6), "an outage in two parts");
        wait(20).await;
        assert_eq!(announced.first_missed(), None);
    }

    #[test]
    fn remembered_changes_are_bounded() {
        let announced = Announced::default();
        for number in 0..=MAX_ANNOUNCED as u64 {
            announced.add(number);
        }
        assert_eq!(announced.first_missed(), Some(1));
    }
}
