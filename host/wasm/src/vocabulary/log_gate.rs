//! A limit on log lines about one plugin.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Sustained rate of lines per second; further lines are dropped and counted.
const LINES_PER_SECOND: f64 = 50.0;
/// Maximum number of lines in a burst.
const BURST: f64 = 200.0;

/// Rate limit for log lines.
#[derive(Debug)]
pub(crate) struct LogGate {
    bucket: Mutex<(f64, Instant)>,
    dropped: AtomicU64,
}

impl Default for LogGate {
    fn default() -> Self {
        Self { bucket: Mutex::new((BURST, Instant::now())), dropped: AtomicU64::new(0) }
    }
}

impl LogGate {
    /// Returns whether one more line may be written; counts it if not.
    pub(crate) fn admit(&self) -> bool {
        let mut bucket = self.bucket.lock();
        let now = Instant::now();
        let (tokens, since) = *bucket;
        let tokens = (tokens + (now - since).as_secs_f64() * LINES_PER_SECOND).min(BURST);
        let passes = tokens >= 1.0;
        *bucket = (if passes { tokens - 1.0 } else { tokens }, now);
        if !passes {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    /// Returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let gate = LogGate::default();
        let passed = (0..1_000).filter(|_| gate.admit()).count();
        assert!((200..260).contains(&passed), "{passed}");
        assert_eq!(passed as u64 + gate.dropped(), 1_000);
    }
}
