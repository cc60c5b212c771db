//! Everything that is LaunchDarkly's: where its data comes from, what its SDKs are served, how its flags evaluate.
//!
//! Reading order is the order of the modules below: each uses only those above it.
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
    BigSegmentsConfig, ClientStreamMode, CommonConfig, Config, EnvironmentConfig, EnvironmentSource, Identity,
    Prometheus, StoreConfig,
};
pub use self::identity::{Credentials, EnvironmentId, MobileKey, SdkKey};
pub use self::sources::Parts;
pub use self::sources::archive::ArchiveError;
pub use self::start::{LaunchDarkly, StartError, check, start};
