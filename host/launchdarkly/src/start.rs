//! Starts the LaunchDarkly side, and the operations of the gateway on it.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::watch;
use yardarm_core::delivery::{DeliveryLimit, DeliveryReport};
use yardarm_core::hooks::HookFuture;
use yardarm_core::status::Status;
use yardarm_core::supervisor::blocking;
use yardarm_vendor::events::spool::Spool;
use yardarm_vendor::report::{EnvironmentListReport, EnvironmentReport};
use yardarm_vendor::side::{Parts, StartError, VendorSide};

use crate::config::{Config, EnvironmentConfig, EnvironmentSource};
use crate::downstream::compat_metrics::CompatMetrics;
use crate::downstream::{self, Downstream};
use crate::environments::{self, Environments, InitializationError, InitializationPolicy};
use crate::events::{EventPort, Limits};
use crate::identity::VENDOR;
use crate::sources::archive::{Archive, ArchiveError, UnreadableArchive};
use crate::sources::assembly::EnvironmentAssembly;
use crate::sources::auto_config::AutoConfigTask;
use crate::sources::configured::ConfiguredTask;
use crate::sources::offline::OfflineTask;
use crate::sources::upstream_relay::RelayWatch;
use crate::sources::variant::Variant;
use crate::upstream::HttpClients;

/// The running LaunchDarkly side.
pub struct LaunchDarkly {
    routes: Router,
    compat_metrics: Option<Router>,
    environments: Environments,
    config: Arc<Config>,
    /// State of the auto-configuration stream, if there is one.
    auto_config: Option<Status>,
    /// The list of environments, if it comes from the configuration.
    list: Option<watch::Sender<Vec<EnvironmentConfig>>>,
    deliveries: Option<DeliveryLimit>,
}

/// Checks whether [`start`] could use the files that it needs besides the data folder. Blocks.
///
/// # Errors
/// When an archive cannot be read.
pub fn check(config: &Config) -> Result<(), StartError> {
    match &config.environments {
        EnvironmentSource::Offline { file, .. } => {
            Archive::read(file).map(drop).map_err(|source| unreadable(file, source))
        }
        EnvironmentSource::Configured(_) | EnvironmentSource::AutoConfig { .. } => Ok(()),
    }
}

/// Starts every known environment and returns without waiting for upstream.
///
/// # Errors
/// When the HTTP client, an archive or a thread cannot be set up.
pub async fn start(config: Config, parts: Parts) -> Result<LaunchDarkly, StartError> {
    let http = HttpClients::new(&config, &config.outbound.tls(&parts.upstream_tls)?)?;
    if let Some(proxy) = config.outbound.shown_proxy() {
        tracing::info!("Using proxy server at {proxy}");
    }
    let config = Arc::new(config);
    let environments = Environments::default();
    let is_offline = matches!(config.environments, EnvironmentSource::Offline { .. });
    let limits = Limits::new(&config)?;
    let clients = (http.clone(), limits.clone());
    let kept = (parts.clone(), open_spool(&config, &parts).await);
    let assembly = EnvironmentAssembly::new(Arc::clone(&config), clients, kept, environments.clone(), is_offline);
    let (auto_config, list) = start_list(&config, &http, &parts, assembly).await?;
    if !is_offline && let Some(watch) = RelayWatch::new(&config, &http, environments.clone()) {
        parts.lifecycle.supervise("upstream relay", watch);
    }
    let compat_metrics = config.prometheus.as_ref().map(|it| CompatMetrics::new(it.prefix.clone()));
    let deliveries = (config.max_deliveries > 0)
        .then(|| DeliveryLimit::new(config.max_deliveries, config.max_waiting_deliveries, config.delivery_timeout));
    if let Some(limit) = deliveries.clone() {
        parts.metrics.register(move |families| downstream::delivery_counts(families, limit.report()));
    }
    let routes = downstream::routes(Downstream {
        environments: environments.clone(),
        config: Arc::clone(&config),
        http,
        hooks: parts.hooks,
        limits,
        streams: parts.streams,
        deliveries: deliveries.clone(),
        compat_metrics: compat_metrics.clone(),
        auto_config: auto_config.clone(),
    });
    Ok(LaunchDarkly {
        routes,
        compat_metrics: compat_metrics.map(downstream::metrics),
        environments,
        config,
        auto_config,
        list,
        deliveries,
    })
}

/// Opens the events on disk; `None` keeps them in memory only.
async fn open_spool(config: &Arc<Config>, parts: &Parts) -> Option<Spool> {
    let store = parts.events.clone().filter(|_| config.spools_events())?;
    let config = Arc::clone(config);
    let open = move || Spool::new(store, VENDOR, config.events_spool_size, config.events_spool_key.as_ref());
    match blocking("event spool", open).await.unwrap_or_else(|error| Err(error.into())) {
        Ok(spool) => Some(spool),
        Err(error) => {
            tracing::error!(%error, "events cannot be kept on disk; they are lost with the process");
            None
        }
    }
}

