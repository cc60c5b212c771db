//! What the handlers of all routes share.

use std::sync::Arc;

use yardarm_core::budget::Account;
use yardarm_core::hooks::Hooks;
use yardarm_core::registry::StreamRegistry;
use yardarm_core::{Evaluators, Workers};

use super::compat_metrics::CompatMetrics;
use super::rejection::Rejection;
use crate::config::Config;
use crate::environments::Environments;
use crate::identity::tokens::Tokens;
use crate::shared_store::SharedStore;
use crate::upstream::Registrar;

/// Largest body or header that is processed on the serving threads, in bytes.
const MAX_SMALL: usize = 32 << 10;

/// The state of all handlers.
pub(crate) struct Downstream {
    pub(crate) environments: Environments,
    pub(crate) config: Arc<Config>,
    pub(crate) tokens: Tokens,
    pub(crate) registrar: Registrar,
    /// Database through which gateways share their data; `None` without one.
    pub(crate) shared: Option<SharedStore>,
    pub(crate) hooks: Hooks,
    pub(crate) streams: StreamRegistry,
    pub(crate) compat_metrics: CompatMetrics,
    pub(crate) evaluators: Evaluators,
    /// Threads that process large bodies and headers.
    pub(crate) readers: Workers,
    /// Memory for large bodies that present a key.
    pub(crate) auth_bodies: Arc<Account>,
    /// Unix milliseconds of the start of the process.
    pub(crate) started_ms: u64,
}

/// Returns whether `size` bytes are processed off the serving threads.
pub(super) fn is_large(size: usize) -> bool {
    size > MAX_SMALL
}

impl Downstream {
    /// Does work for a caller, off this thread if `is_large`.
    ///
    /// # Errors
    /// When too much work is waiting.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        is_large: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        if !is_large {
            return Ok(work());
        }
        self.readers.run("target reader", work).await.map_err(|_| Rejection::Busy)
    }
}
