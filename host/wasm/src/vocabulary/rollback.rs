//! Why a version was rolled back.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use utoipa::ToSchema;

/// Why a version was replaced by the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RollbackReason {
    /// Its calls trapped.
    Traps,
    /// Its calls failed in other ways.
    Errors,
    /// Its calls were slow.
    Slow,
    /// Another plugin of its set was rolled back.
    Set,
    /// An operator ordered it.
    Operator,
}

/// How often a plugin was rolled back, by reason.
#[derive(Debug, Default)]
pub(crate) struct RollbackMeter([AtomicU64; RollbackReason::ALL.len()]);

impl RollbackReason {
    /// All reasons, in the order of their values.
    pub(crate) const ALL: [Self; 5] = [Self::Traps, Self::Errors, Self::Slow, Self::Set, Self::Operator];

    /// Returns the name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Traps => "traps",
            Self::Errors => "errors",
            Self::Slow => "slow",
            Self::Set => "set",
            Self::Operator => "operator",
        }
    }
}

impl RollbackMeter {
    pub(crate) fn count(&self, reason: RollbackReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts that are not 0.
    pub(crate) fn read(&self) -> Vec<(RollbackReason, u64)> {
        let all =
            RollbackReason::ALL.into_iter().map(|reason| (reason, self.0[reason as usize].load(Ordering::Relaxed)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}
