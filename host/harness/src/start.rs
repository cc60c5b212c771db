//! Starts the Harness side: reads persisted data, starts the tasks of its sources, and builds the router.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use yardarm_core::budget::Budget;
use yardarm_core::hooks::HookFuture;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::supervisor::blocking;
use yardarm_core::ticket::TicketQueue;
use yardarm_core::{Evaluators, Lifecycle, Secret, Workers, atomic_file};
use yardarm_vendor::report::EnvironmentReport;
use yardarm_vendor::side::{Parts, StartError, VendorSide};

use crate::config::{self, Config, Source};
use crate::data::persisted;
use crate::data::targets::TargetBudget;
use crate::downstream::{self, CompatMetrics};
use crate::environments::{self, EnvironmentFactory, Environments, Incomplete, MetricsPoster, Pending};
use crate::identity::tokens::{SigningKey, Tokens};
use crate::identity::{KeyHash, VENDOR, secret_file};
use crate::primary::{PrimaryWriter, ReplicaMetrics};
use crate::shared_store::SharedStore;
use crate::sources::{self, ExportError, KeyBootstrap, OfflineTask, ProxyKeyTask, ReplicaTask};
use crate::upstream::{Admin, HttpClients, Registrar};

/// Threads that read large bodies, for all environments together.
const READERS: usize = 2;
/// Memory for concurrent large bodies that present a key, in bytes.
const AUTH_BYTES: usize = 16 << 20;

/// The running Harness side.
pub struct Harness {
    routes: Router,
    environments: Environments,
    poster: MetricsPoster,
    registrar: Registrar,
    polls_targets: bool,
}

/// Starts the tasks of all configured keys and returns without waiting for upstream.
///
/// # Errors
/// When the HTTP client, the secret for tokens, a folder or the threads cannot be set up.
pub async fn start(config: Config, parts: Parts) -> Result<Harness, StartError> {
    let http = HttpClients::new(&config, &config.outbound.tls(&parts.upstream_tls)?)?;
    if let Some(proxy) = config.outbound.shown_proxy() {
        tracing::info!("Using proxy server at {proxy}");
    }
    if let Some(folder) = &parts.data_dir {
        match atomic_file::prepare_folder(folder) {
            // Only offline mode writes a file there.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem && !config.is_offline() => Ok(()),
            prepared => prepared,
        }
        .map_err(|source| StartError::Data {
            text: format!("`{}` (`data.dir`) cannot be used", folder.display()),
            source,
        })?;
    }
    let tokens = tokens(&config, parts.data_dir.as_deref())?;
    let mut persisted = match parts.store.clone().filter(|_| !config.is_offline()) {
        Some(store) => blocking("last good data", move || persisted::read(&store)).await.unwrap_or_default(),
        None => HashMap::new(),
    };
    let config = Arc::new(config);
    let shared = config.redis.as_ref().map(|it| SharedStore::start(it, &parts.lifecycle));
    let poster = match &shared {
        Some(store) if config.is_replica() => MetricsPoster::Primary(store.clone()),
        _ => MetricsPoster::Service(http.clone(), config.metric_service.clone()),
    };
    let environments = Environments::expecting(pending(&config.source));
    let readers = Workers::start("yardarm-read", READERS)?;
    let factory = EnvironmentFactory {
        config: Arc::clone(&config),
        http: http.clone(),
        parts: parts.clone(),
        environments: environments.clone(),
        target_budget: TargetBudget::new(usize::try_from(config.learnt_targets_size).unwrap_or(usize::MAX)),
        readers: readers.clone(),
        signing: None,
        token_refused: Arc::default(),
        poster: poster.clone(),
    };
    if let Some(store) = shared.as_ref().filter(|_| !config.is_replica()) {
        share(store, &config, &environments, &parts.lifecycle);
    }
    let signing = |key: &Secret| config.auth_secret.is_none().then(|| SigningKey::derived(key));
    match &config.source {
        Source::Keys(admin, keys) => {
            let tickets = TicketQueue::default();
            for (index, settings) in keys.iter().enumerate() {
                let persisted = persisted.remove(&KeyHash::of(settings.api_key.expose())).and_then(|mut it| it.pop());
                let task = KeyBootstrap {
                    index,
                    settings: settings.clone(),
                    was_accepted: persisted.is_some(),
                    persisted,
                    admin: Admin { http: http.clone(), settings: admin.clone() },
                    factory: EnvironmentFactory {
                        signing: signing(&settings.api_key),
                        token_refused: Arc::default(),
                        ..factory.clone()
                    },
                    ticket: Some(tickets.next()),
                    latch: Some(latch(&parts, &environments, index)),
                    served: None,
                };
                parts.lifecycle.supervise("harness key", task);
            }
        }
        Source::ProxyKey(key) => {
            let latch = latch(&parts, &environments, 0);
            let persisted = persisted.remove(&KeyHash::of(key.expose())).unwrap_or_default();
            let factory = EnvironmentFactory { signing: signing(key), ..factory };
            let lifecycle = parts.lifecycle.on(parts.upstream_threads.next());
            lifecycle.supervise("proxy key", ProxyKeyTask::new(key.clone(), factory, persisted, shared.clone(), latch));
        }
        Source::Replica => {
            let latch = latch(&parts, &environments, 0);
            let store = shared.clone().ok_or_else(|| StartError::config("`harness.redis.url` is required"))?;
            let lifecycle = parts.lifecycle.on(parts.upstream_threads.next());
            lifecycle.supervise("read replica", ReplicaTask::new(store, factory, latch));
        }
        Source::Offline(settings) => {
            let mut task = OfflineTask::new(settings.clone(), factory);
            task.start().await.map_err(StartError::config)?;
            parts.lifecycle.supervise("offline folder", task);
        }
    }
    let (service, registers) = (config.client_service.clone(), config.forwards_targets());
    let registrar = Registrar::start(http, service, registers, &parts.lifecycle);
    let reported = registrar.clone();
    parts.metrics.register(move |families| downstream::registrations(families, &reported.report()));
    let polls_targets = config.target_poll_interval.is_some() && matches!(config.source, Source::Keys(..));
    let routes = downstream::routes(downstream::Downstream {
        environments: environments.clone(),
        config,
        tokens,
        registrar: registrar.clone(),
        shared,
        hooks: parts.hooks,
        streams: parts.streams,
        compat_metrics: CompatMetrics::new(),
        evaluators: Evaluators::start()?,
        readers,
        auth_bodies: Budget::new(AUTH_BYTES).account(),
        started_ms: yardarm_core::time::unix_ms(),
    });
    Ok(Harness { routes, environments, poster, registrar, polls_targets })
}

