//! Everything that is Harness Feature Flags': where its data comes from, what its SDKs are served, how its flags evaluate.
//!
//! Reading order: [`start`] starts one task per configured key; `upstream` finds out what environment a key belongs to and
//! keeps it in sync; `dataset` says what a change does and what streams hear of it; `downstream` is the table of routes.
#![forbid(unsafe_code)]

pub mod config;
mod credential;
mod dataset;
mod downstream;
mod environments;
pub mod evaluation;
mod metrics;
pub mod model;
mod report;
mod secret_file;
mod targets;
mod upstream;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use yardarm_core::Lifecycle;
use yardarm_core::hooks::Hooks;
use yardarm_core::registry::Streams;
use yardarm_core::report::EnvironmentReport;

pub use self::config::{Config, EnvironmentConfig};
pub use self::downstream::owns;
use crate::credential::Tokens;
use crate::environments::Environments;
use crate::upstream::{EnrolTask, HttpClients, MetricsPoster, Registrar};

/// What the gateway provides.
#[derive(Clone)]
pub struct Parts {
    /// Plugins.
    pub hooks: Hooks,
    /// Registry of open streams.
    pub streams: Streams,
    /// Owner of the tasks.
    pub lifecycle: Lifecycle,
    /// Folder for what is kept; `None` keeps nothing.
    pub data_dir: Option<PathBuf>,
}

/// The running Harness side.
pub struct Harness {
    /// Every route that SDKs can meet.
    pub router: Router,
    environments: Environments,
    poster: MetricsPoster,
}

/// Why this side could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client could not be built.
    #[error("HTTP client for upstream requests cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
    /// There is no secret for tokens and none can be kept.
    #[error("`harness.auth_secret` is not set, and `{path}` cannot be used to keep one: {source}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// There is no secret for tokens and no place to keep one.
    #[error("`harness.auth_secret` is required, because there is no `data.dir` to keep one in")]
    NoSecret,
}

/// Starts every configured key and returns; nothing waits for upstream.
///
/// # Errors
/// When the HTTP client or the secret for tokens cannot be set up.
pub async fn start(config: Config, parts: Parts) -> Result<Harness, StartError> {
    let http = HttpClients::new(config.read_timeout)?;
    let secret = match (&config.auth_secret, &parts.data_dir) {
        (Some(secret), _) => secret.clone(),
        (None, Some(dir)) => {
            let path = dir.join("token-secret");
            secret_file::read_or_make(&path).map_err(|source| StartError::Secret { path, source })?
        }
        (None, None) => return Err(StartError::NoSecret),
    };
    let config = Arc::new(config);
    let environments = Environments::expecting(config.environments.len());
    for settings in &config.environments {
        let task = EnrolTask {
            settings: settings.clone(),
            config: Arc::clone(&config),
            http: http.clone(),
            parts: parts.clone(),
            environments: environments.clone(),
            latch: Some(parts.lifecycle.latch("harness environment")),
        };
        parts.lifecycle.spawn("harness key", task.run());
    }
    let registrar = Registrar::new(http.clone(), config.client_service.clone(), parts.lifecycle.clone());
    let poster = MetricsPoster { http, base: config.metric_service.clone() };
    let router = downstream::routes(downstream::Downstream {
        environments: environments.clone(),
        config,
        tokens: Tokens::new(&secret),
        registrar,
        hooks: parts.hooks,
        streams: parts.streams,
    });
    Ok(Harness { router, environments, poster })
}

impl Harness {
    /// Posts all metrics that wait, and waits until they have arrived or are lost.
    pub async fn flush_events(&self) {
        let all = self.environments.all();
        futures_util::future::join_all(all.iter().map(async |it| {
            it.metrics.settle().await;
            self.poster.flush(it).await;
        }))
        .await;
    }

    /// State of each environment, for operators.
    #[must_use]
    pub fn reports(&self) -> Vec<EnvironmentReport> {
        self.environments.all().iter().map(|it| report::of(it)).collect()
    }
}
