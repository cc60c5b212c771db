//! `yardarm ld-relay`: the gateway with the configuration of LaunchDarkly's relay, unchanged (U126, U127, U143).

use std::process::ExitCode;

use yardarm_launchdarkly::config::compat::{self, Arguments, CompatError, Translation};

use super::reload::Reload;
use super::run::{serve, signals};
use super::variables;
use crate::config::{self, ConfigError, Loaded, LogConfig, LogFormat, Overrides};
use crate::logging;
use crate::startup::StartupError;

/// Exit code of ld-relay for every error.
const EXIT_FAILURE: u8 = 1;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the command; `flags` are those of ld-relay.
pub(super) async fn ld_relay(flags: &[String]) -> ExitCode {
    let Ok(signals) = signals() else { return ExitCode::from(EXIT_FAILURE) };
    let variables = variables();
    // The format applies from the first line on; the level follows with the configuration.
    let log =
        LogConfig { level: "info".to_owned(), format: log_format(&variables), requests: false, split_output: true };
    if let Err(error) = logging::start(&log) {
        return failed(&error, 0);
    }
    let arguments = match read_arguments(flags) {
        Ok(arguments) => arguments,
        Err(error) => {
            logging::print_error(compat::USAGE.trim_end());
            tracing::error!("{error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    if arguments.prints_version {
        tracing::info!("LaunchDarkly relay version 8.10.1 compatible gateway, Yardarm {VERSION}");
        return ExitCode::SUCCESS;
    }
    tracing::info!(
        "Starting LaunchDarkly relay version 8.10.1 compatible gateway, Yardarm {VERSION}, with {arguments}"
    );
    let (loaded, port) = match load(&arguments, &variables) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    if let Err(error) = logging::set_level(&loaded.config.log.level) {
        return failed(&error, port);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let file = arguments.file.clone();
    let again = move || load(&arguments, &variables).map(|it| it.0).map_err(ConfigError::from);
    Box::pin(serve(Reload::new(loaded, file, again), signals, move |error| failed(error, port))).await
}

fn read_arguments(flags: &[String]) -> Result<Arguments, CompatError> {
    Arguments::read(flags, std::path::Path::exists)
}

/// Why a configuration of ld-relay cannot be used.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    /// ld-relay would refuse it as well.
    #[error(transparent)]
    Compat(#[from] CompatError),
    /// Yardarm refuses a value that ld-relay would accept, or a variable of its own.
    #[error("Configuration error: {0}")]
    Own(#[from] ConfigError),
}

impl From<LoadError> for ConfigError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Compat(error) => Self::Foreign(error.to_string()),
            LoadError::Own(error) => error,
        }
    }
}

/// Reads and translates the configuration; returns it with the port of SDKs.
fn load(arguments: &Arguments, variables: &[(String, String)]) -> Result<(Loaded, u16), LoadError> {
    let Translation { overrides, warnings, port } = compat::translate(arguments, variables)?;
    let overrides = Overrides { overrides, ..Overrides::of_program(variables.to_vec()) };
    let mut loaded = config::load_without_file(&overrides)?;
    loaded.warnings.splice(0..0, warnings);
    Ok((loaded, port))
}

/// Loads the configuration that flags of ld-relay select, for `yardarm check` and `yardarm convert`.
///
/// # Errors
/// A message for the operator.
pub(super) fn load_by_flags(flags: &[String]) -> Result<Loaded, String> {
    let arguments = read_arguments(flags).map_err(|error| error.to_string())?;
    load(&arguments, &variables()).map(|it| it.0).map_err(|error| error.to_string())
}

/// Returns the format that variables select. Values that cannot be used are reported with the configuration.
fn log_format(variables: &[(String, String)]) -> LogFormat {
    let value = |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
    let own = value("YARDARM_LOG_FORMAT").and_then(LogFormat::of);
    let is_json = value("LOG_FORMAT").is_some_and(|it| it.eq_ignore_ascii_case("json"));
    own.unwrap_or(if is_json { LogFormat::Json } else { LogFormat::Go })
}

/// Logs why the gateway does not start, or ends, in the words of ld-relay.
fn failed(error: &anyhow::Error, port: u16) -> ExitCode {
    match error.downcast_ref::<StartupError>().and_then(StartupError::refused_address) {
        Some(("launchdarkly.prometheus.listen", reason)) => tracing::error!(
            "Unable to create relay: unable to create metrics manager: failed to start Prometheus listener: {reason}"
        ),
        Some(("server.listen", reason)) => tracing::error!("Error starting http listener on port: {port}  {reason}"),
        _ => tracing::error!("Unable to create relay: {error:#}"),
    }
    ExitCode::from(EXIT_FAILURE)
}
