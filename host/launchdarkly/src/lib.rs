//! Everything that is LaunchDarkly's: where its data comes from, what its SDKs are served, how its flags evaluate.
//!
//! Reading order: [`start`] builds one environment per configured one and filter; `upstream` keeps each in sync;
//! `dataset` and `render` say what a change does and how it is written; `downstream` is the table of routes.
#![forbid(unsafe_code)]

pub mod config;
mod credential;
mod dataset;
mod downstream;
mod environments;
pub mod evaluation;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod model;
mod persistence;
mod render;
mod report;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use yardarm_core::hooks::Hooks;
use yardarm_core::registry::Streams;
use yardarm_core::status::Connection;
use yardarm_core::{Lifecycle, environment, snapshot_file};

pub use self::config::{Config, EnvironmentConfig};
pub use self::credential::{EnvironmentId, MobileKey, SdkKey};
pub use self::report::{ChangeReport, EnvironmentReport, ErrorReport, EventReport};
use crate::environments::{Environments, LdEnvironment};
use crate::persistence::Keeper;
use crate::upstream::HttpClients;
use crate::upstream::apply::Applier;
use crate::upstream::events::EventPort;
use crate::upstream::stream::StreamTask;

/// What the gateway provides.
#[derive(Clone)]
pub struct Parts {
    /// Plugins.
    pub hooks: Hooks,
    /// Registry of open streams.
    pub streams: Streams,
    /// Owner of the tasks.
    pub lifecycle: Lifecycle,
    /// Folder for last good data; `None` keeps nothing.
    pub data_dir: Option<PathBuf>,
}

/// The running LaunchDarkly side.
pub struct LaunchDarkly {
    /// Every route that SDKs can meet.
    pub router: Router,
    environments: Environments,
}

/// Why this side could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client could not be built.
    #[error("HTTP client for upstream requests cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
    /// The folder for last good data cannot be used.
    #[error("folder `{path}` for last good data cannot be used: {source}")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}

/// Starts every environment and returns at once; nothing waits for upstream.
///
/// # Errors
/// When the HTTP client or the data folder cannot be set up.
pub async fn start(config: Config, parts: Parts) -> Result<LaunchDarkly, StartError> {
    let http = HttpClients::new(&config)?;
    if let Some(path) = &parts.data_dir {
        snapshot_file::prepare_dir(path).map_err(|source| StartError::DataDir { path: path.clone(), source })?;
    }
    let config = Arc::new(config);
    let mut all = Vec::new();
    for settings in &config.environments {
        let variants = std::iter::once("").chain(settings.filters.iter().map(String::as_str));
        for filter in variants {
            all.push(start_environment(settings, filter, &config, &http, &parts).await);
        }
    }
    let environments = Environments::default();
    environments.replace(all);
    let router = downstream::routes(downstream::Downstream {
        environments: environments.clone(),
        config,
        http,
        hooks: parts.hooks,
        streams: parts.streams,
    });
    Ok(LaunchDarkly { router, environments })
}

async fn start_environment(
    settings: &EnvironmentConfig,
    filter: &str,
    config: &Arc<Config>,
    http: &HttpClients,
    parts: &Parts,
) -> Arc<LdEnvironment> {
    let (writer, data) = environment();
    let label = environments::label(settings, filter);
    let events = config
        .send_events
        .then(|| EventPort::start(config, settings, label, http, parts.hooks.clone(), &parts.lifecycle));
    let environment = Arc::new(LdEnvironment::new(settings.clone(), filter.into(), data, events));
    let kept = match &parts.data_dir {
        None => None,
        Some(dir) => {
            let (dir, environment) = (dir.clone(), Arc::clone(&environment));
            tokio::task::spawn_blocking(move || persistence::read(&dir, &environment)).await.ok().flatten()
        }
    };
    let keeper = parts.data_dir.as_ref().map(|dir| Keeper::start(dir, &environment, &parts.lifecycle));
    let mut applier = Applier::new(Arc::clone(&environment), writer, parts.hooks.clone(), keeper);
    if let Some(items) = kept {
        applier.restore(items).await;
        tracing::info!(environment = %environment.label, "serving data kept on disk until upstream answers");
    }
    let latch = parts.lifecycle.latch(environment.label.to_string());
    let task = StreamTask::new(Arc::clone(&environment), applier, parts.hooks.clone(), http.clone(), config);
    parts.lifecycle.spawn("upstream stream", task.run());
    parts.lifecycle.spawn("first connection", watch_start(Arc::clone(&environment), config.init_timeout, latch));
    parts.lifecycle.spawn("outage watch", watch_outages(Arc::clone(&environment), config.disconnected_status_time));
    parts.lifecycle.spawn("heartbeat", beat(environment.data.clone(), config.heartbeat_interval));
    environment
}

/// An environment is ready for its SDKs once it has data, is rejected, or has had its time.
async fn watch_start(environment: Arc<LdEnvironment>, timeout: Duration, latch: yardarm_core::lifecycle::ReadyLatch) {
    let mut changes = environment.status.changes();
    let settled = async {
        while matches!(environment.phase(), environments::Phase::Starting) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(timeout, settled).await.is_err() {
        tracing::warn!(environment = %environment.label, "no data from upstream within the initial timeout, attempts go on");
    }
    environment.start_timed_out();
    drop(latch);
}

/// One line for an operator when updates have been unavailable for too long, and one when they are back.
async fn watch_outages(environment: Arc<LdEnvironment>, limit: Duration) {
    let mut changes = environment.status.changes();
    loop {
        let is_well = |it: &LdEnvironment| it.status.report().connection == Connection::Valid;
        let has_recovered = async { while !is_well(&environment) && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, has_recovered).await.is_err() {
            let error = environment.status.report().last_error.map(|it| it.message).unwrap_or_default();
            tracing::error!(environment = %environment.label, last_error = %error, "data source outage, updates have been unavailable for `disconnected_status_time`");
            while !is_well(&environment) && changes.changed().await.is_ok() {}
            tracing::info!(environment = %environment.label, "data source outage is over");
        }
        while is_well(&environment) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn beat(data: yardarm_core::Environment<dataset::FlagData>, interval: Duration) {
    let mut timer = tokio::time::interval(interval);
    timer.tick().await;
    loop {
        timer.tick().await;
        data.beat();
    }
}

impl LaunchDarkly {
    /// Sends every event that waits, and waits until it has arrived or is lost.
    pub async fn flush_events(&self) {
        let all = self.environments.all();
        futures_util::future::join_all(all.iter().filter_map(|it| it.events.as_ref()).map(EventPort::flush)).await;
    }

    /// State of each environment, for operators.
    #[must_use]
    pub fn reports(&self) -> Vec<EnvironmentReport> {
        self.environments.all().iter().map(|it| EnvironmentReport::of(it)).collect()
    }
}
