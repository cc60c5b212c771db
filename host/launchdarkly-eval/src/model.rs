//! Flags, segments and contexts as they are on the wire.
//!
//! A [`Flag`] or [`Segment`] is parsed once, checked, and kept with its original bytes: SDKs are served those bytes, so
//! properties that this version does not know survive. A [`Context`] is what flags are evaluated for.

mod audience;
mod context;
mod flag;
mod item;
mod json;
mod keys;
mod reference;
mod rule;
mod segment;
mod value;

pub use self::audience::Audience;
pub use self::context::{Context, ContextError, ContextKeys};
pub use self::flag::{Flag, FlagBody, FlagFacts};
pub use self::item::{Body, Item, ItemFacts};
pub use self::json::syntax::SyntaxError;
pub use self::json::{JsonReader, MAX_DEPTH, Mismatch, has_number_out_of_range, is_deeper_than, normalize_json};
pub use self::reference::{Reference, ReferenceError};
pub use self::segment::{Segment, SegmentBody, SegmentFacts};

pub use self::rule::as_version;
pub use self::value::write_text;

pub(crate) use self::context::Part;
pub(crate) use self::flag::{Choice, Rule, Target};
pub(crate) use self::json::Type;
pub(crate) use self::keys::{KeySet, Text};
pub(crate) use self::rule::{Clause, Literal, Operator, Rollout};
pub(crate) use self::segment::KindKeys;
pub(crate) use self::value::{Value, as_integer};

use std::fmt::{self, Write as _};

use thiserror::Error;

/// Largest version that is accepted: 2^53 - 1, the largest whole number that every JSON reader of the vendor's SDKs keeps
/// exactly. A larger one would make each later change of an item look old.
pub const MAX_VERSION: i64 = (1 << 53) - 1;

/// A flag or segment in which a property has the wrong JSON type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}expected {expected}, got {found}", place = Place(path))]
pub struct Malformed {
    /// Path of the value from the outside in: `.rules`, `[3]`, `.id`.
    path: String,
    expected: Type,
    found: Type,
}

impl Malformed {
    /// Whether the error is in the version of the item.
    #[must_use]
    pub fn is_version(&self) -> bool {
        self.path == ".version"
    }

    /// The same error, seen from the object whose property `name` it is in.
    fn in_property(mut self, name: &str) -> Self {
        self.path.insert_str(0, name);
        self.path.insert(0, '.');
        self
    }

    /// The same error, seen from the array whose element it is in.
    fn in_element(mut self, index: usize) -> Self {
        let mut step = String::new();
        // Writing to a string does not fail.
        let _ = write!(step, "[{index}]");
        self.path.insert_str(0, &step);
        self
    }
}

impl From<Mismatch> for Malformed {
    fn from(mismatch: Mismatch) -> Self {
        Self { path: String::new(), expected: mismatch.expected, found: mismatch.found }
    }
}

/// The path as a prefix of the message.
struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim_start_matches('.') {
            "" => Ok(()),
            path => write!(f, "property `{path}`: "),
        }
    }
}
