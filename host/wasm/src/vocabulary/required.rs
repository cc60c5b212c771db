//! Whether the hooks of a binding fail while its plugin does not run.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// Whether a plugin that does not run counts as a failure; `true`, `false` or `"always"` in a binding file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// Never.
    No,
    /// At the start of the gateway, and once the plugin has been active.
    Yes,
    /// From when the binding file is there.
    Always,
}

impl Required {
    /// The word for [`Self::Always`].
    const ALWAYS: &'static str = "always";

    /// Reads the value of a key; `None` if it is another one.
    pub(crate) fn of_toml(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::Boolean(is_required) => Some((*is_required).into()),
            toml::Value::String(text) if text == Self::ALWAYS => Some(Self::Always),
            _ => None,
        }
    }
}

impl From<bool> for Required {
    fn from(is_required: bool) -> Self {
        if is_required { Self::Yes } else { Self::No }
    }
}

impl Serialize for Required {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Yes => serializer.serialize_bool(true),
            Self::Always => serializer.serialize_str(Self::ALWAYS),
        }
    }
}

impl<'de> Deserialize<'de> for Required {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RequiredVisitor)
    }
}

struct RequiredVisitor;

impl Visitor<'_> for RequiredVisitor {
    type Value = Required;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`true`, `false` or `\"{}\"`", Required::ALWAYS)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Required, E> {
        Ok(value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Required, E> {
        if value == Required::ALWAYS {
            return Ok(Required::Always);
        }
        Err(E::invalid_value(de::Unexpected::Str(value), &self))
    }
}