/// Starts the source of the list of environments. Returns the state of the auto-configuration stream, or the sender for
/// changes of the configured list.
async fn start_list(
    config: &Arc<Config>,
    http: &HttpClients,
    parts: &Parts,
    mut assembly: EnvironmentAssembly,
) -> Result<(Option<Status>, Option<watch::Sender<Vec<EnvironmentConfig>>>), StartError> {
    match config.environments.clone() {
        EnvironmentSource::Configured(all) => {
            let (list, mut wanted) = watch::channel(all);
            let all = wanted.borrow_and_update().clone();
            assembly.reconcile(all.into_iter().flat_map(Variant::all_of).collect()).await;
            assembly.settle();
            parts.lifecycle.supervise("list of environments", ConfiguredTask { assembly, wanted });
            Ok((None, Some(list)))
        }
        EnvironmentSource::AutoConfig { key, common, cache } => {
            let status = Status::new();
            let name = "launchdarkly: the list of environments (auto-configuration)";
            let unlisted = parts.lifecycle.readiness().latch_data(name, &status);
            let mut task = AutoConfigTask::new(key, common, config, http.clone(), assembly, status.clone(), unlisted);
            if let Some(store) = &parts.store {
                task.restore(store).await;
            }
            if let Some(cache) = cache {
                task.use_cache(&cache, &config.store, &parts.lifecycle);
            }
            if let Some(fleet) = &parts.fleet {
                task.join(fleet, &parts.lifecycle);
            }
            parts.lifecycle.supervise("auto-configuration", task);
            Ok((Some(status), None))
        }
        EnvironmentSource::Offline { file, monitoring_interval, common } => {
            let mut task = OfflineTask::new(file.clone(), monitoring_interval, common, config, assembly);
            task.start().await.map_err(|source| unreadable(&file, source))?;
            parts.lifecycle.supervise("offline archive", task);
            Ok((None, None))
        }
    }
}

impl LaunchDarkly {
    /// Waits until the list of environments is known and each of them has data or has failed, and logs the outcome of
    /// each.
    ///
    /// # Errors
    /// When environments have failed, unless the policy ignores failures.
    pub async fn initialized(&self) -> Result<(), InitializationError> {
        let policy = InitializationPolicy {
            fails_fast: self.config.exit_on_error,
            ignores_failures: self.config.ignore_connection_errors,
        };
        environments::initialized(&self.environments, policy).await
    }

    /// Serves the environments in `config`, if the list comes from the configuration: environments are added and removed,
    /// and keys are accepted and withdrawn, as with auto-configuration. Everything else in `config` is ignored.
    pub fn update_environments(&self, config: &Config) {
        if let (Some(list), EnvironmentSource::Configured(all)) = (&self.list, &config.environments) {
            list.send_if_modified(|it| {
                let is_changed = it != all;
                it.clone_from(all);
                is_changed
            });
        }
    }
}

impl VendorSide for LaunchDarkly {
    fn name(&self) -> &'static str {
        VENDOR
    }

    fn answer(&self, request: Request) -> HookFuture<'_, Response> {
        Box::pin(downstream::answer(&self.routes, request))
    }

    /// Every path, because this side answers the paths that no other vendor owns.
    fn owns(&self, _: &str) -> bool {
        true
    }

    fn compat_metrics(&self) -> Option<Router> {
        self.compat_metrics.clone()
    }

    fn reports(&self) -> Vec<EnvironmentReport> {
        let stale_after = self.config.store.big_segments.stale_threshold;
        self.environments.all().iter().map(|it| environments::report(it, stale_after)).collect()
    }

    fn list_report(&self) -> Option<EnvironmentListReport> {
        let status = self.auto_config.as_ref()?;
        let all = self.environments.all();
        let count = all.iter().filter(|it| it.filter.is_empty()).count();
        let is_known = self.environments.are_listed();
        Some(EnvironmentListReport::of(VENDOR, "auto-configuration", status, is_known, count))
    }

    fn delivery_report(&self) -> Option<DeliveryReport> {
        self.deliveries.as_ref().map(DeliveryLimit::report)
    }

    fn flush_events(&self) -> HookFuture<'_, ()> {
        Box::pin(async move {
            let all = self.environments.all();
            futures_util::future::join_all(all.iter().filter_map(|it| it.events.port()).map(EventPort::flush)).await;
        })
    }
}

fn unreadable(path: &Path, source: ArchiveError) -> StartError {
    StartError::config(UnreadableArchive { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file_and_the_cause() {
        let error = unreadable(Path::new("/data/archive.tar.gz"), std::io::Error::other("no room").into());
        let text = "unable to read file data source `/data/archive.tar.gz` (`launchdarkly.offline.file`): cannot be read: no room";
        assert_eq!(error.to_string(), text);
        assert!(matches!(error, StartError::Config(_)), "{error:?}");
    }
}
