//! Evaluates a flag for a target: pure, compiled once per data set (F099 to F107).
//!
//! Flags are evaluated as by Harness' Go SDK, which its own relay uses, with two corrections: rules are in order of priority,
//! and cycles of prerequisites or segments end.

mod attribute;
mod bucket;
mod clause;
mod compiled;
mod outcome;
mod ruleset;
mod run;
mod table;
mod walk;

pub use self::bucket::bucket;
pub use self::outcome::{EvaluationError, Served};
pub use self::ruleset::Ruleset;

#[cfg(test)]
mod deep_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
