//! Translates the configuration of ld-relay, versions 8.0 to 9.0, to settings of Yardarm (U126 to U146, V033, V038).
//!
//! File and variables are merged first and checked once. (ld-relay checks the file alone before it reads variables, so
//! that it refuses combinations that mean something.) Every variable `YARDARM_…` takes precedence over the result.

mod arguments;
mod checks;
mod grammar;
mod merge;
mod table;
mod telemetry;
#[cfg(test)]
mod tests;
mod translation;
mod values;

use std::io::ErrorKind;
use std::path::Path;

use yardarm_core::settings::CompatOverride;

pub use self::arguments::{Arguments, USAGE};
use self::merge::{Settings, Variables};

/// The result of a translation.
#[derive(Debug, Default)]
pub struct Translation {
    /// Settings of Yardarm.
    pub overrides: Vec<CompatOverride>,
    /// Settings without the effect that their user may expect.
    pub warnings: Vec<String>,
    /// Address that SDKs connect to: the port alone, as ld-relay names it.
    pub port: u16,
}

/// Why a configuration cannot be used. The texts are those of ld-relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompatError {
    /// A command line that ld-relay refuses as well.
    #[error("Error: {0}")]
    Usage(String),
    /// The file, or a value in it.
    #[error("Error loading config file: {0}")]
    File(String),
    /// Variables, or values of file and variables that contradict each other.
    #[error("Configuration error: {0}")]
    Variables(String),
    /// Nothing to serve.
    #[error("Unable to create relay: you must specify at least one environment in your configuration")]
    NoEnvironments,
}

/// Reads the configuration that the arguments name and translates it. `variables` are those of the process.
///
/// # Errors
/// When the file cannot be read, or a value or a combination of values cannot be used. All such values are named.
pub fn translate(arguments: &Arguments, variables: &[(String, String)]) -> Result<Translation, CompatError> {
    let file = match arguments.file.as_deref() {
        Some(path) => Some((path.display().to_string(), read(path)?)),
        None => None,
    };
    translate_text(file.as_ref().map(|(path, bytes)| (path.as_str(), bytes.as_slice())), arguments.from_env, variables)
}

fn read(path: &Path) -> Result<Vec<u8>, CompatError> {
    std::fs::read(path).map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        CompatError::File(format!("failed to read configuration file {:?}: {reason}", path.display().to_string()))
    })
}

/// Translates a file, given as name and content, and variables.
fn translate_text(
    file: Option<(&str, &[u8])>,
    from_env: bool,
    variables: &[(String, String)],
) -> Result<Translation, CompatError> {
    let mut settings = match file {
        Some((path, bytes)) => Settings::read_file(path, bytes).map_err(|errors| {
            CompatError::File(format!("failed to read configuration file {path:?}: {}", errors.join(", ")))
        })?,
        None => Settings::default(),
    };
    let variables = Variables(if from_env { variables } else { &[] });
    if from_env {
        settings.add_variables(&variables);
    }
    settings.choose_common();
    let findings = checks::check(&mut settings);
    let errors: Vec<_> = std::mem::take(&mut settings.errors).into_iter().chain(findings.errors).collect();
    if !errors.is_empty() {
        let errors = errors.join(", ");
        return Err(if from_env { CompatError::Variables(errors) } else { CompatError::File(errors) });
    }
    if settings.has_no_environments() {
        return Err(CompatError::NoEnvironments);
    }
    let mut translation = translation::translate(&settings);
    translation.warnings.splice(0..0, findings.warnings);
    Ok(translation)
}

/// Reads arbitrary bytes as a configuration file, for `host/fuzz`.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = translate_text(Some(("ld-relay.conf", bytes)), true, &[]);
}
