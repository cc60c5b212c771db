//! Reads the configuration again and applies the settings that can change at run time: on SIGHUP, when the file has changed,
//! and on the order of an operator.

use std::path::PathBuf;

use super::watched_file::WatchedFile;
use crate::config::{Config, ConfigError, Loaded};
use crate::gateway::Gateway;
use crate::logging;
use crate::reload_order::ReloadReport;

/// Keys that a reload applies. All others need a restart, and the log names them if they differ.
const APPLIED: &[&str] = &["log.level", "admin.token", "launchdarkly.environments"];
/// Keys of a served environment that cannot change.
const FIXED: &[&str] = &[".prefix"];

/// The current configuration, and the function that loads it again.
pub(super) struct Reload {
    current: Loaded,
    file: Option<WatchedFile>,
    load: Box<dyn Fn() -> Result<Loaded, ConfigError> + Send>,
}

impl Reload {
    /// Creates a reloader; `load` reads the configuration from the sources of `current`, of which `file` is one.
    pub(super) fn new(
        current: Loaded,
        file: Option<PathBuf>,
        load: impl Fn() -> Result<Loaded, ConfigError> + Send + 'static,
    ) -> Self {
        Self { current, file: file.map(WatchedFile::new), load: Box::new(load) }
    }

    /// Waits until the configuration file has changed; forever without a file. Cancel-safe.
    pub(super) async fn file_changed(&mut self) {
        match &mut self.file {
            Some(file) => file.changed().await,
            None => std::future::pending().await,
        }
        tracing::info!("the configuration file has changed");
    }

    /// The current configuration.
    pub(super) fn config(&self) -> &Config {
        &self.current.config
    }

    /// Reads everything again, and logs and returns what has changed. An unusable configuration changes nothing; certificates
    /// and plugins are reloaded in any case.
    ///
    /// # Errors
    /// Why the configuration cannot be used, in one line.
    pub(super) async fn run(&mut self, gateway: &Gateway) -> Result<ReloadReport, String> {
        tracing::info!("reloading configuration, certificates and plugins");
        if let Some(file) = &mut self.file {
            file.mark_read();
        }
        let mut outcome = match (self.load)() {
            Ok(loaded) => Ok(self.apply(loaded, gateway)),
            Err(error) => {
                let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                tracing::error!(error, "the configuration cannot be used, the current one stays in effect");
                Err(error)
            }
        };
        // Reads two small files, rarely.
        let certificate = tokio::task::block_in_place(|| gateway.reload_certificate());
        if let Err(error) = &certificate {
            tracing::error!(%error, "the certificate cannot be reloaded, the current one stays in effect");
        }
        gateway.rescan_plugins();
        if let Ok(report) = &mut outcome {
            match certificate {
                Ok(is_new) => report.has_new_certificate = is_new,
                Err(error) => report.warnings.push(error.to_string()),
            }
        }
        outcome
    }

    fn apply(&mut self, loaded: Loaded, gateway: &Gateway) -> ReloadReport {
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
        if let Err(error) = logging::set_environment_levels(&loaded.config.log_levels()) {
            tracing::error!(%error, "log levels of environments cannot be used, the current ones stay in effect");
        }
        gateway.update_environments(&loaded.config);
        gateway.update_operator_token(&loaded.config);
        if !ignored.is_empty() {
            tracing::warn!(keys = ignored.join(", "), "changed settings take effect after a restart");
        }
        tracing::info!(keys = applied.join(", "), "configuration reloaded");
        let warnings = loaded.warnings.clone();
        self.current = loaded;
        ReloadReport { applied, needs_restart: ignored, has_new_certificate: false, warnings }
    }
}
