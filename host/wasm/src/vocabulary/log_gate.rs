//! A limit on log lines about one plugin.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A rate of log lines; further lines are dropped and counted.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    /// Maximum number of lines in a burst.
    burst: f64,
}

/// For the lines of a guest.
const GUEST: Rate = Rate { per_second: 50.0, burst: 200.0 };
/// For the host's reports about a plugin, which never wait for its own lines.
const REPORTS: Rate = Rate { per_second: 2.0, burst: 20.0 };

/// Rate limit for log lines.
#[derive(Debug)]
pub(crate) struct LogGate {
    rate: Rate,
    bucket: Mutex<Bucket>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    since: Instant,
    /// Lines dropped since the last admitted line.
    suppressed: u64,
}

impl LogGate {
    /// Creates the limit for lines of a guest.
    pub(crate) fn for_guest() -> Self {
        Self::new(GUEST)
    }

    /// Creates the limit for the host's reports about a plugin.
    pub(crate) fn for_reports() -> Self {
        Self::new(REPORTS)
    }

    fn new(rate: Rate) -> Self {
        let bucket = Bucket { tokens: rate.burst, since: Instant::now(), suppressed: 0 };
        Self { rate, bucket: Mutex::new(bucket), dropped: AtomicU64::new(0) }
    }

    /// Admits one more line, and returns how many were dropped since the last one; `None` if it has to be dropped, which
    /// is counted.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut bucket = self.bucket.lock();
        let now = Instant::now();
        let refill = (now - bucket.since).as_secs_f64() * self.rate.per_second;
        (bucket.tokens, bucket.since) = ((bucket.tokens + refill).min(self.rate.burst), now);
        if bucket.tokens < 1.0 {
            bucket.suppressed += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.suppressed))
    }

    /// Returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_and_counted_and_the_next_line_says_so() {
        let gate = LogGate::for_guest();
        assert_eq!((0..1_000).filter(|_| gate.admit().is_some()).count(), 200);
        assert_eq!(gate.dropped(), 800);
        tokio::time::advance(Duration::from_millis(40)).await;
        assert_eq!((gate.admit(), gate.admit(), gate.admit()), (Some(800), Some(0), None));
        assert!(LogGate::for_reports().admit().is_some(), "reports have their own limit");
    }
}
