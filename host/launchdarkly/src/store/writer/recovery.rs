//! How soon a database that failed is tried again.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

/// First pause before a database that failed is probed (upstream page, section 4.2), and the longest one.
pub(super) const FIRST_PROBE: Duration = Duration::from_millis(500);
const MAX_PROBE: Duration = Duration::from_secs(30);
/// First pause after a database took a probe and refused the data, which costs megabytes each time, and the longest one.
const FIRST_WRITE: Duration = Duration::from_secs(5);
const MAX_WRITE: Duration = Duration::from_secs(300);
/// A database that worked for this long begins anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// Pauses of one outage, or of several that follow each other closely.
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

    /// An outage begins. If the last one has only just ended, the pauses go on growing.
    pub(super) fn begin(&mut self) {
        if self.ended.is_none_or(|it| it.elapsed() >= HEALTHY) {
            self.probes.reset();
            self.writes.reset();
        }
    }

    /// The outage is over.
    pub(super) fn end(&mut self) {
        self.ended = Some(Instant::now());
    }

    /// The pause before the next probe.
    pub(super) fn after_probe(&mut self) -> Duration {
        self.probes.next_delay()
    }

    /// The pause before data is sent again.
    pub(super) fn after_write(&mut self) -> Duration {
        self.writes.next_delay()
    }
}
