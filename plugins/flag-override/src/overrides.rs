//! The configuration: overrides by environment.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_plugin::{PluginError, Result, matches};

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Overrides by environment: patterns for names or `vendor/name`, in which `*` and `?` match any text and any
    /// character.
    environments: BTreeMap<String, Entry>,
}

/// Overrides of the environments that match one pattern.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Entry {
    /// Values by flag.
    pin: BTreeMap<String, Box<RawValue>>,
    /// Flags that SDKs must not see, as keys or patterns.
    hide: Vec<String>,
}

/// Overrides of one environment.
#[derive(Debug)]
pub(crate) struct Overrides<'a> {
    pin: BTreeMap<&'a str, &'a str>,
    hide: Vec<&'a str>,
}

impl Config {
    /// Rejects contradictions.
    pub(crate) fn check(&self) -> Result<()> {
        for (environment, entry) in &self.environments {
            if let Some(key) = entry.pin.keys().find(|key| entry.hide.iter().any(|pattern| matches(pattern, key))) {
                let text = format_args!("`environments.{environment}`: `{key}` is both pinned and hidden");
                return Err(PluginError::invalid_input(text));
            }
        }
        Ok(())
    }

    /// Returns the overrides of an environment, from all entries that match: hidden flags add up and win over pins, and
    /// of several values for one flag that of the longest pattern counts.
    pub(crate) fn of(&self, vendor: &str, environment: &str) -> Overrides<'_> {
        let full = format!("{vendor}/{environment}");
        let fits = |pattern: &str| matches(pattern, environment) || matches(pattern, &full);
        let mut entries: Vec<_> = self.environments.iter().filter(|(pattern, _)| fits(pattern)).collect();
        // Of patterns of the same length the last in alphabetical order counts, since the sort is stable.
        entries.sort_by_key(|(pattern, _)| pattern.len());
        let pins = entries.iter().flat_map(|(_, entry)| &entry.pin);
        Overrides {
            pin: pins.map(|(key, value)| (key.as_str(), value.get())).collect(),
            hide: entries.iter().flat_map(|(_, entry)| &entry.hide).map(String::as_str).collect(),
        }
    }
}

impl<'a> Overrides<'a> {
    /// Returns pinned flags and the JSON texts of their values.
    pub(crate) fn pins(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pin.iter().map(|(key, value)| (*key, *value))
    }

    /// Returns the hidden flags that are named by key.
    pub(crate) fn hidden_keys(&self) -> impl Iterator<Item = &'a str> {
        self.hide.iter().copied().filter(|key| !is_pattern(key))
    }

    /// Returns whether flags are hidden by pattern.
    pub(crate) fn has_patterns(&self) -> bool {
        self.hide.iter().any(|key| is_pattern(key))
    }

    /// Returns whether a flag is hidden.
    pub(crate) fn hides(&self, key: &str) -> bool {
        self.hide.iter().any(|pattern| matches(pattern, key))
    }
}

/// Returns the error for flag data that is withheld: the plugin can see the flag's key, but not its content.
pub(crate) fn no_flag_data() -> PluginError {
    PluginError::invalid_input("no flag data: pinning needs the grant `flag-data`")
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;

    use super::*;
    use crate::FlagOverride;

    #[test]
    fn the_longest_pattern_decides() {
        let config = r#"{"environments": {
            "*": {"pin": {"a": 1, "b": 1}, "hide": ["x"]},
            "prod-eu": {"pin": {"a": 3}},
            "prod*": {"pin": {"a": 2}, "hide": ["y-*"]}
        }}"#;
        let config: Config = serde_json::from_str(config).unwrap();
        let pins = |environment| config.of("launchdarkly", environment).pins().collect::<Vec<_>>();
        assert_eq!(pins("prod-eu"), [("a", "3"), ("b", "1")]);
        assert_eq!(pins("prod-us"), [("a", "2"), ("b", "1")]);
        assert_eq!(pins("test"), [("a", "1"), ("b", "1")]);
        let overrides = config.of("launchdarkly", "prod-us");
        assert!(overrides.hides("x") && overrides.hides("y-1") && !overrides.hides("y"));
        assert_eq!(overrides.hidden_keys().collect::<Vec<_>>(), ["x"]);
        assert!(overrides.has_patterns() && !config.of("launchdarkly", "test").has_patterns());
    }

    #[test]
    fn a_configuration_that_cannot_work_is_refused() {
        for (config, expected) in [
            ("{}", "missing field `environments`"),
            (r#"{"environments": {"prod*": {"pins": {}}}}"#, "`environments.prod*.pins`: unknown field"),
            (r#"{"environments": {"prod*": {"hide": "x"}}}"#, "`environments.prod*.hide`"),
            (r#"{"environments": {"p": {"pin": {"a-1": 1}, "hide": ["a-*"]}}}"#, "`a-1` is both pinned and hidden"),
        ] {
            let Err(PluginError::InvalidInput(text)) = from_config::<FlagOverride>(config) else {
                panic!("accepted: {config}");
            };
            assert!(text.contains(expected), "{config}: {text}");
        }
    }

    #[test]
    fn the_binding_file_is_good() {
        let binding: toml::Table = include_str!("../flag-override.toml").parse().unwrap();
        let config = serde_json::to_string(&binding["plugin"]["config"]).unwrap();
        assert!(from_config::<FlagOverride>(&config).is_ok());
    }
}
