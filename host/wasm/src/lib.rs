//! Plugins: WebAssembly components in a watched folder that implement the hooks of [`yardarm_core::hooks`].
//!
//! This is the only part of the host that depends on WebAssembly. Reading order: [`PluginFolder`] detects files
//! (`folder`), reads their binding files (`manifest`), and stages them (`stage`, with `capability`, `engine`, `cache`
//! and `interface`) into `Plugin`s. A `plan` puts them in order; `hooks` implements the host's hooks by calling the
//! plugins of a chain; each `call` runs in an instance (`guest`, `pool`) behind a `breaker`. `status` and `counters`
//! report what happened.

mod breaker;
mod cache;
mod call;
mod capability;
mod check;
mod counters;
mod engine;
mod folder;
mod guest;
mod hooks;
mod interface;
mod manifest;
mod plan;
mod pool;
mod stage;
mod status;

pub use breaker::BreakerState;
pub use cache::CacheLimits;
pub use capability::metrics::{GuestSeries, GuestValue};
pub use check::{CheckReport, CheckedFolder, check_file, check_folder};
pub use counters::{CALL_SECONDS, HookMetrics, InstanceMetrics};
pub use engine::EngineFacts;
pub use folder::{OpenError, PluginFolder, Settings, Trust};
pub use manifest::{Bind, Hook, Isolation, Phase, Policy};
pub use pool::PoolStatus;
pub use stage::LoadError;
pub use status::{ActiveStatus, BindingStatus, FolderStatus, PluginMetrics, PluginStatus, Refusal, RowState};

#[cfg(test)]
mod tests;

/// Entry points for `host/fuzz`; compiled only there.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Parses a binding file.
    pub fn manifest(text: &str) {
        let _ = crate::manifest::Manifest::parse(text);
    }
}
