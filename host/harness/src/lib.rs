//! Everything that is Harness Feature Flags': its data, how its flags evaluate.
#![forbid(unsafe_code)]

pub mod evaluation;
pub mod model;
