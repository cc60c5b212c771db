//! Flags, segments and targets as on the wire (section 2 of the compatibility page).
//!
//! Items are passed on with every property they came with, in the shape that SDKs can read, into which they are brought once,
//! when an item is read.

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
