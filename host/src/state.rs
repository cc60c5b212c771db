//! The running parts, as the admin listener shows them.

use std::net::SocketAddr;
use std::sync::Arc;

use yardarm_core::Lifecycle;
use yardarm_core::hooks::Hooks;
use yardarm_core::readiness::{ReadyPolicy, ReadyReport, WaitingFor};
use yardarm_core::registry::StreamRegistry;
use yardarm_core::report::{EnvironmentListReport, EnvironmentReport};
use yardarm_harness::Harness;
use yardarm_launchdarkly::LaunchDarkly;
use yardarm_wasm::PluginFolder;

use crate::capacity::Capacity;
use crate::listener::{ConnectionLimit, Fanout, Tls};
use crate::request_metrics::RequestMetrics;

/// What the admin listener shows.
pub(crate) struct State {
    pub(crate) hooks: Hooks,
    pub(crate) streams: StreamRegistry,
    pub(crate) fanout: Fanout,
    pub(crate) plugins: Arc<PluginFolder>,
    pub(crate) launchdarkly: Option<LaunchDarkly>,
    pub(crate) harness: Option<Harness>,
    pub(crate) request_metrics: RequestMetrics,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) capacity: Capacity,
    /// Places of the connections of SDKs.
    pub(crate) connections: ConnectionLimit,
    pub(crate) tls: Option<Tls>,
    pub(crate) started_ms: u64,
    /// How much must be served before the process counts as ready.
    pub(crate) ready: ReadyPolicy,
    /// Where the process listens, whatever for.
    pub(crate) listeners: Vec<SocketAddr>,
}

impl State {
    /// State of every environment, one vendor after the other.
    pub(crate) fn reports(&self) -> Vec<EnvironmentReport> {
        let mut reports = self.launchdarkly.as_ref().map(LaunchDarkly::reports).unwrap_or_default();
        reports.extend(self.harness.as_ref().map(Harness::reports).unwrap_or_default());
        reports
    }

    /// State of the lists of environments that vendors give.
    pub(crate) fn environment_lists(&self) -> Vec<EnvironmentListReport> {
        self.launchdarkly.as_ref().and_then(LaunchDarkly::list_report).into_iter().collect()
    }

    /// Whether the process can take traffic.
    pub(crate) fn readiness(&self) -> ReadyReport {
        let mut report = self.lifecycle.readiness().report(self.ready);
        if !self.plugins.is_ready() {
            report.is_ready = false;
            report.waiting.push(WaitingFor { name: "plugins".to_owned(), state: None, last_error: None });
        }
        report
    }
}
