//! Vendor-independent machinery that the vendor crates and the plugin host share.
//!
//! Reading order: an [`mod@environment`] holds the newest data of one vendor environment and announces changes to its
//! [`stream`]s through a shared [`change_log`]; [`hooks`] are the places where plugins are called; [`lifecycle`] owns every
//! task, and its [`supervisor`] catches their panics; [`metrics`] declares and renders what is counted.

pub mod time;

pub mod by_address;

pub mod shared_text;

mod priority;

pub mod secret;

pub mod input_file;

pub mod settings;

pub mod client_address;

pub mod retry_after;

pub mod ticket;

pub mod sse;

mod label;

mod sdk_release;

pub mod trace;

mod internal_error;

pub mod metrics;

pub mod backoff;

pub mod status;

pub mod readiness;

pub mod atomic_file;

pub mod data_folder;

pub mod supervisor;

pub mod budget;

pub mod lifecycle;

pub mod data_store;

pub mod background;

pub mod task_threads;

pub mod workers;

pub mod evaluators;

pub mod change_log;

pub mod environment;

pub mod jittered_source;

pub mod hooks;

pub mod registry;

pub mod delivery;

pub mod stream;

pub use background::Background;
pub use backoff::Backoff;
pub use data_store::DataStore;
pub use environment::{Applied, Dataset, Environment, Snapshot, Writer, environment, environment_with};
pub use evaluators::Evaluators;
pub use internal_error::InternalError;
pub use label::EnvironmentLabel;
pub use lifecycle::Lifecycle;
pub use sdk_release::SdkRelease;
pub use secret::Secret;
pub use supervisor::{Supervised, Supervisor};
pub use task_threads::TaskThreads;
pub use workers::Workers;
