//! What a stream yields.

use std::time::Duration;

/// Something that happened on an event stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Type of the message: the last `event:` field of its block, `message` if there was none. Empty for other kinds.
    pub event: String,
    /// The `data:` fields of a message, joined by line feeds. Empty for other kinds.
    pub data: String,
    /// The last event ID, which stays until the service sends another one.
    pub id: String,
    /// Reconnection time that the block of a message contains, or that has just arrived ([`EventKind::Settings`]).
    pub retry: Option<Duration>,
    /// What happened.
    pub kind: EventKind,
}

/// What an [`Event`] reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventKind {
    /// A message was dispatched; the only kind that the standard shows to applications.
    #[default]
    Message,
    /// A comment arrived. Services send them so that clients can tell a quiet connection from a dead one.
    Comment,
    /// The reconnection time was set, or a block without data changed the last event ID. Both are in the event.
    Settings,
    /// A piece of the stream ended within a message, some of whose data it brought.
    Progress,
}
