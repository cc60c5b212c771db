//! Starts, changes and stops environments to match a list.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;
use yardarm_core::budget::ByTrust;
use yardarm_core::change_log::UpdateSource;
use yardarm_core::jittered_source::JitteredSource;
use yardarm_core::registry::EndReason;
use yardarm_core::status::Status;
use yardarm_core::{DataStore, Environment, EnvironmentLabel, Lifecycle, environment};
use yardarm_fleet::{Publisher, Source};
use yardarm_vendor::environment::{EnvironmentBase, send_heartbeats};
use yardarm_vendor::events::spool::Spool;
use yardarm_vendor::side::Parts;

use super::apply::{Applier, Writers};
use super::fleet::{FleetTask, UpstreamTask, source_name};
use super::offline_updates::{OfflineUpdate, OfflineUpdateTask};
use super::stream::StreamTask;
use super::stream::fdv2::Fdv2Task;
use super::variant::Variant;
use super::watch::{wait_for_data, watch_outages, watch_start};
use crate::config::{ClientStreamMode, Config, EnvironmentConfig, LiveConfig, UpstreamProtocol};
use crate::data::persistence::{self, LastGoodData, Restored};
use crate::data::{FlagData, Items};
use crate::environments::{Environments, EventMode, LdEnvironment};
use crate::evaluated_streams::EvaluatedStreams;
use crate::events::{EventPort, Limits};
use crate::identity::{SdkKind, label};
use crate::store::{self, EnvironmentStore, StoreLink};
use crate::upstream::HttpClients;

/// Time limit for sending the events of a removed environment.
const FLUSH_OF_REMOVED: Duration = Duration::from_secs(15);

/// Number of jittered sources per environment.
const PING_SOURCES: usize = 32;

/// Starts, changes and stops environments. One task owns it, so the list has one writer.
pub(crate) struct EnvironmentAssembly {
    config: Arc<Config>,
    http: HttpClients,
    limits: Limits,
    parts: Parts,
    /// Events on disk; `None` keeps them in memory only.
    spool: Option<Spool>,
    environments: Environments,
    running: BTreeMap<EnvironmentLabel, Running>,
    /// Environments that are no longer served and not stopped yet; empty between two calls.
    gone: Vec<Running>,
    /// Credentials that are no longer accepted and whose streams have not been ended yet; empty between two calls.
    revoked: Vec<(EnvironmentLabel, String)>,
    /// Whether data comes from [`Self::send_data`] and nothing is sent to LaunchDarkly.
    is_offline: bool,
    /// Whether all environments of the start are known.
    is_settled: bool,
}

struct Running {
    environment: Arc<LdEnvironment>,
    /// Lifecycle of the tasks that fetch and serve data.
    data: Lifecycle,
    /// Lifecycle of the tasks that forward events, which end a little later.
    events: Lifecycle,
    /// Sender of data in offline mode.
    updates: Option<mpsc::Sender<OfflineUpdate>>,
}

impl EnvironmentAssembly {
    pub(crate) fn new(
        config: Arc<Config>,
        (http, limits): (HttpClients, Limits),
        (parts, spool): (Parts, Option<Spool>),
        environments: Environments,
        is_offline: bool,
    ) -> Self {
        Self {
            config,
            http,
            limits,
            parts,
            spool,
            environments,
            running: BTreeMap::new(),
            gone: Vec::new(),
            revoked: Vec::new(),
            is_offline,
            is_settled: false,
        }
    }

    /// Starts, changes and stops environments so that `wanted` is served.
    ///
    /// New credentials are accepted before old ones are refused; connections of SDKs whose credential stays are kept.
    /// After a panic, the next call completes the work.
    pub(crate) async fn reconcile(&mut self, wanted: Vec<Variant>) {
        let mut wanted: BTreeMap<_, _> =
            wanted.into_iter().map(|it| (label(&it.config.name, &it.filter), it)).collect();
        let gone: Vec<_> = self.running.keys().filter(|it| !wanted.contains_key(*it)).cloned().collect();
        self.gone.extend(gone.iter().filter_map(|label| self.running.remove(label)));
        for (label, running) in &self.running {
            let Some(variant) = wanted.remove(label) else { continue };
            let before = running.environment.config();
            if *before != variant.config {
                tracing::info!(environment = %label, "properties have changed");
                self.revoked.extend(revocations(label, &before, &variant.config));
                running.environment.settings().set(variant.config);
            }
        }
        for (label, variant) in wanted {
            tracing::info!(environment = %label, name = variant.config.display_name(&variant.filter), "environment added");
            let running = self.start(variant).await;
            self.running.insert(label, running);
        }
        self.environments.replace(self.running.values().map(|it| Arc::clone(&it.environment)).collect());
        while let Some((label, credential)) = self.revoked.last() {
            self.parts.streams.end_where(EndReason::CredentialWithdrawn, |facts| {
                facts.environment == *label && facts.credential.as_ref().is_some_and(|it| it.expose() == credential)
            });
            self.revoked.pop();
        }
        while let Some(running) = self.gone.pop() {
            tracing::info!(environment = %running.environment.label, "environment removed");
            let label = &running.environment.label;
            self.parts.streams.end_where(EndReason::CredentialWithdrawn, |facts| facts.environment == *label);
            self.stop(running);
        }
    }

