//! Flags, segments and targets as on the wire (section 2 of the compatibility page).
//!
//! Items are passed on with every property they came with; what SDKs cannot do without is filled in once, when an item
//! is read.

mod flag;
mod segment;
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
pub(crate) struct Text {
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
    pub(crate) fn line(&self) -> &Bytes {
        &self.line
    }

    /// Without.
    pub(crate) fn json(&self) -> &Bytes {
        &self.json
    }
}

/// Reads an optional property for which `null` is the same as nothing.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
