//! How soon to try again.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

use crate::ConnectionError;

/// A connection that was good for this long starts its backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// How soon to try again: at once slowly growing, and seldom for keys that the vendor rejects, because that may heal
/// but asking often would be rude.
pub struct Pace {
    usual: Backoff,
    rejected: Backoff,
    is_rejected: bool,
    healthy_since: Option<Instant>,
}

impl Pace {
    /// From one second to `ceiling`, and a curve that begins with `rejected` for keys that were rejected.
    #[must_use]
    pub fn new(ceiling: Duration, rejected: Duration) -> Self {
        Self {
            usual: Backoff::literal(Duration::from_secs(1), ceiling),
            rejected: Backoff::literal(rejected, rejected.saturating_mul(12)),
            is_rejected: false,
            healthy_since: None,
        }
    }

    /// A connection is being opened.
    pub fn connecting(&mut self) {
        self.healthy_since = None;
    }

    /// The connection said something useful.
    pub fn is_healthy(&mut self) {
        self.healthy_since.get_or_insert_with(Instant::now);
    }

    /// The service asked for another first delay.
    pub fn rebase(&mut self, base: Duration) {
        self.usual.rebase(base);
    }

    /// A new key starts anew.
    pub fn reset(&mut self) {
        self.usual.reset();
        self.rejected.reset();
        self.is_rejected = false;
    }

    /// How long to wait after `error`.
    pub fn delay_after(&mut self, error: &ConnectionError) -> Duration {
        if self.healthy_since.is_some_and(|since| since.elapsed() >= HEALTHY) {
            self.reset();
        }
        // Stays so until a connection was good for a while, also if the next failure is an ordinary one.
        self.is_rejected |= error.is_rejection();
        if self.is_rejected { self.rejected.next_delay() } else { self.usual.next_delay() }
    }
}
