//! Plugins: WebAssembly components in a watched folder, asked at the hooks of [`yardarm_core::hooks`].
//!
//! This is the only part of the host that knows WebAssembly. Reading order: [`PluginFolder`] notices files
//! (`folder`), reads what the operator wants of them (`manifest`), and stages them (`stage`, with `capability`,
//! `engine`, `cache` and `interface`) into `Plugin`s. A `plan` puts them in order; `hooks` answers the host by asking
//! along a chain; each single question is a `call` to an instance (`guest`, `pool`) behind a `breaker`.
//! `status` and `counters` tell what happened.

mod vocabulary;

mod runtime;

mod pool;

mod breaker;

mod call;

mod chain;

mod plugin;

mod plan;

mod staging;

mod status;

mod folder;

mod check;

pub use self::breaker::BreakerState;
pub use self::check::{CheckReport, CheckedFolder, check_file, check_folder};
pub use self::folder::{OpenError, PluginFolder, Settings, Trust};
pub use self::pool::PoolStatus;
pub use self::runtime::engine::EngineFacts;
pub use self::staging::cache::CacheLimits;
pub use self::status::{ActiveStatus, BindingStatus, FolderStatus, PluginMetrics, PluginStatus, Refusal, RowState};
pub use self::vocabulary::{
    Bind, CALL_SECONDS, GuestSeries, GuestValue, Hook, HookMetrics, InstanceMetrics, Isolation, LoadError, Phase,
    Policy,
};

#[cfg(test)]
mod tests;

/// Doors for `host/fuzz`; compiled only there.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Reads a binding file.
    pub fn manifest(text: &str) {
        let _ = crate::staging::manifest::Manifest::parse(text);
    }
}
