//! The status of a version that is being rolled out.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::chain::{Shadow, ShadowReport};
use crate::plan::Newer;
use crate::vocabulary::{HookMetrics, RolloutMode};

/// A version that is being rolled out beside the running one.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RolloutStatus {
    /// What it is called for.
    pub mode: RolloutMode,
    /// Version that the plugin declares.
    pub version: String,
    /// Number of the version, counted over all that were staged since the start.
    pub generation: u64,
    /// Digest of its component file.
    pub sha256: String,
    /// Unix milliseconds since when.
    pub since_ms: u64,
    /// Milliseconds until it replaces the running version by itself, unless it is worse; by order only if absent. A version
    /// in shadow also needs calls, all with equal replies.
    pub promotion_in_ms: Option<u64>,
    /// Its calls.
    pub calls: Vec<HookMetrics>,
    /// How its replies differ from those of the running version, if it is in shadow.
    pub shadow: Option<ShadowReport>,
}

/// The data from which the status is built.
pub(crate) struct RolloutView {
    pub(crate) newer: Arc<Newer>,
    pub(crate) since_ms: u64,
    pub(crate) promotion_in_ms: Option<u64>,
}

impl RolloutView {
    pub(super) fn status(&self) -> RolloutStatus {
        let plugin = &self.newer.plugin;
        RolloutStatus {
            mode: plugin.rollout.mode,
            version: plugin.version.clone(),
            generation: plugin.generation,
            sha256: hex::encode(plugin.sha256),
            since_ms: self.since_ms,
            promotion_in_ms: self.promotion_in_ms,
            calls: plugin.guest.context.calls.called_hooks(),
            shadow: self.newer.shadow().map(Shadow::report),
        }
    }
}
