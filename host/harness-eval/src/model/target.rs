//! A target: a user, or anything else that flags are evaluated for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::wire::or_default;
use crate::lenient_json;

/// A user, or anything else that flags are evaluated for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Identifier; empty if it is absent.
    #[serde(default, deserialize_with = "or_default")]
    pub identifier: String,
    /// Display name; the identifier if it is absent.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Whether the identifier is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
    /// Attributes, of any JSON type.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
}

impl Target {
    /// Reads entries one by one; returns the targets, and the number of entries that cannot be read. Entries without an
    /// identifier count as unreadable, because they could not be found again.
    #[must_use]
    pub fn read_all(entries: &[&RawValue]) -> (Vec<Self>, usize) {
        let read = |it: &&RawValue| lenient_json::from_slice::<Self>(it.get().as_bytes()).ok();
        let targets: Vec<_> = entries.iter().filter_map(read).filter(|it| !it.identifier.is_empty()).collect();
        let unreadable = entries.len() - targets.len();
        (targets, unreadable)
    }

    /// Returns the approximate number of bytes of text in it.
    #[must_use]
    pub fn size(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + size(value));
        self.identifier.len() + self.name.len() + attributes.sum::<usize>()
    }

    /// Returns a target with nothing but an identifier.
    #[must_use]
    pub fn unknown(identifier: &str) -> Self {
        Self { identifier: identifier.to_owned(), ..Self::default() }
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|it| 1 + size(it)).sum(),
        Value::Object(properties) => properties.iter().map(|(name, it)| name.len() + size(it)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}
