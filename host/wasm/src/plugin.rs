//! A plugin that was checked, compiled, linked and initialised.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::DropGuard;

use crate::call::BindingInstance;
use crate::notices::Mailbox;
use crate::runtime::guest::Guest;
use crate::vocabulary::{Hook, LimitsByHook, RolloutPolicy, SignatureStatus, StatePolicy};

/// A plugin that is ready to be added to a plan.
pub(crate) struct Plugin {
    pub(crate) stem: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) version: String,
    pub(crate) about: String,
    /// Whether instances may keep state, if the plugin says so.
    pub(crate) state: Option<StatePolicy>,
    pub(crate) sha256: [u8; 32],
    pub(crate) signature: SignatureStatus,
    /// How it was staged: to replace the running version at once, or to run beside it for a while.
    pub(crate) rollout: RolloutPolicy,
    pub(crate) generation: u64,
    /// Whether there is no binding file.
    pub(crate) automatic: bool,
    /// Grants that the imports require.
    pub(crate) requested: Vec<String>,
    /// Limits that its manifest wants.
    pub(crate) wanted_limits: LimitsByHook,
    pub(crate) exported: Vec<Hook>,
    pub(crate) guest: Arc<Guest>,
    pub(crate) bindings: Vec<Arc<BindingInstance>>,
    /// Changes that wait for its `change-listener`.
    pub(crate) mailbox: Arc<Mailbox>,
    /// Digest of the secrets in its configuration.
    pub(crate) secrets: [u8; 32],
    /// Its configuration, in which secrets are names.
    pub(crate) config: serde_json::Map<String, serde_json::Value>,
    /// Ends its background task.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) background: Option<DropGuard>,
    pub(crate) figures: Figures,
}

/// Measurements of staging.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Shortest time to create an instance and call `init`.
    pub(crate) fresh: Duration,
    /// Largest linear memory of a new instance, in bytes.
    pub(crate) memory: usize,
    pub(crate) compile: Duration,
    /// Whether the compiled form was in the cache.
    pub(crate) cached: bool,
}
