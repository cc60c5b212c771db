//! The hook `event-filter`: keep, drop, rewrite, split or add analytics events.

use serde::Serialize;

use crate::bindings::event_filter as generated;
use crate::bindings::host::{events, request, types};
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, PluginError, Request, Result};

/// Keeps, drops or rewrites analytics events before they are forwarded. Must be pure.
pub trait EventFilter: Plugin {
    /// Decides on one event.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies to the whole batch; by default it is held and retried.
    fn filter(&self, request: &dyn Request, event: &Event) -> Result<Verdict>;

    /// Returns the edits of a batch, at most one per event. By default, calls [`filter`](Self::filter) for each event.
    ///
    /// # Errors
    ///
    /// The same as for [`filter`](Self::filter).
    fn filter_batch(&self, request: &dyn Request, events: &dyn Events) -> Result<Vec<EventEdit>> {
        let mut edits = Vec::new();
        for (event, index) in events.all().iter().zip(0..) {
            match self.filter(request, event)? {
                Verdict::Keep => (),
                Verdict::Drop => edits.push(EventEdit::Drop(index)),
                Verdict::Replace(bodies) => edits.push(EventEdit::Replace { index, bodies }),
            }
        }
        Ok(edits)
    }
}

/// The events of one post.
pub trait Events {
    /// Returns the number of events.
    fn len(&self) -> u32;

    /// Returns whether there are no events.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all events, in order; positions are the indexes in edits.
    fn all(&self) -> Vec<Event>;

    /// Returns one event.
    fn get(&self, index: u32) -> Option<Event>;

    /// Returns the kinds of all events, in order.
    fn kinds(&self) -> Vec<Option<String>>;

    /// Returns the version of the vendor's event format, where there is one.
    fn schema(&self) -> Option<u32>;
}

/// An analytics event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The event's own kind.
    pub kind: Option<String>,
    /// Unix milliseconds.
    pub at_ms: Option<u64>,
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
    /// These JSON objects are forwarded in its place, one or more.
    Replace(Vec<Vec<u8>>),
}

/// An edit of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventEdit {
    /// Drops the event at this index.
    Drop(u32),
    /// Forwards other events in place of one.
    Replace {
        /// Index of the event.
        index: u32,
        /// JSON objects, one or more.
        bodies: Vec<Vec<u8>>,
    },
    /// Forwards one more event, a JSON object, after all others.
    Add(Vec<u8>),
}

impl Event {
    /// Creates an event of a kind with a body, for tests.
    pub fn new(kind: impl Into<String>, body: impl Into<String>) -> Self {
        Self { kind: Some(kind.into()), at_ms: None, body: Some(body.into()) }
    }

    /// Returns the kind; an empty text if the event has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or_default()
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
    /// Replaces the event with a JSON object.
    pub fn replace(json: impl Into<Vec<u8>>) -> Self {
        Self::Replace(vec![json.into()])
    }

    /// Replaces the event with a value serialized as JSON.
    ///
    /// # Errors
    ///
    /// The value cannot be serialized, such as a map whose keys are not strings.
    pub fn replace_with<T: Serialize>(value: &T) -> Result<Self> {
        serde_json::to_vec(value).map(Self::replace).map_err(PluginError::internal)
    }

    /// Replaces the event with several JSON objects; with none of them, drops it.
    pub fn split(bodies: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let bodies: Vec<_> = bodies.into_iter().collect();
        if bodies.is_empty() { Self::Drop } else { Self::Replace(bodies) }
    }
}

impl Events for events::Batch {
    fn len(&self) -> u32 {
        Self::len(self)
    }

    fn all(&self) -> Vec<Event> {
        Self::events(self).into_iter().map(Event::from).collect()
    }

    fn get(&self, index: u32) -> Option<Event> {
        Self::get(self, index).map(Event::from)
    }

    fn kinds(&self) -> Vec<Option<String>> {
        Self::kinds(self)
    }

    fn schema(&self) -> Option<u32> {
        Self::schema(self)
    }
}

impl<P: EventFilter + Exported> generated::Guest for Adapter<P> {
    fn filter(request: request::Request, events: events::Batch) -> Result<Vec<generated::Edit>, types::PluginError> {
        let edits = call_plugin(|plugin: &P| plugin.filter_batch(&request, &events))?;
        Ok(edits.into_iter().map(generated::Edit::from).collect())
    }
}

impl From<events::Event> for Event {
    fn from(event: events::Event) -> Self {
        Self { kind: event.kind, at_ms: event.at_ms, body: event.body }
    }
}

impl From<EventEdit> for generated::Edit {
    fn from(edit: EventEdit) -> Self {
        match edit {
            EventEdit::Drop(index) => Self::Drop(index),
            EventEdit::Replace { index, bodies } => Self::Replace(generated::Replacement { index, bodies }),
            EventEdit::Add(body) => Self::Add(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoConfig;
    use crate::testing::{Batch, TestRequest};

    struct Odd;

    impl Plugin for Odd {
        type Config = NoConfig;

        fn new(_: NoConfig) -> Result<Self> {
            Ok(Self)
        }
    }

    impl EventFilter for Odd {
        fn filter(&self, _: &dyn Request, event: &Event) -> Result<Verdict> {
            Ok(match event.body()? {
                "1" => Verdict::replace_with(&[1, 2])?,
                "2" => Verdict::Drop,
                _ => Verdict::Keep,
            })
        }
    }

    #[test]
    fn verdicts_become_edits() {
        let events = Batch::of([Event::new("a", "0"), Event::new("a", "1"), Event::new("b", "2")]);
        let edits = Odd.filter_batch(&TestRequest::default(), &events).unwrap();
        let replaced = EventEdit::Replace { index: 1, bodies: vec![b"[1,2]".to_vec()] };
        assert_eq!(edits, [replaced, EventEdit::Drop(2)]);
        assert_eq!(Verdict::split([]), Verdict::Drop);
    }

    #[test]
    fn a_missing_grant_fails_the_batch() {
        let events = Batch::of([Event::default()]);
        let error = Odd.filter_batch(&TestRequest::default(), &events).unwrap_err();
        assert!(error.to_string().contains("`event-bodies`"), "{error}");
    }
}
