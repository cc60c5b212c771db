//! When the folder is scanned next.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum delay of a scan while events continue to arrive, and of a change while some file is being written.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Pause between two scans while a file is unstable.
const NEXT_LOOK: Duration = Duration::from_millis(50);

/// The time of the next scan.
#[derive(Debug)]
pub(super) struct Schedule {
    next: Instant,
    /// First event since the last scan.
    event: Option<Instant>,
    /// Since when some file is unstable.
    unstable: Option<Instant>,
}

impl Schedule {
    /// Creates a schedule whose first scan is due now.
    pub(super) fn new() -> Self {
        Self { next: Instant::now(), event: None, unstable: None }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Has the folder scanned after `quiet` without further events.
    pub(super) fn note_event(&mut self, quiet: Duration) {
        let now = Instant::now();
        // After the limit, changes are applied although more may follow.
        let latest = *self.event.get_or_insert(now) + LONGEST_WAIT;
        let due = (now + quiet).min(latest);
        self.next = if self.unstable.is_some() { self.next.min(due) } else { due };
    }

    /// Has the folder scanned at `at` at the latest.
    pub(super) fn advance(&mut self, at: Instant) {
        self.next = self.next.min(at);
    }

    /// Returns whether unstable files are to be waited for.
    pub(super) fn has_patience(&self) -> bool {
        self.unstable.is_none_or(|since| since.elapsed() < LONGEST_WAIT)
    }

    /// Has the folder scanned again after `interval`, or soon if the scan has left unstable files.
    pub(super) fn note_scan(&mut self, is_done: bool, interval: Duration) {
        let now = Instant::now();
        self.event = None;
        if is_done {
            (self.unstable, self.next) = (None, now + interval);
        } else {
            self.unstable.get_or_insert(now);
            self.next = now + NEXT_LOOK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(100);
    const INTERVAL: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn events_postpone_a_scan_within_bounds() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.note_scan(true, INTERVAL);
        assert_eq!(schedule.next(), start + INTERVAL);
        for _ in 0..30 {
            tokio::time::advance(QUIET - Duration::from_millis(10)).await;
            schedule.note_event(QUIET);
        }
        let first = start + QUIET - Duration::from_millis(10);
        assert_eq!(schedule.next(), first + LONGEST_WAIT);
        schedule.note_scan(true, INTERVAL);
        schedule.note_event(QUIET);
        assert_eq!(schedule.next(), Instant::now() + QUIET);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_with_unstable_files_ends() {
        let mut schedule = Schedule::new();
        for _ in 0..40 {
            assert!(schedule.has_patience());
            schedule.note_scan(false, INTERVAL);
            schedule.note_event(QUIET);
            assert_eq!(schedule.next(), Instant::now() + NEXT_LOOK);
            tokio::time::advance(NEXT_LOOK).await;
        }
        assert!(!schedule.has_patience());
        schedule.note_scan(true, INTERVAL);
        assert!(schedule.has_patience());
    }
}
