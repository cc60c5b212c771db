//! How a new version takes the place of the running one.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

/// Longest time until a version is promoted by itself, in seconds.
pub(crate) const LONGEST_PROMOTION_S: i64 = 30 * 24 * 3600;

/// What a binding file says about the rollout of new versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RolloutPolicy {
    pub(crate) mode: RolloutMode,
    /// Time after which a version is promoted that is not worse than the running one; by order only if absent.
    pub(crate) promote_after: Option<Duration>,
}

/// What a new version does while another one runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutMode {
    /// It replaces the running one at once.
    #[default]
    Full,
    /// It receives copies of calls; its replies are compared with those of the running one and discarded.
    Shadow,
    /// It is called for some of the callers.
    Canary {
        /// How many of a hundred, by environment and credential.
        percent: u8,
    },
}

impl RolloutPolicy {
    /// Returns whether two versions run side by side for a while.
    pub(crate) fn is_gradual(self) -> bool {
        self.mode != RolloutMode::Full
    }
}
