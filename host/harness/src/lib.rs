//! The Harness Feature Flags side: where its data comes from, and what is served to its SDKs.
//!
//! The modules below are in the order of their layers, which is also the reading order: each uses only those above it.
//! `identity`, `config` and `data` are the vocabulary; `metrics` sums up what SDKs report; `upstream` holds the requests to
//! Harness; `shared_store` is the Redis database that gateways share; `environments` holds what is served, and applies
//! changes to it; `primary` writes it to that database; `sources` keeps environments in sync with a key, a folder or the
//! database; `downstream` is the table of routes; [`start()`] puts everything together. How flags evaluate is in
//! `yardarm-harness-eval`.

#![forbid(unsafe_code)]

mod identity;

pub mod config;

mod data;

mod metrics;

mod upstream;

mod shared_store;

mod environments;

mod primary;

mod sources;

mod downstream;

mod start;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use self::config::{Config, EnvironmentConfig, Source};
pub use self::downstream::{metrics_document, owns, routes_document};
pub use self::environments::Incomplete;
pub use self::sources::{ExportError, OfflineError};
pub use self::start::{Harness, check, start};
