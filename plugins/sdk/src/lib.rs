//! A library for writing plugins of the Yardarm flag gateway in Rust.
//!
//! A plugin is a type that implements [`Plugin`] and the trait of each of its hooks; [`export!`] makes a WebAssembly
//! component of it that exports exactly these hooks and imports only what it calls.
//!
//! | Hook | Trait | Called |
//! |---|---|---|
//! | `request-auth` | [`RequestAuth`] | once per request or stream: may it proceed? |
//! | `event-filter` | [`EventFilter`] | for each analytics event: keep, drop or rewrite? |
//! | `payload-transform` | [`PayloadTransform`] | once per change of flag data, before SDKs see it |
//! | `context-enrichment` | [`ContextEnrichment`] | before each evaluation: what else is known of the context? |
//! | `evaluation-transform` | [`EvaluationTransform`] | for each set of results that a client-side SDK is sent |
//! | `route-resolver` | [`RouteResolver`] | before the credential of a request is looked up: which environment is it for? |
//! | `background` | [`Background`] | at an interval: what do the other hooks need? |
//! | `change-listener` | [`ChangeListener`] | after changes of flag data are served |
//!
//! A complete plugin; its name, version and description are those of its `Cargo.toml`:
//!
//! ```
#![doc = include_str!("../examples/front_door.rs")]
//! ```
//!
//! Build it with `crate-type = ["cdylib"]` for the target `wasm32-wasip2`, and put the file into the plugin folder.
//!
//! # Instances
//!
//! The host creates an instance, calls [`Plugin::new`] once, then the hooks, one call at a time. It may create a new
//! instance for every call or use one for thousands: calls can rely on the state that `new` sets up, but not on the
//! state of earlier calls. A panic ends the instance, never the gateway, and counts as a failure of the plugin; prefer
//! returning a [`PluginError`].
//!
//! # Tests
//!
//! The crate also builds natively, so logic is tested with plain `cargo test` for the host's target: [`testing`] has
//! requests, events, contexts, flag data and results that are built in a line or two, and [`from_config`] creates a plugin
//! from JSON text like the gateway. Logs go to standard error, metrics are discarded, and stored values, published values and
//! responses to requests are those of the test.

#![deny(unsafe_code)]

mod background;
#[doc(hidden)]
pub mod bindings;
mod change_listener;
pub mod clock;
mod context;
mod context_enrichment;
mod evaluation_transform;
mod event_filter;
mod export;
pub mod http;
pub mod json;
pub mod kv;
pub mod log;
#[doc(hidden)]
pub mod manifest;
pub mod metrics;
mod pattern;
mod payload_transform;
mod plugin;
mod request;
mod request_auth;
mod route_resolver;
pub mod shared;
pub mod testing;

pub use self::background::{Background, Published};
pub use self::change_listener::{ChangeListener, Changes};
pub use self::context::{Context, ContextKey};
pub use self::context_enrichment::{Attribute, ContextEnrichment};
pub use self::evaluation_transform::{Evaluation, EvaluationTransform, ResultEdit, Results};
pub use self::event_filter::{Event, EventEdit, EventFilter, Events, Verdict};
pub use self::pattern::matches;
pub use self::payload_transform::{Edit, ItemHead, Items, PayloadTransform};
pub use self::plugin::{NoConfig, Plugin, PluginError, Result, from_config};
pub use self::request::{Credential, Request};
pub use self::request_auth::{Admission, Decision, Denial, DenialClass, Identity, RequestAuth};
pub use self::route_resolver::RouteResolver;

/// Used by the expansion of [`export!`]. Not part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    pub use crate::export::{Adapter, Exported, is_name};
    pub use crate::manifest;
}

/// Compiles the plugin in the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
