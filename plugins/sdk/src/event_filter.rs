//! The hook `event-filter`: keep, drop or rewrite each analytics event of a batch.

use serde::Serialize;

use crate::bindings::event_filter as generated;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, PluginError, Result};

/// Keeps, drops or rewrites analytics events before they are forwarded.
pub trait EventFilter: Plugin {
    /// Decides on one event.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies to the whole batch; by default it is held and retried.
    fn filter(&self, facts: &BatchFacts, event: &Event) -> Result<Verdict>;

    /// Decides on a batch: exactly one verdict for each event, in the same order. By default, calls
    /// [`filter`](Self::filter) for each event.
    ///
    /// # Errors
    ///
    /// The same as for [`filter`](Self::filter).
    fn filter_batch(&self, facts: &BatchFacts, events: &[Event]) -> Result<Vec<Verdict>> {
        events.iter().map(|event| self.filter(facts, event)).collect()
    }
}

/// Facts about a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchFacts {
    /// The vendor whose environment this is: `launchdarkly` or `harness`.
    pub vendor: String,
    /// Configured name of the environment.
    pub environment: String,
    /// Identifier of the route that received the batch.
    pub route: String,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: String,
    /// Version of the vendor's event format, 0 where there is none.
    pub schema: u32,
    /// Reserved for later releases of the host.
    pub extra: Vec<(String, String)>,
}

/// An analytics event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The event's own kind, empty if it has none.
    pub kind: String,
    /// Unix milliseconds, 0 if unknown.
    pub at_ms: u64,
    /// JSON text of the event, with the grant `event-bodies`.
    pub body: Option<String>,
}

/// The decision on an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The event is forwarded as received.
    Keep,
    /// The event is dropped.
    Drop,
    /// This JSON text is forwarded in its place.
    Replace(Vec<u8>),
}

impl Event {
    /// Creates an event of a kind with a body, for tests.
    pub fn new(kind: impl Into<String>, body: impl Into<String>) -> Self {
        Self { kind: kind.into(), at_ms: 0, body: Some(body.into()) }
    }

    /// Returns the JSON text of the event.
    ///
    /// # Errors
    ///
    /// Names the missing grant, so that the failure policy applies: a filter that cannot read an event must not let it
    /// pass.
    pub fn body(&self) -> Result<&str> {
        let missing = "no event bodies: the plugin needs the grant `event-bodies`";
        self.body.as_deref().ok_or_else(|| PluginError::invalid_input(missing))
    }
}

impl Verdict {
    /// Replaces the event with JSON text.
    pub fn replace(json: impl Into<Vec<u8>>) -> Self {
        Self::Replace(json.into())
    }

    /// Replaces the event with a value serialized as JSON.
    ///
    /// # Errors
    ///
    /// The value cannot be serialized, such as a map whose keys are not strings.
    pub fn replace_with<T: Serialize>(value: &T) -> Result<Self> {
        serde_json::to_vec(value).map(Self::Replace).map_err(PluginError::internal)
    }
}

impl<P: EventFilter + Exported> generated::Guest for Adapter<P> {
    fn filter(
        facts: generated::BatchFacts,
        events: Vec<generated::Event>,
    ) -> Result<Vec<generated::Verdict>, crate::bindings::host::types::PluginError> {
        let facts = BatchFacts::from(facts);
        let events: Vec<Event> = events.into_iter().map(Event::from).collect();
        let verdicts = call_plugin(|plugin: &P| plugin.filter_batch(&facts, &events))?;
        Ok(verdicts.into_iter().map(generated::Verdict::from).collect())
    }
}

impl From<generated::BatchFacts> for BatchFacts {
    fn from(facts: generated::BatchFacts) -> Self {
        Self {
            vendor: facts.vendor,
            environment: facts.environment,
            route: facts.route,
            sdk: facts.sdk,
            schema: facts.schema,
            extra: facts.extra,
        }
    }
}

impl From<generated::Event> for Event {
    fn from(event: generated::Event) -> Self {
        Self { kind: event.kind, at_ms: event.at_ms, body: event.body }
    }
}

impl From<Verdict> for generated::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Keep => Self::Keep,
            Verdict::Drop => Self::Drop,
            Verdict::Replace(json) => Self::Replace(json),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoConfig;

    struct Odd;

    impl Plugin for Odd {
        type Config = NoConfig;

        fn new(_: NoConfig) -> Result<Self> {
            Ok(Self)
        }
    }

    impl EventFilter for Odd {
        fn filter(&self, _: &BatchFacts, event: &Event) -> Result<Verdict> {
            Ok(match event.body()? {
                "1" => Verdict::replace_with(&[1, 2])?,
                "2" => Verdict::Drop,
                _ => Verdict::Keep,
            })
        }
    }

    #[test]
    fn a_batch_gets_one_verdict_per_event() {
        let events = [Event::new("a", "0"), Event::new("a", "1"), Event::new("b", "2")];
        let verdicts = Odd.filter_batch(&BatchFacts::default(), &events).unwrap();
        assert_eq!(verdicts, [Verdict::Keep, Verdict::replace("[1,2]"), Verdict::Drop]);
    }

    #[test]
    fn a_missing_grant_fails_the_batch() {
        let error = Odd.filter_batch(&BatchFacts::default(), &[Event::default()]).unwrap_err();
        assert!(error.to_string().contains("`event-bodies`"), "{error}");
    }
}
