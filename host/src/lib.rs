//! Yardarm: a feature-flag relay gateway that its users extend with WebAssembly plugins.
//!
//! This crate is the program: commands, configuration, assembly and listeners. Each module uses only modules above it:
//! [`config`] reads settings; [`logging`] and [`telemetry`] report; [`listener`] serves HTTP and writes open streams;
//! [`layers`] wrap the routes of the vendors' crates; [`admin`] serves operators; [`gateway`] assembles everything; and
//! [`cli`] has the commands. ARCHITECTURE.md describes how a change, a stream, an event and a plugin pass through the
//! crates.
#![forbid(unsafe_code)]

pub mod config;

mod exit;

pub mod logging;

pub mod capacity;

pub mod listener;

mod vendors;

pub mod request_metrics;

mod explanations;

pub mod reload_order;

mod state;

pub mod layers;

pub mod telemetry;

#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "otlp/absent.rs"]
mod otlp;

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
