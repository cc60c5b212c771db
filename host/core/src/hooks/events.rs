//! The event hook: keep, drop or replace each analytics event of a batch.

use std::sync::Arc;

use bytes::Bytes;

use super::HookFuture;
use crate::label::EnvironmentLabel;

/// Facts about a batch that plugins may read.
#[derive(Debug, Clone)]
pub struct BatchFacts {
    /// The environment that the events belong to.
    pub environment: EnvironmentLabel,
    /// Identifier of the route that received the batch.
    pub route: &'static str,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: &'static str,
    /// Version of the vendor's event format, 0 where there is none.
    pub schema: u32,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's own kind, empty if it has none.
    pub kind: String,
    /// Unix milliseconds, 0 if unknown.
    pub at_ms: u64,
    /// JSON text as received (UTF-8).
    pub body: Bytes,
}

/// Calls the chain of event plugins of one environment.
pub trait EventFilter: Send + Sync {
    /// Decides on a whole batch of any size; the result covers all of it.
    fn filter<'a>(&'a self, facts: &'a BatchFacts, events: &'a [Event]) -> HookFuture<'a, Filtering>;
}

/// The decision of a chain on a batch, failure policies applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filtering {
    /// One verdict for each event, in order.
    Decided(Vec<Verdict>),
    /// The plugin failed: keep the batch, bounded, and retry later.
    Hold {
        /// Name of the plugin.
        plugin: Arc<str>,
    },
    /// The plugin failed: drop the batch, counted.
    Lose {
        /// Name of the plugin.
        plugin: Arc<str>,
    },
}

/// The decision on one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The event is forwarded as received.
    Keep,
    /// The event is dropped by this plugin.
    Drop {
        /// Name of the plugin.
        plugin: Arc<str>,
    },
    /// The event is forwarded with this JSON text, which the host has validated.
    Replace(Bytes),
}
