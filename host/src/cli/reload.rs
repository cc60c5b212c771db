//! SIGHUP: reads the configuration again and applies the settings that can change at run time.

use crate::config::{Config, ConfigError, Loaded};
use crate::gateway::Gateway;
use crate::logging;

/// Keys that a reload applies. All others need a restart, and the log names them if they differ.
const APPLIED: &[&str] = &["log.level", "admin.token", "launchdarkly.environments"];
/// Keys of a served environment that cannot change.
const FIXED: &[&str] = &[".prefix"];

/// The current configuration, and the function that loads it again.
pub(super) struct Reload {
    current: Loaded,
    load: Box<dyn Fn() -> Result<Loaded, ConfigError> + Send>,
}

impl Reload {
    /// Creates a reloader; `load` reads the configuration from the sources of `current`.
    pub(super) fn new(current: Loaded, load: impl Fn() -> Result<Loaded, ConfigError> + Send + 'static) -> Self {
        Self { current, load: Box::new(load) }
    }

    /// The current configuration.
    pub(super) fn config(&self) -> &Config {
        &self.current.config
    }

    /// Reads everything again. An unusable configuration changes nothing; certificates and plugins are reloaded in any
    /// case.
    pub(super) async fn run(&mut self, gateway: &Gateway) {
        tracing::info!("reloading configuration, certificates and plugins");
        match (self.load)() {
            Ok(loaded) => self.apply(loaded, gateway),
            Err(error) => {
                let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                tracing::error!(error, "the configuration cannot be used, the current one stays in effect");
            }
        }
        // Reads two small files, rarely.
        if let Err(error) = tokio::task::block_in_place(|| gateway.reload_certificate()) {
            tracing::error!(%error, "the certificate cannot be reloaded, the current one stays in effect");
        }
        gateway.rescan_plugins();
    }

    fn apply(&mut self, loaded: Loaded, gateway: &Gateway) {
        for warning in loaded.warnings.iter().filter(|it| !self.current.warnings.contains(it)) {
            tracing::warn!("{warning}");
        }
        let changed = loaded.changed_keys(&self.current);
        let is_applied = |key: &String| {
            let rest = APPLIED.iter().find_map(|it| key.strip_prefix(it));
            let is_fixed = FIXED.iter().any(|it| key.ends_with(it));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('[')) && !is_fixed
        };
        let (applied, ignored): (Vec<_>, Vec<_>) = changed.into_iter().partition(is_applied);
        if let Err(error) = logging::set_level(&loaded.config.log.level) {
            tracing::error!(%error, "the log level cannot be used, the current one stays in effect");
        }
        gateway.update_environments(&loaded.config);
        gateway.update_operator_token(&loaded.config);
        if !ignored.is_empty() {
            tracing::warn!(keys = ignored.join(", "), "changed settings take effect after a restart");
        }
        tracing::info!(keys = applied.join(", "), "configuration reloaded");
        self.current = loaded;
    }
}
