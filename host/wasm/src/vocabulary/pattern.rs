//! Patterns over names of environments and routes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wildmatch::WildMatch;
use yardarm_core::EnvironmentLabel;

/// A pattern in which `*` matches any text and `?` any one character. Cheap to clone.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    text: Box<str>,
    pattern: WildMatch,
}

impl Pattern {
    /// Returns whether a text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.pattern.matches(text)
    }

    /// Returns whether the name of an environment matches, or its vendor and name as `vendor/name`.
    pub(crate) fn matches_environment(&self, label: &EnvironmentLabel) -> bool {
        self.matches_either(label.name(), &label.to_string())
    }

    /// Returns whether the name of an environment matches, or `full`, its vendor and name.
    pub(crate) fn matches_either(&self, name: &str, full: &str) -> bool {
        self.matches(name) || self.matches(full)
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(Arc::new(Compiled { text: text.into(), pattern: WildMatch::new(text) }))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.text.fmt(f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(text.as_str()))
    }
}
