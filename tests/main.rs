//! Black-box tests of the gateway.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test ends, and a skipped test prints a note")]

mod certificate;
mod docs;
mod expected;
mod flags;
mod fleet;
mod gateway;
mod harness;
mod house;
mod launchdarkly;
mod plugins;
mod program;
mod running;
mod sdk;
mod sdks;
