//! Adapts a stream of bytes to a stream of events.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::string::FromUtf8Error;
use std::task::{Context, Poll};

use futures_core::Stream;
use nom::error::{Error as NomError, ErrorKind};
use pin_project_lite::pin_project;

use crate::{Decoder, Event, EventTooLarge};

/// Converts streams of bytes into streams of events.
pub trait Eventsource: Sized {
    /// Returns the events of this stream.
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

/// Number of bytes that are decoded in one step, which bounds the number of events that wait for the reader.
const STEP: usize = 16 << 10;

pin_project! {
    /// The events of a stream of bytes. Ends after the first error.
    pub struct EventStream<S> {
        #[pin]
        bytes: S,
        decoder: Decoder,
        // The rest of a large piece, of which the first `position` bytes have been decoded.
        arrived: Vec<u8>,
        position: usize,
        // Events completed by the last step.
        ready: VecDeque<Event>,
        end: Option<End>,
    }
}

/// The item that remains to be yielded once the bytes have ended.
#[derive(Debug)]
enum End {
    TooLarge(EventTooLarge),
    Ended,
}

/// Why a stream of events failed.
#[derive(Debug, PartialEq)]
pub enum EventStreamError<E> {
    /// Never occurs: invalid UTF-8 is replaced. Exists because users of the original crate name it.
    Utf8(FromUtf8Error),
    /// An event exceeds [`MAX_EVENT_SIZE`](crate::MAX_EVENT_SIZE); the input of the error contains the message.
    Parser(NomError<String>),
    /// The stream of bytes failed.
    Transport(E),
}

impl<S> EventStream<S> {
    /// Creates a stream of the events of `stream`.
    pub fn new(stream: S) -> Self {
        Self {
            bytes: stream,
            decoder: Decoder::new(),
            arrived: Vec::new(),
            position: 0,
            ready: VecDeque::new(),
            end: None,
        }
    }

    /// Sets the last event ID, as it was at the end of the previous connection.
    pub fn set_last_event_id(&mut self, id: impl Into<String>) {
        self.decoder.set_last_event_id(id);
    }

    /// Returns the last event ID.
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
            if *this.position < this.arrived.len() {
                let end = this.arrived.len().min(*this.position + STEP);
                if let Err(error) = this.decoder.feed(&this.arrived[*this.position..end], this.ready) {
                    *this.end = Some(End::TooLarge(error));
                }
                *this.position = end;
                if end == this.arrived.len() {
                    // A stream may be idle for hours after a large piece.
                    *this.arrived = Vec::new();
                    *this.position = 0;
                }
                continue;
            }
            match std::task::ready!(this.bytes.as_mut().poll_next(context)) {
                Some(Ok(piece)) => {
                    // Most pieces fit in one step, which needs no copy.
                    let (first, rest) = piece.as_ref().split_at(piece.as_ref().len().min(STEP));
                    this.arrived.extend_from_slice(rest);
                    if let Err(error) = this.decoder.feed(first, this.ready) {
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

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;

    #[test]
    fn only_a_few_events_wait_for_the_reader() {
        // One large piece of the smallest events, each with a copy of the longest ID.
        let mut piece = format!("id: {}\n", "x".repeat(crate::MAX_ID_SIZE)).into_bytes();
        piece.extend(b"data\n\n".repeat(100_000));
        let mut events = stream::iter([Ok::<_, fmt::Error>(piece), Ok(b":\n".to_vec())]).eventsource();
        let mut count = 0;
        while let Some(event) = events.next().now_or_never().expect("everything has arrived") {
            let event = event.expect("no event is too large");
            assert!(events.ready.len() <= STEP / b"data\n\n".len(), "{} events wait", events.ready.len());
            count += usize::from(event.kind != crate::EventKind::Progress);
        }
        assert_eq!(count, 100_001);
    }
}
