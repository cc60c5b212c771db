//! Flags, segments and targets as on the wire (section 2 of the compatibility page).
//!
//! Items are passed on with every property they came with, in the shape that SDKs can read, into which they are brought once,
//! when an item is read.

mod flag;
mod segment;
mod shape;
mod target;

use bytes::Bytes;
use serde_json::Value;

pub use self::flag::{
    Clause, Distribution, Flag, Prerequisite, Rule, Serve, Variation, VariationMap, WeightedVariation,
};
pub use self::segment::{GroupRule, Segment};
pub use self::target::Target;

/// An item that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {source}")]
pub struct Malformed {
    kind: &'static str,
    source: serde_json::Error,
}

/// An item as SDKs are sent it, written once: alone with the line end that closes every JSON answer of the vendor's relay,
/// and in lists without. Both share their bytes.
#[derive(Debug, Clone)]
pub struct Text {
    line: Bytes,
    json: Bytes,
}

impl Text {
    fn new(value: &Value) -> Result<Self, serde_json::Error> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        let line = Bytes::from(line);
        Ok(Self { json: line.slice(..line.len() - 1), line })
    }

    /// With a line end.
    #[must_use]
    pub fn line(&self) -> &Bytes {
        &self.line
    }

    /// Without.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }
}

/// Largest version that is accepted: 2^53 - 1, the largest whole number that every JSON reader of the vendor's SDKs keeps
/// exactly. A larger one would make each later change of an item look old.
pub const MAX_VERSION: i64 = (1 << 53) - 1;

/// The version that a value is, if it is one.
#[must_use]
pub fn as_version(value: &Value) -> Option<i64> {
    let number = value.as_f64().filter(|it| it.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "a fraction is excluded, and the cast saturates")]
    Some(number as i64).filter(|it| (0..=MAX_VERSION).contains(it))
}

/// Reads the version of an item; `null` is the same as 0.
pub(crate) fn version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = <Value as serde::Deserialize>::deserialize(deserializer)?;
    if value.is_null() {
        return Ok(0);
    }
    let problem = || serde::de::Error::custom(format!("`version` is not a whole number from 0 to {MAX_VERSION}"));
    as_version(&value).ok_or_else(problem)
}

/// Reads how many there are of something; `None` for what is no such number, which is as good as absent.
pub fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = <Value as serde::Deserialize>::deserialize(deserializer)?;
    Ok(as_version(&value).and_then(|it| u64::try_from(it).ok()))
}

/// Reads an optional property for which `null` is the same as nothing.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
