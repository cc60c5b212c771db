//! The calls of plugins that single requests caused, for operators who look for the reason of a response.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

/// Maximum number of calls in a log.
const MOST_CALLS: usize = 200;

/// A call of a plugin.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LoggedCall {
    /// Number of the request, as in the log of the process.
    pub request: String,
    /// Vendor and name of the environment; the vendor only before it is known.
    pub environment: String,
    /// Route of the request.
    pub route: &'static str,
    /// Hook.
    pub hook: &'static str,
    /// Name of the plugin.
    #[schema(value_type = String)]
    pub plugin: Arc<str>,
    /// Version that the plugin declares; `None` if a required plugin is missing.
    #[schema(value_type = Option<String>)]
    pub version: Option<Arc<str>>,
    /// Number of the version, as in `/api/plugins`.
    pub generation: Option<u64>,
    /// Outcome, as in the metrics.
    pub outcome: &'static str,
    /// The decision, or why there is none.
    pub text: Option<String>,
    /// Time from the call to its end in microseconds, with waiting.
    pub us: u64,
    /// Processor time in microseconds.
    pub cpu_us: u64,
}

/// The calls of some requests, in the order in which they ended.
#[derive(Default)]
pub struct CallLog(Mutex<Vec<LoggedCall>>);

impl CallLog {
    /// Adds a call; beyond 200 calls it is dropped.
    pub fn add(&self, call: LoggedCall) {
        let mut calls = self.0.lock();
        if calls.len() < MOST_CALLS {
            calls.push(call);
        }
    }

    /// Returns the calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<LoggedCall> {
        self.0.lock().clone()
    }
}

impl fmt::Debug for CallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallLog").field(&self.0.lock().len()).finish()
    }
}
