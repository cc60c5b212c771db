//! Server-sent events from a stream of bytes, as the WHATWG HTML standard (9.2.6) defines them.
//!
//! Existing crates fail on invalid UTF-8 or take quadratic time for large events. This one has the interface of
//! `eventsource-stream` 0.2.3, which it replaces as a dependency of `reqwest-eventsource`, and differs from it in four
//! points:
//!
//! * Besides messages the stream yields other occurrences on the connection ([`EventKind`]): a comment is the heartbeat
//!   of a service, and a `retry:` or `id:` in a block without data takes effect without a message. Users that only want
//!   messages skip events of other kinds.
//! * The data of one event is limited to [`MAX_EVENT_SIZE`] bytes; beyond, the stream ends with an error.
//! * An event ID longer than [`MAX_ID_SIZE`] bytes counts as empty.
//! * Bytes that are not UTF-8 become U+FFFD, as the standard demands. The stream never fails because of them.
//!
//! Each byte is examined once, in whatever pieces the stream arrives.
#![forbid(unsafe_code)]

mod decoder;
mod event;
mod event_stream;

pub use self::decoder::{Decoder, EventTooLarge, MAX_EVENT_SIZE, MAX_ID_SIZE};
pub use self::event::{Event, EventKind};
pub use self::event_stream::{EventStream, EventStreamError, Eventsource};