impl VendorSide for Harness {
    fn name(&self) -> &'static str {
        VENDOR
    }

    fn answer(&self, request: Request) -> HookFuture<'_, Response> {
        Box::pin(downstream::answer(&self.routes, request))
    }

    fn owns(&self, path: &str) -> bool {
        downstream::owns(path)
    }

    fn reports(&self) -> Vec<EnvironmentReport> {
        let mut reports: Vec<_> = self.environments.all().iter().map(|it| environments::report(it)).collect();
        reports.extend(self.environments.pending().reports());
        reports
    }

    /// Posts all metrics and registers all waiting targets.
    fn flush_events(&self) -> HookFuture<'_, ()> {
        Box::pin(async {
            let all = self.environments.all();
            let metrics = futures_util::future::join_all(all.iter().map(async |it| {
                it.metrics.settle().await;
                self.poster.flush(it).await;
            }));
            tokio::join!(metrics, self.registrar.flush());
        })
    }
}

impl Harness {
    /// Checks that there is data for every configured key.
    ///
    /// # Errors
    /// Lists the keys and environments without data, and why.
    pub fn completeness(&self) -> Result<(), Incomplete> {
        environments::completeness(&self.environments, self.polls_targets)
    }

    /// Writes all environments to a folder that offline mode reads. Blocks.
    ///
    /// # Errors
    /// When an environment has no data yet, or a file cannot be written.
    pub fn export(&self, folder: &Path) -> Result<(), ExportError> {
        sources::export(&self.environments, folder)
    }
}

/// Starts the tasks of a primary: one writes to the database, the other reads metrics of replicas from it.
fn share(store: &SharedStore, config: &Config, environments: &Environments, lifecycle: &Lifecycle) {
    let proxy_key = if let Source::ProxyKey(key) = &config.source { Some(key) } else { None };
    let interval = config.redis.as_ref().map_or(Duration::MAX, |it| it.check_interval);
    let writer = PrimaryWriter::new(store.clone(), environments.clone(), proxy_key, interval);
    lifecycle.supervise("shared Redis", writer);
    if config.metric_post_interval.is_some() {
        let metrics = ReplicaMetrics { store: store.clone(), environments: environments.clone() };
        lifecycle.supervise("replica metrics", metrics);
    }
}

