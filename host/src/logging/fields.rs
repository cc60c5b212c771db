//! Fields of spans and events, as they are recorded.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};

/// Named values in the order in which they were recorded; a second value of a name replaces the first.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, FieldValue)>);

/// A value, with what both formats need to know of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FieldValue {
    /// A string, which the text format puts between quotation marks.
    Text(String),
    /// The output of `Display` or `Debug`.
    Formatted(String),
    /// A number or boolean.
    Scalar(Value),
}

impl Fields {
    /// Returns all fields.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Returns the value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&FieldValue> {
        self.iter().find(|(present, _)| *present == name).map(|(_, value)| value)
    }

    /// Adds the fields whose names are not there yet.
    pub(super) fn add_missing(&mut self, others: &Self) {
        for (name, value) in others.iter() {
            if self.get(name).is_none() {
                self.0.push((name, value.clone()));
            }
        }
    }

    fn set(&mut self, field: &Field, value: FieldValue) {
        // Records of the crate `log` repeat what the metadata contains in such fields.
        if field.name().starts_with("log.") {
            return;
        }
        let name = field.name().trim_start_matches("r#");
        match self.0.iter_mut().find(|(present, _)| *present == name) {
            Some((_, present)) => *present = value,
            None => self.0.push((name, value)),
        }
    }
}

impl FieldValue {
    /// Returns the value in JSON.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Text(text) | Self::Formatted(text) => text.as_str().into(),
            Self::Scalar(value) => value.clone(),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, FieldValue::Scalar(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, FieldValue::Scalar(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, FieldValue::Scalar(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, FieldValue::Scalar(value.into()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, FieldValue::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, FieldValue::Formatted(format!("{value:?}")));
    }
}
