//! From flag and target to variation: pure, compiled once per data set (section 7 of the compatibility page).
//!
//! The rules are those of Harness's Go SDK as its own relay uses it, with the corrections that the page asks for:
//! rules in order of priority, and cycles of prerequisites or segments that end.

mod attribute;
mod bucket;
mod clause;
mod compiled;
mod outcome;
mod ruleset;
mod run;
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
