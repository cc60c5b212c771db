//! Flags, segments and targets of Harness, and how a flag is evaluated for a target.
//!
//! Everything here is pure: no I/O, no tasks, no logs. Reading order: [`lenient_json`] reads JSON as the vendor's relay does;
//! [`model`] holds items as they are on the wire; [`evaluation`] compiles them into a [`evaluation::Ruleset`], which
//! decides what each flag serves.

#![forbid(unsafe_code)]

pub mod lenient_json;

pub mod model;

pub mod evaluation;