    /// Records that all environments at the start are known: readiness does not wait for later ones.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// Sends data to an environment in offline mode, and waits until it is served.
    pub(crate) async fn send_data(&self, name: &str, items: Items) {
        if let Some(updates) = self.running.get(&label(name, "")).and_then(|it| it.updates.as_ref()) {
            let (applied, is_applied) = oneshot::channel();
            // The receiver ends only with the process.
            if updates.send(OfflineUpdate { items, applied }).await.is_ok() {
                let _ = is_applied.await;
            }
        }
    }

    async fn start(&self, variant: Variant) -> Running {
        let label = label(&variant.config.name, &variant.filter);
        let span = label.span();
        self.start_labelled(label, variant).instrument(span).await
    }

    async fn start_labelled(&self, name: EnvironmentLabel, variant: Variant) -> Running {
        let (writer, data) = environment();
        let (fdv2_writer, fdv2) = self.config.fdv2.then(environment).unzip();
        let writers = Writers { data: writer, fdv2: fdv2_writer };
        let Variant { config, filter } = variant;
        let settings = LiveConfig::new(config);
        let status = Status::new();
        let lifecycle = self.parts.lifecycle.for_environment(name.clone(), status.clone());
        let lifecycles = (lifecycle.child(), lifecycle.child());
        // Cancels all tasks of the environment if this panics.
        let unfinished = (lifecycles.0.token().clone().drop_guard(), lifecycles.1.token().clone().drop_guard());
        let spool = self.spool.as_ref().map(|spool| ByTrust::from_fn(|trust| spool.lane(&name, trust)));
        let events = if self.is_offline {
            EventMode::Discarded
        } else if self.config.send_events {
            let hooks = self.parts.hooks.clone();
            EventMode::Forwarded(EventPort::start(
                &self.config,
                settings.clone(),
                name.clone(),
                (&self.http, &self.limits),
                hooks,
                (data.clone(), spool),
                &lifecycles.1,
            ))
        } else {
            EventMode::Off
        };
        let store = EnvironmentStore::open(&self.config.store, &settings.get(), &filter);
        let evaluated_streams = (self.config.client_streams == ClientStreamMode::Evaluated).then(|| {
            let parts = (self.parts.hooks.clone(), self.parts.streams.clone());
            let (evaluators, lifecycle) = (&self.limits.evaluators, lifecycles.0.clone());
            EvaluatedStreams::new(name.clone(), data.clone(), store.clone(), parts, evaluators, lifecycle)
        });
        let source = self.parts.fleet.as_ref().filter(|_| !self.is_offline);
        let source = source.map(|it| Source::join(it, &source_name(&settings.get(), &filter), status.clone()));
        let environment = Arc::new(LdEnvironment {
            ping_sources: self.ping_sources(&data, &lifecycles.0),
            base: EnvironmentBase::new(name, data, status),
            store,
            evaluated_streams,
            settings,
            filter,
            fdv2,
            events,
            role: source.as_ref().map(Source::role),
            has_started: AtomicBool::new(false),
        });
        let (readiness, label) = (lifecycles.0.readiness(), environment.label.to_string());
        let latch = if self.is_settled {
            readiness.latch_late_data(label, &environment.status)
        } else {
            readiness.latch_data(label, &environment.status)
        };
        let (waiting, latch) = (Arc::clone(&environment), Arc::new(latch));
        lifecycles.0.supervise("first data", move || wait_for_data(Arc::clone(&waiting), Arc::clone(&latch)));
        let updates = if self.is_offline {
            Some(self.start_offline(&environment, writers, &lifecycles.0))
        } else {
            self.start_online(&environment, (writers, source), &lifecycles.0).await;
            None
        };
        let interval = self.config.heartbeat_interval;
        send_heartbeats(&environment.data, interval, &lifecycles.0);
        environment.fdv2.iter().for_each(|it| send_heartbeats(it, interval, &lifecycles.0));
        let _ = (unfinished.0.disarm(), unfinished.1.disarm());
        Running { environment, data: lifecycles.0, events: lifecycles.1, updates }
    }

