//! The event hook: what happens to each analytics event of a batch?

use std::sync::Arc;

use bytes::Bytes;

use super::HookFuture;
use crate::environment::EnvironmentLabel;

/// What a plugin may learn of a batch.
#[derive(Debug, Clone)]
pub struct BatchFacts {
    /// The environment that the events belong to.
    pub environment: EnvironmentLabel,
    /// Identifier of the route the batch came in on.
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
    /// JSON text as it came (UTF-8).
    pub body: Bytes,
}

/// Asks the chain of event plugins of one environment.
pub trait EventFilter: Send + Sync {
    /// Decides about a whole batch. Batches of any size are welcome; the answer covers all of it.
    fn filter<'a>(&'a self, facts: &'a BatchFacts, events: &'a [Event]) -> HookFuture<'a, Filtering>;
}

/// What a chain decided about a batch, failure policies applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filtering {
    /// One verdict for each event, in order.
    Decided(Vec<Verdict>),
    /// The plugin could not decide: keep the batch, bounded, and ask again later.
    Hold {
        /// Name of the plugin.
        plugin: Arc<str>,
    },
    /// The plugin could not decide: lose the batch, counted.
    Lose {
        /// Name of the plugin.
        plugin: Arc<str>,
    },
}

/// What happens to one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on as it came.
    Keep,
    /// Dropped by this plugin.
    Drop {
        /// Name of the plugin.
        plugin: Arc<str>,
    },
    /// Goes on as this JSON text, which the host has checked.
    Replace(Bytes),
}
