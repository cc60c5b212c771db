//! Assembly of the gateway: builds the parts, starts, drains and stops them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use tokio::sync::mpsc;
use yardarm_core::data_folder::DataFolder;
use yardarm_core::hooks::Hooks;
use yardarm_core::metrics::Registry;
use yardarm_core::registry::StreamRegistry;
use yardarm_core::supervisor::blocking;
use yardarm_core::workers::processors;
use yardarm_core::{DataStore, InternalError, Lifecycle, Supervisor, TaskThreads};
use yardarm_fleet::Fleet;
use yardarm_harness::Harness;
use yardarm_launchdarkly::{InitializationError, LaunchDarkly};
use yardarm_vendor::report::EnvironmentReport;
use yardarm_vendor::side::{Parts, StartError};
use yardarm_vendor::upstream::UpstreamTls;
use yardarm_wasm::{FolderStatus, PluginFolder};

use crate::admin;
use crate::capacity::Capacity;
use crate::config::{Config, ShutdownConfig};
use crate::explanations::Explanations;
use crate::layers::{self, Layered};
use crate::listener::{ConnectionLimit, Fanout, Listener, ServeOptions, Tls, TlsError};
use crate::otlp::Otlp;
use crate::reload_order::ReloadOrder;
use crate::request_metrics::RequestMetrics;
use crate::startup::{self, Opened};
use crate::state::State;
use crate::telemetry;
use crate::vendors::Vendors;

/// Most threads that read upstream streams. One applies thousands of changes per second.
const MAX_UPSTREAM_THREADS: usize = 4;
/// Time for the last commit of the store, on a disk that is busy, and for the last responses of the admin listener.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// Time for the last export of telemetry.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    own_addresses: BTreeMap<&'static str, SocketAddr>,
    admin_address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    shutdown: ShutdownConfig,
    state: Arc<State>,
    /// Connections of SDKs. They end first, so that events of their last requests are flushed.
    connections: Lifecycle,
    /// Tasks that serve SDKs.
    serving: Lifecycle,
    /// Tasks that outlive them: the admin listener, which reports on the shutdown.
    operating: Lifecycle,
    /// Exporters of telemetry, which outlive everything that they report on.
    otlp: Option<Otlp>,
    /// Lock on the data folder.
    _data: Option<DataFolder>,
}

