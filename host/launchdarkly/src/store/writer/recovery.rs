//! Delays between attempts while a database fails.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

/// First and longest delay before a failed database is probed (U093).
pub(super) const FIRST_PROBE: Duration = Duration::from_millis(500);
const MAX_PROBE: Duration = Duration::from_secs(30);
/// First and longest delay after a database accepted a probe and rejected the data, which costs megabytes each time.
const FIRST_WRITE: Duration = Duration::from_secs(5);
const MAX_WRITE: Duration = Duration::from_secs(300);
/// The delays are reset after the database has worked for this long.
const HEALTHY: Duration = Duration::from_secs(60);

/// Delays of one outage, or of several in close succession.
pub(super) struct Recovery {
    probes: Backoff,
    writes: Backoff,
    ended: Option<Instant>,
}

impl Recovery {
    pub(super) fn new() -> Self {
        Self {
            probes: Backoff::literal(FIRST_PROBE, MAX_PROBE),
            writes: Backoff::literal(FIRST_WRITE, MAX_WRITE),
            ended: None,
        }
    }

    /// Starts an outage. Shortly after the last one, the delays continue to grow.
    pub(super) fn begin(&mut self) {
        if self.ended.is_none_or(|it| it.elapsed() >= HEALTHY) {
            self.probes.reset();
            self.writes.reset();
        }
    }

    /// Ends the outage.
    pub(super) fn end(&mut self) {
        self.ended = Some(Instant::now());
    }

    /// The delay before the next probe.
    pub(super) fn after_probe(&mut self) -> Duration {
        self.probes.next_delay()
    }

    /// The delay before data is sent again.
    pub(super) fn after_write(&mut self) -> Duration {
        self.writes.next_delay()
    }
}
