//! From a stream of bytes to a stream of events.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::string::FromUtf8Error;
use std::task::{Context, Poll};

use futures_core::Stream;
use nom::error::{Error as NomError, ErrorKind};
use pin_project_lite::pin_project;

use crate::{Decoder, Event, EventTooLarge};

/// Turns streams of bytes into streams of events.
pub trait Eventsource: Sized {
    /// Events of this stream.
    fn eventsource(self) -> EventStream<Self>;
}

impl<S, B, E> Eventsource for S
where
    S: Stream<Item = Result<B, E>>,
    B: AsRef<[u8]>,
{
    fn eventsource(self) -> EventStream<Self> {
        EventStream::new(self)
    }
}

pin_project! {
    /// The events of a stream of bytes. Ends after the first error.
    pub struct EventStream<S> {
        #[pin]
        bytes: S,
        decoder: Decoder,
        // What one piece of the stream completed.
        ready: VecDeque<Event>,
        end: Option<End>,
    }
}

/// What is left to say once the bytes have ended.
#[derive(Debug)]
enum End {
    TooLarge(EventTooLarge),
    Ended,
}

/// Why a stream of events failed.
#[derive(Debug, PartialEq)]
pub enum EventStreamError<E> {
    /// Never occurs: what is not UTF-8 is replaced. Exists because users of the original name it.
    Utf8(FromUtf8Error),
    /// An event is larger than [`MAX_EVENT_SIZE`](crate::MAX_EVENT_SIZE); the input of the error says so.
    Parser(NomError<String>),
    /// The stream of bytes failed.
    Transport(E),
}

impl<S> EventStream<S> {
    /// Events of `stream`.
    pub fn new(stream: S) -> Self {
        Self { bytes: stream, decoder: Decoder::new(), ready: VecDeque::new(), end: None }
    }

    /// Sets the last event ID, as it was at the end of the connection before.
    pub fn set_last_event_id(&mut self, id: impl Into<String>) {
        self.decoder.set_last_event_id(id);
    }

    /// The last event ID.
    pub fn last_event_id(&self) -> &str {
        self.decoder.last_event_id()
    }
}

impl<S, B, E> Stream for EventStream<S>
where
    S: Stream<Item = Result<B, E>>,
    B: AsRef<[u8]>,
{
    type Item = Result<Event, EventStreamError<E>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(event) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            match this.end {
                None => (),
                Some(End::TooLarge(error)) => {
                    let error = EventStreamError::from(*error);
                    *this.end = Some(End::Ended);
                    return Poll::Ready(Some(Err(error)));
                }
                Some(End::Ended) => return Poll::Ready(None),
            }
            match std::task::ready!(this.bytes.as_mut().poll_next(context)) {
                Some(Ok(piece)) => {
                    if let Err(error) = this.decoder.feed(piece.as_ref(), this.ready) {
                        *this.end = Some(End::TooLarge(error));
                    }
                }
                Some(Err(error)) => {
                    *this.end = Some(End::Ended);
                    return Poll::Ready(Some(Err(EventStreamError::Transport(error))));
                }
                None => *this.end = Some(End::Ended),
            }
        }
    }
}

impl<S> fmt::Debug for EventStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl fmt::Display for EventTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit >> 20 {
            0 => write!(f, "event larger than {} bytes", self.limit),
            mebibytes => write!(f, "event larger than {mebibytes} MiB"),
        }
    }
}

impl std::error::Error for EventTooLarge {}

impl<E> From<EventTooLarge> for EventStreamError<E> {
    fn from(error: EventTooLarge) -> Self {
        Self::Parser(NomError { input: error.to_string(), code: ErrorKind::TooLarge })
    }
}

impl<E: fmt::Display> fmt::Display for EventStreamError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8(error) => error.fmt(f),
            Self::Parser(error) => f.write_str(&error.input),
            Self::Transport(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for EventStreamError<E> {}
