//! Whether a service accepts a key.

use std::time::Duration;

use tokio::time::Instant;

/// How long rejections of a key that worked before count as an interruption.
pub(super) const INTERRUPTION: Duration = Duration::from_secs(600);

/// Whether a service accepted a key so far. Services also reject valid keys while they have an outage.
#[derive(Debug, Default)]
pub(super) struct KeyHistory {
    has_worked: bool,
    /// When the key was first rejected after it last worked.
    rejected_since: Option<Instant>,
    /// Rejections since then.
    rejections: u32,
    /// Rejections of a key that never worked that may be an interruption.
    early_attempts: u32,
}

impl KeyHistory {
    /// Sets how many rejections of a key that never worked may be an interruption; none unless set.
    pub(super) fn with_early_attempts(self, early_attempts: u32) -> Self {
        Self { early_attempts, ..self }
    }

    /// Records that the service accepts the key.
    pub(super) fn note_accepted(&mut self) {
        self.forget();
        self.has_worked = true;
    }

    /// Records that the service accepted the key, although something else that the key leads to is rejected: if that lasts,
    /// it is no interruption.
    pub(super) fn note_accepted_in_part(&mut self) {
        self.has_worked = true;
    }

    /// Records a rejection. Returns whether it may be an interruption: the key worked before, and has been rejected for
    /// less than ten minutes; or it is one of the early attempts of a key that never worked.
    pub(super) fn note_rejected(&mut self) -> bool {
        self.rejections = self.rejections.saturating_add(1);
        let since = *self.rejected_since.get_or_insert_with(Instant::now);
        if self.has_worked { since.elapsed() < INTERRUPTION } else { self.rejections <= self.early_attempts }
    }

    /// Forgets everything, for a new key.
    pub(super) fn forget(&mut self) {
        *self = Self::default().with_early_attempts(self.early_attempts);
    }
}