    /// Jittered sources of one environment, shared by its streams. One per stream would need a timer per stream.
    fn ping_sources(&self, data: &Environment<FlagData>, lifecycle: &Lifecycle) -> Vec<Arc<dyn UpdateSource>> {
        let Some(jitter) = self.config.ping_stream_jitter_time else { return Vec::new() };
        let start =
            || JitteredSource::start(data.update_source(), jitter / 2..=jitter, lifecycle) as Arc<dyn UpdateSource>;
        std::iter::repeat_with(start).take(PING_SOURCES).collect()
    }

    async fn start_online(
        &self,
        environment: &Arc<LdEnvironment>,
        (writers, source): (Writers, Option<Source>),
        lifecycle: &Lifecycle,
    ) {
        let restored = match &self.parts.store {
            None => None,
            Some(store) => read_persisted(store, environment).await,
        };
        let (label, settings) = (&environment.label, environment.settings());
        let last_good =
            self.parts.store.as_ref().map(|store| LastGoodData::start(store, label, settings, restored.as_ref()));
        let link = self.start_store(environment, lifecycle, restored.is_none());
        let applier = Applier::new(Arc::clone(environment), writers, self.parts.hooks.clone(), last_good);
        let publisher = source.as_ref().map(|it| Publisher::start(it, lifecycle));
        let mut applier = applier.with_store(link).with_publisher(publisher.clone());
        if let Some(restored) = restored {
            applier.restore(restored.items).await;
            applier.resume_from(restored.selector);
            tracing::info!("serving data kept on disk until upstream answers");
        }
        let task = StreamTask::new(Arc::clone(environment), applier, self.http.clone(), &self.config);
        let threads = lifecycle.on(self.parts.upstream_threads.next());
        // Payload filters exist in FDv1 only.
        let upstream = if self.config.upstream_protocol == UpstreamProtocol::Fdv2 && environment.filter.is_empty() {
            UpstreamTask::Fdv2(Box::new(Fdv2Task::new(task, &self.config)))
        } else {
            UpstreamTask::Fdv1(Box::new(task))
        };
        match source.zip(publisher) {
            Some((source, publisher)) => {
                let environment = Arc::clone(environment);
                threads.supervise("upstream stream", FleetTask { environment, source, publisher, upstream });
            }
            None => threads.supervise("upstream stream", upstream),
        }
        let timeout = self.config.init_timeout;
        let watched = Arc::clone(environment);
        lifecycle.supervise("first connection", move || watch_start(Arc::clone(&watched), timeout));
        let limit = self.config.disconnected_status_time;
        let watched = Arc::clone(environment);
        lifecycle.supervise("outage watch", move || watch_outages(Arc::clone(&watched), limit));
    }

    fn start_store(
        &self,
        environment: &Arc<LdEnvironment>,
        lifecycle: &Lifecycle,
        may_restore: bool,
    ) -> Option<StoreLink> {
        let store = environment.store.clone()?;
        let settings = environment.settings().clone();
        let context = store::StoreContext {
            upstream: &environment.status,
            key: Arc::new(move || settings.get().credentials.sdk_key().clone()),
            config: &self.config,
            http: &self.http,
            lifecycle,
        };
        Some(store::start(store, context, may_restore))
    }

    fn start_offline(
        &self,
        environment: &Arc<LdEnvironment>,
        writers: Writers,
        lifecycle: &Lifecycle,
    ) -> mpsc::Sender<OfflineUpdate> {
        let (sender, updates) = mpsc::channel(1);
        let link = self.start_store(environment, lifecycle, false);
        let applier = Applier::new(Arc::clone(environment), writers, self.parts.hooks.clone(), None).with_store(link);
        lifecycle.supervise("offline data", OfflineUpdateTask::new(applier, updates));
        sender
    }

    /// Stops an environment that is no longer in the index; waiting events are sent within a time limit.
    fn stop(&self, running: Running) {
        running.data.token().cancel();
        self.parts.lifecycle.spawn_graceful("events of a removed environment", async move {
            let _end = running.events.token().clone().drop_guard();
            if let Some(port) = running.environment.events.port() {
                let _ = tokio::time::timeout(FLUSH_OF_REMOVED, port.flush()).await;
            }
        });
    }
}

/// Credentials that are no longer accepted.
fn revocations(
    label: &EnvironmentLabel,
    before: &EnvironmentConfig,
    after: &EnvironmentConfig,
) -> Vec<(EnvironmentLabel, String)> {
    let gone = before.credentials.accepted().filter(|(kind, it)| !after.credentials.accepts(*kind, it));
    gone.map(|(kind, credential)| {
        if kind != SdkKind::Browser {
            tracing::info!(environment = %label, sdk = kind.as_str(), "a key is no longer accepted");
        }
        (label.clone(), credential.to_owned())
    })
    .collect()
}

async fn read_persisted(store: &DataStore, environment: &LdEnvironment) -> Option<Restored> {
    persistence::read(store, &environment.label, &environment.config()).await
}