impl Gateway {
    /// Starts everything and returns once SDKs can connect. `/ready` reports whether there is data for them and required
    /// plugins are active.
    ///
    /// # Errors
    /// When an address, a file, a folder or the plugin engine cannot be used.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let serving = Lifecycle::new();
        let operating = serving.sibling();
        let capacity = Capacity::establish(config.limits.max_connections, config.max_streams);
        let Opened { listener, own_listeners, admin, metrics, tls, data, warnings } = startup::open(&config)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let data_dir = data.as_ref().map(DataFolder::path);
        let fanout =
            Fanout::start(&serving, config.limits.write_timeout).context("fan-out threads cannot be started")?;
        let upstream_threads = TaskThreads::start("yardarm-sync", processors().min(MAX_UPSTREAM_THREADS))
            .context("threads for upstream streams cannot be started")?;
        let registry = Registry::default();
        let request_metrics = RequestMetrics::new(&registry);
        let otlp = Otlp::start(&config.telemetry, serving.sibling(), &registry).await?;
        let hooks = Hooks::none();
        let streams = StreamRegistry::new(capacity.streams);
        streams.watch(&hooks, config.plugins.recheck_window, &serving);
        // The store outlives what writes to it. To open it takes a few flushes of the disk.
        let store = async {
            match data_dir {
                Some(folder) => Some(DataStore::open(folder, &operating).await),
                None => None,
            }
        }
        .shared();
        let spools_events = config.launchdarkly.as_ref().is_some_and(|it| it.spools_events());
        let events = async {
            match data_dir.filter(|_| spools_events) {
                Some(folder) => Some(DataStore::open_for_events(folder, &operating).await),
                None => None,
            }
        };
        // Required plugins fail closed from here on; loading goes on while SDKs connect.
        let folder = config.plugins.folder(data_dir);
        let plugins = PluginFolder::open(folder, store.clone(), hooks.clone(), serving.readiness(), &operating);
        let tls_of_upstream = blocking("root certificates", UpstreamTls::load);
        let (store, events, plugins, upstream_tls) = tokio::join!(store, events, plugins, tls_of_upstream);
        let plugins = plugins?;
        let upstream_tls = upstream_tls?.map_err(StartError::from)?;
        let parts = Parts {
            hooks: hooks.clone(),
            streams: streams.clone(),
            metrics: registry.clone(),
            lifecycle: serving.clone(),
            upstream_tls,
            upstream_threads,
            fleet: config.fleet.as_ref().map(|it| Fleet::start(it, &serving)),
            store,
            events,
            data_dir: data_dir.map(Path::to_owned),
        };
        let fleet = parts.fleet.clone();
        let vendors = Box::pin(Vendors::start(&config, &parts)).await?;
        let explanations = Explanations::default();
        let observer = otlp.as_ref().map(Otlp::requests);
        let layered = |routes| {
            let (metrics, explanations) = (request_metrics.clone(), explanations.clone());
            Arc::new(Layered::new(routes, &config, metrics, explanations, observer.clone()))
        };
        let own_sides: Vec<_> = own_listeners
            .into_iter()
            .filter_map(|(vendor, listener)| Some((vendor, listener, layered(vendors.routes_of(vendor)?))))
            .collect();
        let shared = layered(vendors.shared_routes(&own_sides.iter().map(|it| it.0).collect::<Vec<_>>()));
        let places = ConnectionLimit::new(capacity.connections);
        let own_addresses = own_sides.iter().map(|(_, listener, _)| listener.address());
        let others = [Some(admin.address()), metrics.as_ref().map(Listener::address)].into_iter().flatten();
        let listeners = [listener.address()].into_iter().chain(own_addresses).chain(others).collect();
        let state = Arc::new(State {
            hooks,
            streams,
            fanout: fanout.clone(),
            plugins,
            vendors,
            fleet,
            metrics: registry,
            lifecycle: serving.clone(),
            capacity,
            connections: places.clone(),
            tls,
            started_ms: yardarm_core::time::unix_ms(),
            ready: config.ready,
            explanations: explanations.clone(),
            operator_token: ArcSwapOption::from_pointee(config.admin_token.clone()),
            reloads: OnceLock::new(),
            listeners,
        });
        telemetry::register(&state);
        if let Some(otlp) = &otlp {
            otlp.watch(&state);
        }
        let gateway = Self {
            address: listener.address(),
            own_addresses: own_sides.iter().map(|(vendor, listener, _)| (*vendor, listener.address())).collect(),
            admin_address: admin.address(),
            metrics_address: metrics.as_ref().map(Listener::address),
            shutdown: config.shutdown,
            state: Arc::clone(&state),
            connections: serving.sibling(),
            serving,
            operating,
            otlp,
            _data: data,
        };
        // Operators have connections of their own, however many connections SDKs open.
        let operators = || ServeOptions {
            fanout: fanout.clone(),
            connections: ConnectionLimit::new(capacity.operators),
            limits: config.limits,
            proxies: Arc::default(),
        };
        let sdks = ServeOptions { connections: places, proxies: Arc::new(config.proxies.clone()), ..operators() };
        let compatible = gateway.state.vendors.compat_metrics();
        if let (Some(listener), Some(router)) = (metrics, compatible) {
            listener.serve(Arc::new(layers::catch_panics(router)), operators(), &gateway.operating);
        }
        for (vendor, listener, routes) in own_sides {
            tracing::info!(vendor, sdks = %listener.address(), "vendor has a listener of its own");
            listener.serve(routes, sdks.clone(), &gateway.connections);
        }
        listener.serve(shared, sdks, &gateway.connections);
        if let Some(tls) = &gateway.state.tls {
            tls.watch(&gateway.operating);
        }
        let routes = admin::protect(admin::routes(state), &config.admin_hosts);
        admin.serve(Arc::new(layers::catch_panics(routes)), operators(), &gateway.operating);
        tracing::info!(sdks = %gateway.address, admin = %gateway.admin_address, "gateway is listening");
        Ok(gateway)
    }

    /// Returns the address for SDKs.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address for SDKs of a vendor, named in lower case.
    #[must_use]
    pub fn address_of(&self, vendor: &str) -> SocketAddr {
        self.own_addresses.get(vendor).copied().unwrap_or(self.address)
    }

    /// Returns the address of the admin listener.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Returns the address of the metrics under the names of LaunchDarkly's relay, if they are enabled.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Returns the Harness side, if it is configured.
    #[must_use]
    pub fn harness(&self) -> Option<&Harness> {
        self.state.vendors.side()
    }

    /// Reads certificate and key again for new connections; returns whether they have changed. Without TLS nothing
    /// happens. Reads files, so it must not run on a serving thread.
    ///
    /// # Errors
    /// When the files cannot be used; the previous certificate stays in effect.
    pub fn reload_certificate(&self) -> Result<bool, TlsError> {
        self.state.tls.as_ref().map_or(Ok(false), Tls::reload)
    }

    /// Replaces the token with which operators control plugins.
    pub fn update_operator_token(&self, config: &Config) {
        self.state.operator_token.store(config.admin_token.clone().map(Arc::new));
    }

    /// Returns the orders of operators to reload, which are refused unless this was called.
    #[must_use]
    pub fn reload_orders(&self) -> mpsc::Receiver<ReloadOrder> {
        let (sender, orders) = mpsc::channel(1);
        // A second caller receives nothing.
        let _ = self.state.reloads.set(sender);
        orders
    }

    /// Scans the plugin folder now instead of at the next interval.
    pub fn rescan_plugins(&self) {
        self.state.plugins.rescan();
    }

    /// Waits until every plugin that was in the folder at the start is active or rejected.
    pub async fn plugins_loaded(&self) {
        self.state.plugins.loaded().await;
    }

    /// Returns the state of the plugin folder and of each plugin.
    #[must_use]
    pub fn plugin_status(&self) -> FolderStatus {
        self.state.plugins.status()
    }

    /// Serves the LaunchDarkly environments that `config` lists, unless they come from another source.
    pub fn update_environments(&self, config: &Config) {
        if let (Some(side), Some(config)) = (self.state.vendors.side::<LaunchDarkly>(), &config.launchdarkly) {
            side.update_environments(config);
        }
    }

    /// Waits until every LaunchDarkly environment has data or has failed; forever without LaunchDarkly.
    ///
    /// # Errors
    /// When environments have failed, unless failures are ignored.
    pub async fn initialized(&self) -> Result<(), InitializationError> {
        match self.state.vendors.side::<LaunchDarkly>() {
            Some(side) => side.initialized().await,
            None => std::future::pending().await,
        }
    }

    /// Returns the environments whose databases cannot be written.
    #[must_use]
    pub fn unavailable_stores(&self) -> Vec<String> {
        let is_down = |it: &EnvironmentReport| it.store.as_ref().is_some_and(|store| store.state != "available");
        self.state.vendors.reports().into_iter().filter(is_down).map(|it| it.name).collect()
    }

    /// Waits for a panic of a task or thread that cannot be restarted, after which the gateway has to stop.
    pub async fn failure(&self) -> InternalError {
        self.serving.supervisor().failure().await
    }

    /// Returns the supervisor of the tasks that serve SDKs.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        self.serving.supervisor()
    }

    /// Stops everything in order; returns whether all of it ended in time.
    ///
    /// Readiness is switched off first, then streams end, spread over the drain time, then connections. Then events are
    /// flushed and the last data is written. The admin listener ends last.
    pub async fn stop(self) -> bool {
        let unready = self.serving.readiness().latch("shutting down");
        tracing::info!("draining");
        tokio::time::sleep(self.shutdown.grace).await;
        self.state.streams.drain(self.shutdown.drain).await;
        let deadline = tokio::time::Instant::now() + self.shutdown.timeout;
        // A client that never finishes its request must not use up the time for sending events.
        let is_served = self.connections.stop(self.shutdown.timeout / 2).await;
        // Ends streams that were opened while others ended.
        self.state.streams.drain(Duration::ZERO).await;
        // Events are flushed before the tasks that send them are stopped.
        let is_flushed = tokio::time::timeout_at(deadline, self.state.vendors.flush_events()).await.is_ok();
        if !is_flushed {
            tracing::warn!("events could not all be sent within `shutdown.timeout`");
        }
        let is_stopped = self.serving.stop(deadline.saturating_duration_since(tokio::time::Instant::now())).await;
        drop(unready);
        self.operating.stop(LAST_COMMIT).await;
        let is_clean = is_served && is_flushed && is_stopped;
        tracing::info!(clean = is_clean, "gateway has stopped");
        if let Some(otlp) = self.otlp
            && !otlp.stop(LAST_EXPORT).await
        {
            tracing::warn!("telemetry could not all be exported by OTLP");
        }
        is_clean
    }
}
