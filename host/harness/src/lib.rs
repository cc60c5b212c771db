//! Everything that is Harness Feature Flags': where its data comes from, what its SDKs are served, how its flags evaluate.
//!
//! Reading order: [`start`] starts one task per configured key, or one for a proxy key; `upstream` finds out what
//! environment a key belongs to and keeps it in sync; `dataset` says what a change does and what streams hear of it;
//! `downstream` is the table of routes.
#![forbid(unsafe_code)]

mod identity;

pub mod config;

mod data;

mod metrics;

mod upstream;

mod environments;

mod sources;

mod downstream;

mod start;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use self::config::{Config, EnvironmentConfig, Source};
pub use self::downstream::owns;
pub use self::environments::{Incomplete, Parts};
pub use self::sources::{ExportError, OfflineError};
pub use self::start::{Harness, StartError, check, start};
