//! From flag and target to variation: pure, compiled once per data set (section 7 of the compatibility page).
//!
//! The rules are those of Harness's Go SDK as its own relay uses it, with the corrections that the page asks for:
//! rules in order of priority, and cycles of prerequisites or segments that end.

mod attribute;
mod bucket;
mod clause;
mod ruleset;
mod run;
mod walk;

pub use self::bucket::bucket;
pub use self::ruleset::Ruleset;

/// What a flag serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served<'a> {
    /// Identifier of the variation.
    pub identifier: &'a str,
    /// Its value as text, whatever the kind.
    pub value: &'a str,
}

/// Why a flag serves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// There is no such flag.
    #[error("feature config not found")]
    UnknownFlag,
    /// What is to be served is not among its variations.
    #[error("variation not found: {0}")]
    UnknownVariation(String),
    /// Nothing is to be served.
    #[error("error while evaluating flag: {0}")]
    NothingServed(String),
}

#[cfg(test)]
mod deep_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
