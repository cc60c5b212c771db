//! The running parts of the gateway, from which the admin listener reports.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use yardarm_core::hooks::Hooks;
use yardarm_core::metrics::Registry;
use yardarm_core::readiness::{ReadyPolicy, ReadyReport};
use yardarm_core::registry::StreamRegistry;
use yardarm_core::{Lifecycle, Secret};
use yardarm_fleet::Fleet;
use yardarm_vendor::report::{EnvironmentListReport, EnvironmentReport};
use yardarm_wasm::PluginFolder;

use crate::capacity::Capacity;
use crate::explanations::Explanations;
use crate::listener::{ConnectionLimit, Fanout, Tls};
use crate::reload_order::ReloadOrders;
use crate::vendors::Vendors;

/// The parts that the admin listener reports on.
pub(crate) struct State {
    pub(crate) hooks: Hooks,
    pub(crate) streams: StreamRegistry,
    pub(crate) fanout: Fanout,
    pub(crate) plugins: Arc<PluginFolder>,
    pub(crate) vendors: Vendors,
    /// The gateways that share upstream connections with this one; `None` without any.
    pub(crate) fleet: Option<Fleet>,
    pub(crate) metrics: Registry,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) capacity: Capacity,
    /// The limit of SDK connections.
    pub(crate) connections: ConnectionLimit,
    pub(crate) tls: Option<Tls>,
    pub(crate) started_ms: u64,
    /// Which environments must serve data before the process is ready.
    pub(crate) ready: ReadyPolicy,
    /// Tickets of operators who want requests explained.
    pub(crate) explanations: Explanations,
    /// The token with which operators control plugins.
    pub(crate) operator_token: ArcSwapOption<Secret>,
    /// Where orders to reload go, once something reloads.
    pub(crate) reloads: OnceLock<ReloadOrders>,
    /// All addresses that the process listens on.
    pub(crate) listeners: Vec<SocketAddr>,
}

impl State {
    /// Returns the reports of all environments, grouped by vendor.
    pub(crate) fn reports(&self) -> Vec<EnvironmentReport> {
        self.vendors.reports()
    }

    /// Returns the states of the lists of environments that upstream sends.
    pub(crate) fn environment_lists(&self) -> Vec<EnvironmentListReport> {
        self.vendors.list_reports()
    }

    /// Returns whether the process can take traffic, and what it waits for.
    pub(crate) fn readiness(&self) -> ReadyReport {
        self.lifecycle.readiness().report(self.ready)
    }
}
