//! Loads a [`Config`] from a file, environment variables and arguments, and reports all errors at once.

use std::path::{Path, PathBuf};

use yardarm_core::settings::{CompatOverride, Effective, Key, Reader, SettingError, Values};
use yardarm_wasm::Compiler;

use super::document::Document;
use super::error::{ConfigError, left_empty};
use super::{AdminAccess, Config, keys};

/// The file that is read if none is named and it exists.
const DEFAULT_FILE: &str = "yardarm.toml";

/// Sources of the configuration besides the file, and what no source can set.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Values translated from the settings of another program; variables and arguments take precedence.
    pub overrides: Vec<CompatOverride>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
    /// Arguments: key path, name of the argument, text.
    pub arguments: Vec<(&'static str, &'static str, String)>,
    /// Where plugins are compiled: by default in this process, which is meant for tests and embedders.
    pub compiler: Compiler,
}

impl Overrides {
    /// Returns the overrides for the program `yardarm`, which is its own compiler of plugins.
    pub(crate) fn of_program(variables: Vec<(String, String)>) -> Self {
        Self { variables, compiler: Compiler::this_program(), ..Self::default() }
    }

    /// Returns the value of an environment variable.
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.iter().find(|(it, _)| it == name).map(|(_, text)| text.clone())
    }
}

/// A valid configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Every value with its source, secrets as `***`.
    pub effective: Vec<Effective>,
    /// Problems that do not prevent a start.
    pub warnings: Vec<String>,
    values: Values,
}

impl Loaded {
    /// Returns the text of a configuration file with the same settings. It contains secrets that no variable has.
    #[must_use]
    pub fn to_document(&self) -> String {
        self.values.to_document(&keys())
    }

    /// Returns the keys whose values differ from those of `before`, in order. A value that is set to its default
    /// differs from an unset one only if being set has a meaning of its own.
    #[must_use]
    pub fn changed_keys(&self, before: &Self) -> Vec<String> {
        self.values.changed_keys(&before.values, &keys())
    }
}

/// Loads a configuration. Without `file`, `yardarm.toml` in the working directory is read if it exists.
///
/// # Errors
/// When the file or a value cannot be used, or no vendor is configured.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    put_together(read_document(file)?.as_ref(), overrides)
}

/// Returns the file that [`load`] reads.
#[must_use]
pub fn file_to_read(file: Option<&Path>) -> Option<PathBuf> {
    let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|it| it.exists());
    file.map(Path::to_owned).or_else(default)
}

/// Loads a configuration from the text of a file; `path` appears in errors only.
///
/// # Errors
/// When the text or a value cannot be used, or no vendor is configured.
pub fn load_text(path: &Path, text: String, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    put_together(Some(&Document::parse(path, text)?), overrides)
}

/// Loads a configuration without any file, for modes that replace another program, which reads none.
///
/// # Errors
/// When a value cannot be used, or no vendor is configured.
pub fn load_without_file(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    put_together(None, overrides)
}

/// Loads what commands have to know of the admin listener of a running gateway. Errors elsewhere in the configuration do
/// not matter to them, nor does a secret that is only readable by the gateway.
///
/// # Errors
/// When the file cannot be read, or the address cannot be used.
pub(crate) fn load_admin(file: Option<&Path>, overrides: &Overrides) -> Result<AdminAccess, ConfigError> {
    let keys = keys();
    let (values, _) = collect(read_document(file)?.as_ref(), overrides, &keys);
    AdminAccess::read(&values, &keys, &|name| overrides.variable(name)).map_err(ConfigError::Values)
}

