//! The LaunchDarkly side: receives flag data from LaunchDarkly, serves its SDKs and forwards their events. Models and
//! evaluation are in `yardarm-launchdarkly-eval`.
//!
//! The reading order is the order of the modules below; each uses only modules above it. `identity` and `config` hold
//! keys and settings. `data` holds items and changes and how they are parsed, rendered and persisted. `upstream` has
//! the HTTP clients, `events` forwards events of SDKs, `store` writes the database that other programs read too.
//! `evaluation` and `evaluated_streams` serve clients that are sent results. `environments` has what is served, and
//! `sources` keeps it in sync with the configuration, LaunchDarkly or an archive. `downstream` is the table of routes,
//! and [`start()`] assembles all of this.
#![forbid(unsafe_code)]

mod identity;

pub mod config;

mod data;

mod upstream;

mod events;

mod store;

mod evaluation;

mod evaluated_streams;

mod environments;

mod sources;

mod downstream;

mod start;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use self::config::{
    BigSegmentsConfig, ClientStreamMode, CommonConfig, Config, DatabaseConfig, EnvironmentConfig, EnvironmentSource,
    Identity, Prometheus, StoreConfig, UpstreamProtocol,
};
pub use self::downstream::{metrics_document, routes_document};
pub use self::environments::{InitializationError, InitializationPolicy};
pub use self::identity::{Credentials, EnvironmentId, MobileKey, SdkKey};
pub use self::start::{LaunchDarkly, check, start};

/// Beginnings of names of headers that belong to the vendor's protocols.
pub const HEADER_PREFIXES: &[&str] = &["x-ld-", "x-launchdarkly-"];