/// Returns the tokens, with the secrets that sign them.
fn tokens(config: &Config, data_dir: Option<&Path>) -> Result<Tokens, StartError> {
    let file = data_dir.map(|it| it.join("token-secret"));
    let (common, earlier) = match (&config.auth_secret, file) {
        (Some(secret), _) => (Some(secret.clone()), None),
        // Offline there is no key to derive secrets from.
        (None, Some(path)) if config.is_offline() => {
            let secret = secret_file::read_or_generate(&path).map_err(|source| StartError::Data {
                text: format!("`harness.auth_secret` is not set, and `{}` cannot be used to keep one", path.display()),
                source,
            })?;
            tracing::warn!(
                "`harness.auth_secret` is not set, so one was generated; other gateways do not accept the tokens of this one"
            );
            (Some(secret), None)
        }
        (None, None) if config.is_offline() => {
            let problem = "`harness.auth_secret` is required, because there is no `data.dir` to keep one in";
            return Err(StartError::config(problem));
        }
        // Earlier versions generated a secret, and SDKs go on with its tokens.
        (None, file) => (None, file.and_then(|path| secret_file::read(&path))),
    };
    match common.as_ref().map(|it| it.expose()) {
        Some("secret") => tracing::warn!(
            "`harness.auth_secret` is `secret`, THE DEFAULT OF FF-PROXY, which is public: any client that reaches this gateway \
             can make tokens that read every environment; set another one"
        ),
        Some(secret) if secret.len() < config::STRONG_SECRET => {
            tracing::warn!(
                bytes = secret.len(),
                "`harness.auth_secret` is short and may be guessed; it should have 32 bytes or more"
            );
        }
        _ => (),
    }
    let signing = |secret: Option<Secret>| secret.map(|it| SigningKey::new(&it));
    Ok(Tokens::new(signing(common), signing(earlier), config.ff_proxy_tokens))
}

/// Returns a latch that holds readiness back until there is data for a configured key.
fn latch(parts: &Parts, environments: &Environments, index: usize) -> ReadyLatch {
    let (name, status) = environments.pending().status(index).unwrap_or_default();
    parts.lifecycle.readiness().latch_data(name, &status)
}

/// Checks that [`start`] could use the files that it needs besides the data folder. Blocks.
///
/// # Errors
/// When the folder of offline mode cannot be read.
pub fn check(config: &Config) -> Result<(), StartError> {
    match &config.source {
        Source::Offline(settings) => sources::check(&settings.dir).map_err(StartError::config),
        Source::Keys(..) | Source::ProxyKey(_) | Source::Replica => Ok(()),
    }
}

/// Returns the configured keys, with names for operators.
fn pending(source: &Source) -> Pending {
    match source {
        Source::Keys(_, keys) => Pending::new(keys.iter().enumerate().map(|(index, it)| {
            let name = || format!("environments[{index}]");
            (it.name.clone().unwrap_or_else(name), KeyHash::of(it.api_key.expose()))
        })),
        Source::ProxyKey(key) => Pending::new([("proxy key".to_owned(), KeyHash::of(key.expose()))]),
        Source::Replica => Pending::new([("read replica".to_owned(), KeyHash::of(""))]),
        Source::Offline(_) => Pending::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use yardarm_core::settings::{Reader, Values};

    use super::*;

    fn offline() -> Config {
        let mut values = Values::default();
        values.add_file(&json!({"harness": {"offline": {"dir": "/no/folder"}}}), config::KEYS).unwrap();
        Config::read(&mut Reader::new(&values, config::KEYS, &|_| None)).expect("a source")
    }

    #[tokio::test]
    async fn errors_of_a_start_name_the_setting() {
        let problem = |data_dir: Option<&Path>| tokens(&offline(), data_dir).expect_err("no secret");
        let error = problem(None);
        assert!(matches!(error, StartError::Config(_)));
        let expected = "`harness.auth_secret` is required, because there is no `data.dir` to keep one in";
        assert_eq!(error.to_string(), expected);
        let error = problem(Some(Path::new("/no/data")));
        assert!(matches!(error, StartError::Data { .. }));
        let expected = "`harness.auth_secret` is not set, and `/no/data/token-secret` cannot be used to keep one: ";
        assert!(error.to_string().starts_with(expected), "{error}");
        let error = check(&offline()).expect_err("no folder");
        assert!(matches!(error, StartError::Config(_)));
        assert!(error.to_string().starts_with("`/no/folder` (`harness.offline.dir`) cannot be read: "), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let parts = Parts {
            hooks: yardarm_core::hooks::Hooks::none(),
            streams: yardarm_core::registry::StreamRegistry::new(1),
            metrics: yardarm_core::metrics::Registry::default(),
            lifecycle: yardarm_core::Lifecycle::new(),
            upstream_tls: yardarm_vendor::upstream::UpstreamTls::load().unwrap(),
            upstream_threads: yardarm_core::TaskThreads::start("test", 1).unwrap(),
            fleet: None,
            store: None,
            events: None,
            data_dir: Some(file.join("data")),
        };
        let error = start(offline(), parts).await.err().expect("a file in place of the folder");
        assert!(matches!(error, StartError::Data { .. }));
        let expected = format!("`{}` (`data.dir`) cannot be used: ", file.join("data").display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
