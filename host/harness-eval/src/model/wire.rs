//! Properties of items on the wire: versions, counts, `null`, and the error for an item that cannot be used.

use serde_json::Value;

/// An item that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {source}")]
pub struct Malformed {
    pub(super) kind: &'static str,
    pub(super) source: serde_json::Error,
}

/// Largest version that is accepted: 2^53 - 1, the largest integer that every JSON reader of the vendor's SDKs represents
/// exactly. A larger one would make each later change of an item look old.
pub const MAX_VERSION: i64 = (1 << 53) - 1;

/// Returns the version that a value holds, if it holds one.
#[must_use]
pub fn as_version(value: &Value) -> Option<i64> {
    let number = value.as_f64().filter(|it| it.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "a fraction is excluded, and the cast saturates")]
    Some(number as i64).filter(|it| (0..=MAX_VERSION).contains(it))
}

/// Reads the version of an item; `null` is the same as 0.
pub(super) fn version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = <Value as serde::Deserialize>::deserialize(deserializer)?;
    if value.is_null() {
        return Ok(0);
    }
    let problem = || serde::de::Error::custom(format!("`version` is not a whole number from 0 to {MAX_VERSION}"));
    as_version(&value).ok_or_else(problem)
}

/// Reads a count; `None` if it is absent, or no integer from 0 to [`MAX_VERSION`].
pub fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = <Value as serde::Deserialize>::deserialize(deserializer)?;
    Ok(as_version(&value).and_then(|it| u64::try_from(it).ok()))
}

/// Reads an optional property; `null` is the same as absent.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
