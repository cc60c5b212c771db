//! Which changes a stream that opens now may have missed.
//!
//! Harness' streams only name what has changed, and SDKs fetch it. One whose stream was gone for a while knows what it polled
//! last, so a stream that opens is told once of every change since then: of the last moments, and, soon after an outage of
//! Harness' own stream, of everything since that began.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// SDKs poll once a minute while they have no stream, and need a moment to open another.
const RECENT: Duration = Duration::from_secs(90);
/// How long after an outage SDKs may take to come back; the slowest wait for a minute between attempts.
const RETURN: Duration = Duration::from_secs(180);
/// Changes that are remembered; the log of the environment holds a few more.
pub(crate) const MAX_ANNOUNCED: usize = 16_000;

/// When changes were announced. Cheap to ask.
#[derive(Debug)]
pub(crate) struct Announced(Mutex<Moments>);

#[derive(Debug)]
struct Moments {
    /// Numbers of changes that were sent to streams, in order, with the moment of each.
    changes: VecDeque<(Instant, u64)>,
    /// When Harness' stream was lost, or this process began without one.
    lost: Instant,
    /// When it came back; `None` while it is away.
    returned: Option<Instant>,
}

impl Default for Announced {
    fn default() -> Self {
        Self(Mutex::new(Moments { changes: VecDeque::new(), lost: Instant::now(), returned: None }))
    }
}

impl Announced {
    /// Records that the change with this number was sent to streams.
    pub(crate) fn add(&self, number: u64) {
        let mut moments = self.lock();
        if moments.changes.len() >= MAX_ANNOUNCED {
            moments.changes.pop_front();
        }
        moments.changes.push_back((Instant::now(), number));
    }

    /// Harness' stream is gone.
    pub(crate) fn lose(&self) {
        let mut moments = self.lock();
        let now = Instant::now();
        // One that breaks again before SDKs are back goes on being the same outage.
        if moments.returned.take().is_some_and(|at| now.duration_since(at) >= RETURN) {
            moments.lost = now;
        }
    }

    /// Harness' stream is there.
    pub(crate) fn restore(&self) {
        self.lock().returned.get_or_insert_with(Instant::now);
    }

    /// The number of the first change that a stream which opens now is to be told of; `None` if there is none.
    pub(crate) fn first_missed(&self) -> Option<u64> {
        let moments = self.lock();
        let now = Instant::now();
        let is_after_outage = moments.returned.is_none_or(|at| now.duration_since(at) < RETURN);
        let is_missed = |at: Instant| now.duration_since(at) < RECENT || is_after_outage && at >= moments.lost;
        // The moments are in order, so the first is found from the end.
        let missed = moments.changes.iter().rev().take_while(|(at, _)| is_missed(*at)).last();
        missed.map(|(_, number)| *number)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Moments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_while_a_stream_was_away_is_told_and_no_more() {
        let announced = Announced::default();
        assert_eq!(announced.first_missed(), None);
        announced.add(3);
        announced.restore();
        assert_eq!(announced.first_missed(), Some(3), "the first download differed from what was kept");
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
    fn it_does_not_grow_without_end() {
        let announced = Announced::default();
        for number in 0..=MAX_ANNOUNCED as u64 {
            announced.add(number);
        }
        assert_eq!(announced.first_missed(), Some(1));
    }
}
