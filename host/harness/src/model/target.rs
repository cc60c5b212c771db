//! Who flags are evaluated for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::or_default;

/// A user, or whatever flags are evaluated for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Identifier.
    pub identifier: String,
    /// Name for people; the identifier where there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Whether the identifier is made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
    /// Attributes, of any JSON type.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
}

impl Target {
    /// A target of which nothing but the identifier is known.
    #[must_use]
    pub fn unknown(identifier: &str) -> Self {
        Self { identifier: identifier.to_owned(), ..Self::default() }
    }
}
