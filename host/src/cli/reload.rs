//! What SIGHUP does: reads the configuration again and applies what can change while the gateway runs.

use crate::config::{Config, ConfigError, Loaded};
use crate::gateway::Gateway;
use crate::logging;

/// Keys that are applied by a reload. All others need a restart, which the log says when they differ.
const APPLIED: &[&str] = &["log.level", "launchdarkly.environments"];
/// What cannot change of an environment that is served.
const FIXED: &[&str] = &[".prefix"];

/// The configuration in force, and the way to read it again.
pub(super) struct Reload {
    current: Loaded,
    load: Box<dyn Fn() -> Result<Loaded, ConfigError> + Send>,
}

impl Reload {
    /// `load` reads the configuration from where `current` came from.
    pub(super) fn new(current: Loaded, load: impl Fn() -> Result<Loaded, ConfigError> + Send + 'static) -> Self {
        Self { current, load: Box::new(load) }
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> &Config {
        &self.current.config
    }

    /// Reads everything again. A configuration that cannot be used changes nothing; certificates and plugins are looked at
    /// in any case.
    pub(super) async fn run(&mut self, gateway: &Gateway) {
        tracing::info!("reloading configuration, certificates and plugins");
        match (self.load)() {
            Ok(loaded) => self.apply(loaded, gateway),
            Err(error) => {
                let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                tracing::error!(error, "the configuration cannot be used, the one in force stays");
            }
        }
        // Reads two small files, seldom.
        if let Err(error) = tokio::task::block_in_place(|| gateway.reload_certificate()) {
            tracing::error!(%error, "the certificate cannot be reloaded, the one in force stays");
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
            tracing::error!(%error, "the log level cannot be used, the one in force stays");
        }
        gateway.update_environments(&loaded.config);
        if !ignored.is_empty() {
            tracing::warn!(keys = ignored.join(", "), "changed settings take effect after a restart");
        }
        tracing::info!(keys = applied.join(", "), "configuration reloaded");
        self.current = loaded;
    }
}