/// Reads a file, or `yardarm.toml` in the working directory if it exists.
fn read_document(file: Option<&Path>) -> Result<Option<Document>, ConfigError> {
    match file {
        Some(path) => Document::read(path).map(Some),
        None => match Document::read(Path::new(DEFAULT_FILE)) {
            Err(ConfigError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            document => document.map(Some),
        },
    }
}

/// Collects the values of all sources, and the errors of the file.
fn collect(document: Option<&Document>, overrides: &Overrides, keys: &[Key]) -> (Values, Vec<SettingError>) {
    let mut values = Values::default();
    let mut errors = Vec::new();
    if let Some(document) = document {
        let place = |key: &str| document.place(key);
        values.add_document(&document.value, &place, keys).unwrap_or_else(|found| errors = found);
    }
    values.add_overrides(overrides.overrides.iter().cloned());
    values.add_variables(overrides.variables.iter().cloned(), keys);
    for (path, argument, text) in &overrides.arguments {
        values.add_argument(path, argument, text.clone());
    }
    (values, errors)
}

fn put_together(document: Option<&Document>, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let keys = keys();
    let (values, mut errors) = collect(document, overrides, &keys);
    let lookup = |name: &str| overrides.variable(name);
    let mut reader = Reader::new(&values, &keys, &lookup);
    let config = Config::read(&mut reader, overrides.compiler.clone());
    let sides = [("launchdarkly", config.launchdarkly.is_some()), ("harness", config.harness.is_some())];
    let without_effect = sides.into_iter().filter(|(side, is_read)| !is_read && reader.has_section(side));
    let mut warnings: Vec<_> = without_effect
        .map(|(side, _)| {
            let empty = left_empty(values.empty());
            format!("settings of `{side}` have no effect, because they name no environments{empty}")
        })
        .collect();
    errors.extend(reader.into_errors());
    // Errors of the file in the order of its lines, then those of variables and of missing values.
    errors.sort_by(|left, right| (left.place.is_none(), &left.place).cmp(&(right.place.is_none(), &right.place)));
    if !errors.is_empty() {
        return Err(ConfigError::Values(errors));
    }
    if config.launchdarkly.is_none() && config.harness.is_none() {
        return Err(ConfigError::NoVendor(values.empty().to_vec()));
    }
    let warning = |(name, nearest): (String, Option<String>)| match nearest {
        Some(nearest) => format!("variable {name} sets nothing; did you mean {nearest}?"),
        None => format!("variable {name} sets nothing"),
    };
    warnings.extend(values.unknown_variables(&keys).into_iter().map(warning));
    Ok(Loaded { config, effective: values.effective(&keys), warnings, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        load_text(Path::new("y.toml"), text.to_owned(), &Overrides { variables, ..Overrides::default() })
    }

    #[test]
    fn a_file_with_references_and_variables_is_read() {
        let loaded = read(
            r#"
            [server]
            listen = "127.0.0.1:0"
            [launchdarkly]
            stream_uri = "http://127.0.0.1:1/base/"
            send_events = true
            events_flush_interval = "100ms"
            [[launchdarkly.environments]]
            name = "production"
            sdk_key = { env = "LD_SDK_KEY" }
            mobile_key = "mob-1"
            env_id = "6488674dc2ea1d6673731ba2"
            filters = ["checkout"]
            allowed_origins = ["https://shop.example"]
            "#,
            &[("LD_SDK_KEY", "sdk-canary"), ("YARDARM_LOG_FORMAT", "json")],
        )
        .unwrap();
        let side = loaded.config.launchdarkly.as_ref().unwrap();
        assert_eq!(side.stream_uri, "http://127.0.0.1:1/base");
        let yardarm_launchdarkly::EnvironmentSource::Configured(environments) = &side.environments else {
            panic!("{:?}", side.environments)
        };
        assert_eq!(environments[0].credentials.sdk_key().expose(), "sdk-canary");
        assert_eq!(loaded.config.log.format, crate::config::LogFormat::Json);
        assert!(!format!("{loaded:?}").contains("canary"), "secrets have no printable form");
    }

    #[test]
    fn every_error_is_reported_at_once() {
        let error =
            read("[server]\nlisten = \"x\"\nlisen = 1\n[[launchdarkly.environments]]\nsdk_key = \"a b\"\n", &[])
                .unwrap_err();
        let expected = [
            "4 values of the configuration cannot be used:",
            "  `server.listen` (y.toml, line 2, column 1): must be an address with a port, such as `127.0.0.1:8040`, not `x`",
            "  `server.lisen` (y.toml, line 3, column 1): there is no such key; did you mean `server.listen`?",
            "  `launchdarkly.environments[0].sdk_key` (y.toml, line 5, column 1): contains characters that no key has",
            "  `launchdarkly.environments[0].name`: is required",
        ];
        assert_eq!(error.to_string().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_error_without_a_vendor_names_the_remedy() {
        assert!(read("", &[]).unwrap_err().to_string().contains("yardarm demo"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_causes_a_panic(text in "\\PC*") {
            let _ = read(&text, &[]);
        }
    }
}
