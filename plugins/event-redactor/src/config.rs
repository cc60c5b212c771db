//! The configuration, and the rules that follow from it.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use yardarm_plugin::{PluginError, Result, json};

use crate::pattern::{Match, Pattern};

/// Shorter salts can be guessed together with the values.
const SHORTEST_SALT: usize = 16;

/// Attributes that a context requires, or that define how to read it.
const ESSENTIAL: [&str; 4] = ["key", "kind", "anonymous", "_meta"];

/// The configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Attributes to remove.
    pub(crate) drop: Vec<Pattern>,
    /// Attributes to replace by a hash.
    pub(crate) hash: Vec<Pattern>,
    /// Key of the hash.
    pub(crate) salt: String,
    /// Kinds of events to drop entirely; `*` and `?` match any text and any character.
    pub(crate) drop_kinds: Vec<String>,
    /// Whether to keep attributes that a context itself declares private; by default they are removed.
    pub(crate) keep_declared_private: bool,
}

/// The validated configuration.
pub(crate) struct Rules {
    drop: Vec<Pattern>,
    hash: Vec<Pattern>,
    hmac: Hmac<Sha256>,
    pub(crate) drop_kinds: Vec<String>,
    pub(crate) declared_private: bool,
}

/// The action for an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Keep it.
    Keep,
    /// Keep it, but redact inside it.
    LookInside,
    /// Remove it.
    Drop,
    /// Replace it by a hash.
    Hash,
}

impl Rules {
    /// Validates a configuration.
    pub(crate) fn new(config: Config) -> Result<Self> {
        for (index, pattern) in config.drop.iter().enumerate() {
            if let Some(name) = pattern.only_name().filter(|name| ESSENTIAL.contains(name)) {
                let text = format_args!("`drop[{index}]`: a context cannot do without `{name}`; `key` can be hashed");
                return Err(PluginError::invalid_input(text));
            }
        }
        if !config.hash.is_empty() && config.salt.len() < SHORTEST_SALT {
            let text =
                format_args!("`salt`: hashes of what can be guessed need a secret of at least {SHORTEST_SALT} bytes");
            return Err(PluginError::invalid_input(text));
        }
        let hmac = Hmac::new_from_slice(config.salt.as_bytes()).map_err(PluginError::internal)?;
        Ok(Self {
            drop: config.drop,
            hash: config.hash,
            hmac,
            drop_kinds: config.drop_kinds,
            declared_private: !config.keep_declared_private,
        })
    }

    /// Returns whether there is anything to redact inside events.
    pub(crate) fn redact(&self) -> bool {
        self.declared_private || !self.drop.is_empty() || !self.hash.is_empty()
    }

    /// Returns the action for the attribute `name`, inside the one at `path` unless that is empty, of contexts of a
    /// kind. Dropping wins over hashing.
    pub(crate) fn action(&self, kind: &str, path: &[&str], name: &str) -> Action {
        let best = |patterns: &[Pattern]| patterns.iter().map(|pattern| pattern.compare(kind, path, name)).max();
        let (drop, hash) = (best(&self.drop), best(&self.hash));
        let essential = is_essential(path, name);
        if drop == Some(Match::Whole) && !essential {
            Action::Drop
        } else if hash == Some(Match::Whole) && (!essential || name == "key") {
            Action::Hash
        } else if drop.max(hash) == Some(Match::Inside) && !essential {
            Action::LookInside
        } else {
            Action::Keep
        }
    }

    /// Returns the hash of a value as JSON text: equal values have equal hashes as long as the salt is unchanged.
    /// `null` is not hashed.
    pub(crate) fn hash(&self, value: &str) -> String {
        let value = value.trim();
        if value == "null" {
            return value.to_owned();
        }
        let mut hmac = self.hmac.clone();
        // A string is hashed by its value, however it is escaped.
        match json::text(value) {
            Some(text) => hmac.update(text.as_bytes()),
            None => hmac.update(value.as_bytes()),
        }
        let mut text = String::with_capacity(18);
        text.push('"');
        for byte in hmac.finalize().into_bytes().iter().take(8) {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('"');
        text
    }
}

/// Returns whether a context requires this attribute.
pub(crate) fn is_essential(path: &[&str], name: &str) -> bool {
    path.is_empty() && ESSENTIAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;

    use super::*;
    use crate::EventRedactor;

    fn rules(config: &str) -> Rules {
        Rules::new(serde_json::from_str(config).unwrap()).unwrap()
    }

    #[test]
    fn dropping_wins_and_essentials_stay() {
        let rules = rules(r#"{"drop": ["email", "*.a.b"], "hash": ["*.*"], "salt": "0123456789abcdef"}"#);
        for (path, expected) in [
            (&["email"][..], Action::Drop),
            (&["a"], Action::Hash),
            (&["a", "b"], Action::Drop),
            (&["a", "c"], Action::Keep),
            (&["key"], Action::Hash),
            (&["kind"], Action::Keep),
            (&["_meta"], Action::Keep),
            (&["anonymous"], Action::Keep),
        ] {
            let Some((name, outer)) = path.split_last() else { panic!("no path") };
            assert_eq!(rules.action("user", outer, name), expected, "{path:?}");
        }
        let all = r#"{"drop": ["*"]}"#;
        assert_eq!(self::rules(all).action("user", &[], "key"), Action::Keep);
        assert_eq!(self::rules(all).action("user", &[], "name"), Action::Drop);
    }

    #[test]
    fn a_hash_depends_on_value_and_salt_only() {
        let first = rules(r#"{"hash": ["email"], "salt": "0123456789abcdef"}"#);
        let second = rules(r#"{"hash": ["email"], "salt": "0123456789abcdeF"}"#);
        assert_eq!(first.hash(r#""a@example.com""#), first.hash(r#" "\u0061@example.com""#));
        assert_ne!(first.hash("\"a\""), first.hash("\"b\""));
        assert_ne!(first.hash("\"a\""), second.hash("\"a\""));
        // echo -n a@example.com | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(first.hash(r#""a@example.com""#), HASH);
        assert_eq!(first.hash("null"), "null");
    }

    const HASH: &str = "\"87c8707b0c618068\"";

    #[test]
    fn a_configuration_that_cannot_work_is_refused() {
        for (config, expected) in [
            (r#"{"drops": []}"#, "`drops`: unknown field"),
            (r#"{"drop": ["user.key"]}"#, "`drop[0]`: a context cannot do without `key`"),
            (r#"{"drop": ["email", ""]}"#, "`drop[1]`"),
            (r#"{"hash": ["email"]}"#, "`salt`"),
            (r#"{"hash": ["email"], "salt": "short"}"#, "`salt`"),
        ] {
            let Err(PluginError::InvalidInput(text)) = from_config::<EventRedactor>(config) else {
                panic!("accepted: {config}");
            };
            assert!(text.contains(expected), "{config}: {text}");
        }
    }

    #[test]
    fn the_binding_file_is_good() {
        let binding: toml::Table = include_str!("../event-redactor.toml").parse().unwrap();
        let config = serde_json::to_string(&binding["plugin"]["config"]).unwrap();
        assert!(from_config::<EventRedactor>(&config).is_ok());
    }
}
