//! The items of a decoded stream.

use std::time::Duration;

/// One occurrence on an event stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Type of the message: the last `event:` field of its block, `message` if there was none. Empty for other kinds.
    pub event: String,
    /// The `data:` fields of a message, joined by line feeds. Empty for other kinds.
    pub data: String,
    /// The last event ID, which is kept until the service sends another one.
    pub id: String,
    /// Reconnection time of the message's block, or of an [`EventKind::Settings`] event.
    pub retry: Option<Duration>,
    /// Kind of the event.
    pub kind: EventKind,
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventKind {
    /// A message was dispatched; the only kind that the standard exposes to applications.
    #[default]
    Message,
    /// A comment arrived. Services send comments so that clients can distinguish an idle connection from a dead one.
    Comment,
    /// The reconnection time was set, or a block without data changed the last event ID. The event contains both.
    Settings,
    /// A piece of the stream ended within a message and contained some of its data.
    Progress,
}
