//! The trait of all plugins: a value created from the operator's configuration.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bindings::host::types;

/// The result of a plugin's call.
pub type Result<T, E = PluginError> = std::result::Result<T, E>;

/// A plugin. [`export!`](crate::export!) makes a component of it.
pub trait Plugin: Sized + 'static {
    /// The table `[plugin.config]` of the binding file; [`NoConfig`] if there is none.
    ///
    /// Add `#[serde(deny_unknown_fields)]`, so that a misspelt key is rejected and not ignored.
    type Config: DeserializeOwned;

    /// Creates the plugin, once per instance and before any hook. Do work here that need not be done per call.
    ///
    /// # Errors
    ///
    /// A configuration that cannot work, as [`PluginError::InvalidInput`] naming the key: the gateway then rejects the
    /// plugin, shows the text to the operator and keeps the version that ran before.
    fn new(config: Self::Config) -> Result<Self>;
}

/// Configuration of a plugin that has none: any key is rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Why a plugin failed. The host applies the binding's failure policy; the text is shown to the operator and never sent
/// to an SDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginError {
    /// The input is invalid for the plugin. From [`Plugin::new`]: the configuration is invalid.
    InvalidInput(String),
    /// A retry may succeed.
    Temporary(String),
    /// An internal error of the plugin.
    Internal(String),
}

/// Creates a plugin from its configuration as JSON text, like the gateway.
///
/// # Errors
///
/// [`PluginError::InvalidInput`] that names the path of the wrong value, or the error of [`Plugin::new`].
///
/// ```
/// # use yardarm_plugin::{Plugin, PluginError, Result, from_config};
/// # #[derive(Debug)] struct Quota;
/// #[derive(serde::Deserialize)]
/// struct Config {
///     limits: Vec<u32>,
/// }
///
/// impl Plugin for Quota {
///     type Config = Config;
///     fn new(_: Config) -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// let error = from_config::<Quota>(r#"{"limits": [1, "two"]}"#).unwrap_err();
/// let text = r#"`limits[1]`: invalid type: string "two", expected u32"#;
/// assert_eq!(error, PluginError::InvalidInput(text.to_owned()));
/// ```
pub fn from_config<P: Plugin>(json: &str) -> Result<P> {
    P::new(read(json)?)
}

fn read<C: DeserializeOwned>(json: &str) -> Result<C> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let config = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let text = without_position(error.inner());
        // These two refer to the configuration as a whole.
        let place = if matches!(path.as_str(), "." | "?") { String::new() } else { format!("`{path}`: ") };
        PluginError::InvalidInput(format!("{place}{text}"))
    })?;
    deserializer.end().map_err(PluginError::invalid_input)?;
    Ok(config)
}

/// Removes the position: operators write TOML, so line and column of the derived JSON text would mislead them.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).map_or(text.clone(), str::to_owned)
}

impl PluginError {
    /// Creates the error for invalid input.
    pub fn invalid_input(text: impl fmt::Display) -> Self {
        Self::InvalidInput(text.to_string())
    }

    /// Creates the error for a failure that may be transient.
    pub fn temporary(text: impl fmt::Display) -> Self {
        Self::Temporary(text.to_string())
    }

    /// Creates the error for a failure of the plugin itself.
    pub fn internal(text: impl fmt::Display) -> Self {
        Self::Internal(text.to_string())
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidInput(text) => write!(f, "invalid input: {text}"),
            Self::Temporary(text) => write!(f, "temporary failure: {text}"),
            Self::Internal(text) => write!(f, "internal failure: {text}"),
        }
    }
}

impl std::error::Error for PluginError {}

/// Converts the error of parsing JSON text from the host.
impl From<serde_json::Error> for PluginError {
    fn from(error: serde_json::Error) -> Self {
        Self::InvalidInput(error.to_string())
    }
}

impl From<PluginError> for types::PluginError {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::InvalidInput(text) => Self::InvalidInput(text),
            PluginError::Temporary(text) => Self::Temporary(text),
            PluginError::Internal(text) => Self::Internal(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read to be refused")]
    struct Config {
        name: String,
        #[serde(default)]
        places: BTreeMap<String, Place>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Place {
        pin: Box<RawValue>,
    }

    #[test]
    fn errors_name_their_path() {
        for (json, expected) in [
            (r#"{"name": 1}"#, "`name`: invalid type: integer `1`, expected a string"),
            ("{}", "missing field `name`"),
            (r#"{"nmae": "x"}"#, "`nmae`: unknown field `nmae`, expected `name` or `places`"),
            (
                r#"{"name": "x", "places": {"prod*": {"pins": 1}}}"#,
                "`places.prod*.pins`: unknown field `pins`, expected `pin`",
            ),
            ("{", "EOF while parsing an object"),
            (r#"{"name": "x"} 1"#, "trailing characters at line 1 column 15"),
        ] {
            let error = read::<Config>(json).expect_err(json);
            assert_eq!(error, PluginError::InvalidInput(expected.to_owned()), "{json}");
        }
    }

    #[test]
    fn number_text_survives_in_raw_values() {
        let config: Config = read(r#"{"name": "x", "places": {"a": {"pin": 1.50}}}"#).unwrap();
        assert_eq!(config.places["a"].pin.get(), "1.50");
    }

    #[test]
    fn a_plugin_without_configuration_refuses_any() {
        assert!(read::<NoConfig>("{}").is_ok());
        let error = read::<NoConfig>(r#"{"a": 1}"#).unwrap_err().to_string();
        assert!(error.contains("`a`: unknown field `a`"), "{error}");
    }
}
