//! Vendor-independent machinery that the vendor crates and the plugin host share.
//!
//! Reading order: an [`mod@environment`] holds the newest data of one vendor environment and announces changes to its
//! [`stream`]s through a shared [`change_log`]; [`hooks`] are the places where plugins are called; the [`outbox`]
//! carries events towards the vendor; [`lifecycle`] owns every task, and its [`supervisor`] catches their panics.

pub mod atomic_file;
pub mod background;
pub mod backoff;
pub mod budget;
pub mod change_log;
pub mod client_address;
pub mod data_folder;
pub mod environment;
pub mod evaluators;
pub mod event_pipeline;
pub mod hooks;
pub mod input_file;
pub mod lifecycle;
pub mod outbox;
mod priority;
pub mod readiness;
pub mod registry;
pub mod report;
pub mod retry_after;
pub mod sealed_file;
pub mod secret;
pub mod settings;
pub mod snapshot_file;
pub mod snapshot_writer;
pub mod sse;
pub mod status;
pub mod stream;
pub mod supervisor;
pub mod ticket;
pub mod time;
pub mod workers;

pub use background::Background;
pub use backoff::Backoff;
pub use environment::{
    Applied, Dataset, Environment, EnvironmentLabel, Snapshot, Writer, environment, environment_with,
};
pub use evaluators::Evaluators;
pub use lifecycle::Lifecycle;
pub use secret::Secret;
pub use supervisor::{InternalError, Supervised, Supervisor};
pub use workers::Workers;
