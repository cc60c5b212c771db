//! The event hook: keep, drop, replace or split each analytics event of a batch, and add others.

use std::sync::Arc;

use bytes::Bytes;

use super::{AdmittedRequest, HookFuture};

/// Facts about a batch that plugins may read.
#[derive(Debug, Clone)]
pub struct BatchFacts {
    /// The request that posted the batch.
    pub request: AdmittedRequest,
    /// Version of the vendor's event format, where there is one.
    pub schema: Option<u32>,
    /// Reads kind and time of an event that a plugin has written, which the next plugin receives.
    pub read: fn(Bytes) -> Event,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's own kind.
    pub kind: Option<Arc<str>>,
    /// Unix milliseconds.
    pub at_ms: Option<u64>,
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
    /// What to forward.
    Decided(Filtered),
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

/// The decision of a chain on a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filtered {
    /// What becomes of each received event, in order.
    pub verdicts: Vec<Verdict>,
    /// Events that plugins add, JSON objects that the host has validated.
    pub added: Vec<Bytes>,
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
    /// These are forwarded in its place: one or more JSON objects that the host has validated.
    Replace(Vec<Bytes>),
}
