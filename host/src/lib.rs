//! Yardarm: a feature-flag relay gateway that its users extend with WebAssembly plugins.
//!
//! Four walks say how things travel through; ARCHITECTURE.md tells them at length.
//!
//! * A **flag patch** comes down `launchdarkly/upstream/stream.rs`, becomes a change, passes payload plugins, is
//!   swapped in and announced by `core/environment.rs`, and is written to every stream by `listener/fanout`.
//! * An **SDK's stream** is accepted by [`listener`], checked by `launchdarkly/downstream/auth.rs`, opened by
//!   `downstream/stream.rs` and handed to the fan-out threads once its head is on the wire.
//! * An **event** is answered 202 by `downstream/events.rs`, filtered in `core/intake.rs`, queued in
//!   `core/outbox.rs` and posted by `upstream/events.rs`.
//! * A **plugin file** is noticed, checked, compiled and swapped in by the crate `yardarm-wasm`, which keeps
//!   `core/hooks.rs` up to date.
#![forbid(unsafe_code)]

pub mod config;

mod exit;

pub mod logging;

pub mod capacity;

pub mod listener;

mod vendors;

pub mod request_metrics;

mod state;

pub mod layers;

pub mod telemetry;

pub mod admin;

mod startup;

pub mod gateway;

mod process;

#[cfg(feature = "demo")]
pub mod demo;

pub mod cli;

pub use self::config::Config;
pub use self::gateway::Gateway;
pub use yardarm_core::Supervisor;
