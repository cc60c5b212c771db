//! Flags, segments and contexts of LaunchDarkly, and the evaluation of flags: pure computation, with no I/O.
//!
//! Reading order: [`model`] parses flags, segments and contexts; [`evaluation`] compiles flags and segments and evaluates them.
#![forbid(unsafe_code)]

pub mod model;

pub mod evaluation;
