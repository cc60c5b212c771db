//! Errors of loading a configuration.

use std::path::PathBuf;

use yardarm_core::settings::{Place, SettingError};

/// An error of loading a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file `{path}` cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not TOML. The line itself is not quoted, because it may contain a key.
    #[error("configuration file is not valid TOML: {place}: {problem}")]
    Syntax {
        /// The position at which the parser stopped.
        place: Place,
        /// The message of the parser.
        problem: String,
    },
    /// Values cannot be used. All of them are listed.
    #[error("{} of the configuration cannot be used:{}", plural(.0.len()), list(.0))]
    Values(Vec<SettingError>),
    /// The configuration of another program cannot be used. The text is that program's.
    #[error("{0}")]
    Foreign(String),
    /// No vendor is configured. Lists empty values below vendors, which may be the reason.
    #[error(
        "no vendor is configured{}: add `[[launchdarkly.environments]]` with `name` and `sdk_key`, or `[[harness.environments]]` with `api_key`, to `yardarm.toml`, set YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_NAME and …_0_SDK_KEY, or try `yardarm demo`", left_empty(.0)
    )]
    NoVendor(Vec<String>),
}

/// Returns the names of empty values as part of a message; empty if there are none.
pub(super) fn left_empty(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (left empty, so not set: {})", names.join(", ")) }
}

fn plural(count: usize) -> String {
    if count == 1 { "one value".to_owned() } else { format!("{count} values") }
}

fn list(errors: &[SettingError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}
