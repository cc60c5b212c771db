//! Log lines of guests: limited in rate and length, with control characters escaped and dropped lines counted.

use crate::runtime::guest::{GuestState, PluginContext};
use crate::runtime::interface::v0_1;
use crate::runtime::interface::v0_1::host::log::Level;
use crate::vocabulary::clean;

impl v0_1::host::log::Host for GuestState {
    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        Ok(!self.is_warm_up && is_enabled(level))
    }

    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        if !self.is_warm_up {
            write(&self.plugin, self.hook_name(), level, &message);
        }
        Ok(())
    }
}

fn is_enabled(level: Level) -> bool {
    match level {
        Level::Trace => tracing::enabled!(target: "yardarm::guest", tracing::Level::TRACE),
        Level::Debug => tracing::enabled!(target: "yardarm::guest", tracing::Level::DEBUG),
        Level::Info => tracing::enabled!(target: "yardarm::guest", tracing::Level::INFO),
        Level::Warn => tracing::enabled!(target: "yardarm::guest", tracing::Level::WARN),
        Level::Error => tracing::enabled!(target: "yardarm::guest", tracing::Level::ERROR),
    }
}

/// Writes one line of a guest to the host's log.
pub(crate) fn write(plugin: &PluginContext, hook: &'static str, level: Level, message: &str) {
    if plugin.counters.log.admit().is_none() {
        return;
    }
    let line = clean(&plugin.services.redactor.redact(message));
    let (name, generation) = (&*plugin.name, plugin.version.generation);
    match level {
        Level::Trace => tracing::trace!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Debug => tracing::debug!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Info => tracing::info!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Warn => tracing::warn!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
        Level::Error => tracing::error!(target: "yardarm::guest", plugin = name, generation, hook, "{line}"),
    }
}
