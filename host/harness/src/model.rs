//! Flags, segments and targets as on the wire (section 2 of the compatibility page).
//!
//! Items are passed on with every property they came with; what SDKs cannot do without is filled in once, when an item
//! is read.

mod flag;
mod segment;
mod target;

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

/// Reads an optional property for which `null` is the same as nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de> + Default,
{
    Ok(<Option<T> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}
