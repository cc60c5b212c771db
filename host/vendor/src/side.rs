//! What the gateway needs of a vendor's side, and what it provides to one.

use std::any::Any;
use std::path::PathBuf;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use yardarm_core::delivery::DeliveryReport;
use yardarm_core::hooks::{HookFuture, Hooks};
use yardarm_core::metrics::Registry;
use yardarm_core::registry::StreamRegistry;
use yardarm_core::workers::ThreadError;
use yardarm_core::{DataStore, Lifecycle, TaskThreads};
use yardarm_fleet::Fleet;

use crate::report::{EnvironmentListReport, EnvironmentReport};
use crate::upstream::{OutboundError, UpstreamTls, UpstreamTlsError};

/// What the gateway provides.
#[derive(Clone)]
pub struct Parts {
    /// Plugins.
    pub hooks: Hooks,
    /// Registry of open streams.
    pub streams: StreamRegistry,
    /// Registry of the metrics under the gateway's own names.
    pub metrics: Registry,
    /// Owner of the tasks.
    pub lifecycle: Lifecycle,
    /// TLS of upstream connections.
    pub upstream_tls: UpstreamTls,
    /// Threads for the tasks that read upstream streams.
    pub upstream_threads: TaskThreads,
    /// Gateways that share upstream connections with this one; `None` without any.
    pub fleet: Option<Fleet>,
    /// Store for last good data; `None` persists nothing.
    pub store: Option<DataStore>,
    /// Store for accepted events; `None` keeps them in memory only.
    pub events: Option<DataStore>,
    /// Folder for files of this side; `None` without a data folder.
    pub data_dir: Option<PathBuf>,
}

/// The running side of one vendor.
pub trait VendorSide: Any + Send + Sync {
    /// Returns the vendor's name in lower case, as settings, logs and metrics have it.
    fn name(&self) -> &'static str;

    /// Answers a request of an SDK, whatever its path.
    fn answer(&self, request: Request) -> HookFuture<'_, Response>;

    /// Whether a path is one of this vendor, where vendors share a listener. The first configured side gets the rest.
    fn owns(&self, path: &str) -> bool;

    /// Returns `/metrics` under the names of the vendor's own relay, for a listener of its own; `None` without one.
    fn compat_metrics(&self) -> Option<Router> {
        None
    }

    /// Returns the state of each environment.
    fn reports(&self) -> Vec<EnvironmentReport>;

    /// Returns the state of the list of environments, where the vendor's service provides it.
    fn list_report(&self) -> Option<EnvironmentListReport> {
        None
    }

    /// Returns the counts of full deliveries, if their number at a time is limited.
    fn delivery_report(&self) -> Option<DeliveryReport> {
        None
    }

    /// Sends every event that waits; ready once all of them have arrived or are lost.
    fn flush_events(&self) -> HookFuture<'_, ()>;
}

/// Why a vendor's side could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client could not be built.
    #[error("HTTP client for upstream requests cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
    /// The certificates for upstream connections cannot be used.
    #[error("TLS of upstream connections cannot be set up: {0}")]
    Tls(#[from] UpstreamTlsError),
    /// The threads for long work cannot be started.
    #[error(transparent)]
    Threads(#[from] ThreadError),
    /// A folder below the data folder, or a file in it, cannot be used.
    #[error("{text}: {source}")]
    Data {
        /// The folder or file, and what it is for.
        text: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A setting, or a file that a setting names, cannot be used.
    #[error(transparent)]
    Config(Box<dyn std::error::Error + Send + Sync>),
}

impl From<OutboundError> for StartError {
    fn from(error: OutboundError) -> Self {
        Self::config(error)
    }
}

impl StartError {
    /// Creates the error for a setting or a file that a setting names.
    pub fn config(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Config(error.into())
    }
}
