//! Flags, segments and targets as on the wire (F058 to F060, F067).
//!
//! Items are forwarded with every property they came with. They are brought into the shape that SDKs can read once, when an
//! item is read.

mod flag;
mod segment;
mod shape;
mod target;
mod text;
mod wire;

pub use self::flag::{
    Clause, Distribution, Flag, Prerequisite, Rule, Serve, Variation, VariationMap, WeightedVariation,
};
pub use self::segment::{GroupRule, Segment};
pub use self::target::Target;
pub use self::text::Text;
pub use self::wire::{MAX_VERSION, Malformed, as_version, count, or_default};
