//! An open stream, as the body of an HTTP response or for takeover by a faster driver.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body::Frame as BodyFrame;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::change_log::{Cursor, UpdateSource, Version};
use crate::delivery::DeliverySlot;
use crate::label::EnvironmentLabel;
use crate::registry::{EndReason, StreamGuard, StreamSession};
use crate::sse::Frame;

/// A stream that was admitted, with its position in the change log.
pub struct OpenStream {
    source: Arc<dyn UpdateSource>,
    /// Held from the opening on, because changes are logged only for sources with receivers.
    versions: watch::Receiver<Version>,
    cursor: Cursor,
    /// Sent before the first frame of the source.
    first: Option<Frame>,
    /// Held until the first frame is written. Boxed, because most streams have none.
    slot: Option<Box<DeliverySlot>>,
    guard: StreamGuard,
}

/// A response body that writes an [`OpenStream`].
///
/// The response also has a [`Takeover`] in its extensions. A listener that writes to sockets itself takes the stream
/// from there; behind any other server the body writes it, and both send the same bytes.
pub struct StreamBody(State);

/// The means to take a stream out of its response, once.
#[derive(Clone)]
pub struct Takeover(Arc<Mutex<Option<OpenStream>>>);

enum State {
    Waiting(Takeover),
    Writing(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

impl OpenStream {
    /// Opens a stream of `channel`.
    #[must_use]
    pub fn new(source: Arc<dyn UpdateSource>, channel: usize, guard: StreamGuard) -> Self {
        let versions = source.versions();
        let cursor = Cursor::new(channel, *versions.borrow());
        Self { source, versions, cursor, first: None, slot: None, guard }
    }

    /// Opens a stream of `channel` for a client that has everything up to the change `seq`, which `first` confirms.
    #[must_use]
    pub fn resumed(source: Arc<dyn UpdateSource>, channel: usize, seq: u64, first: Frame, guard: StreamGuard) -> Self {
        let versions = source.versions();
        let cursor = Cursor::after(channel, *versions.borrow(), seq);
        Self { source, versions, cursor, first: Some(first), slot: None, guard }
    }

    /// Opens a stream of `channel` that starts with the changes after `seq`.
    #[must_use]
    pub fn continued(source: Arc<dyn UpdateSource>, channel: usize, seq: u64, guard: StreamGuard) -> Self {
        let versions = source.versions();
        let cursor = Cursor::after(channel, *versions.borrow(), seq);
        Self { source, versions, cursor, first: None, slot: None, guard }
    }

    /// Holds a slot for the first frame, if there is one by the time that writing starts.
    #[must_use]
    pub fn with_slot(self, slot: Option<DeliverySlot>) -> Self {
        Self { slot: slot.map(Box::new), ..self }
    }

    /// Returns the environment of the stream.
    #[must_use]
    pub fn environment(&self) -> &EnvironmentLabel {
        &self.guard.facts().environment
    }

    /// Returns the source that the stream reads from.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn UpdateSource> {
        &self.source
    }

    /// Returns the next frame to write, if there is one now. The frame before has been written.
    pub fn next_frame(&mut self) -> Option<Frame> {
        self.slot.take_if(|slot| slot.has_begun());
        let next = self.first.take().or_else(|| self.source.next(&mut self.cursor));
        if next.as_ref().is_some_and(Frame::is_end) {
            self.guard.end(EndReason::FellBehind);
            return None;
        }
        match (&next, &mut self.slot) {
            (Some(frame), Some(slot)) => slot.begin(frame.payload().len()),
            _ => self.slot = None,
        }
        next
    }

    /// Returns how far the stream is behind, in changes.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.source.lag(&self.cursor)
    }

    /// Returns why the stream has to end, if it has to.
    #[must_use]
    pub fn ending(&self) -> Option<EndReason> {
        self.guard.ending()
    }

    /// Ends the stream; the first reason is kept.
    pub fn end(&self, reason: EndReason) {
        self.guard.end(reason);
    }

    /// Ready once the stream has to end.
    pub fn poll_ending(&self, context: &mut Context<'_>) -> Poll<EndReason> {
        self.guard.poll_ending(context)
    }

    /// Returns the body, and the handle to be stored in the response's extensions.
    #[must_use]
    pub fn into_body(self) -> (StreamBody, Takeover) {
        let takeover = Takeover(Arc::new(Mutex::new(Some(self))));
        (StreamBody(State::Waiting(takeover.clone())), takeover)
    }

    fn into_bytes(self) -> impl Stream<Item = Bytes> + Send {
        let versions = self.versions.clone();
        stream::unfold((self, versions), |(mut open, mut versions)| async move {
            loop {
                if open.ending().is_some() {
                    return None;
                }
                // Marked as seen before the read, so that a later change wakes this task.
                versions.borrow_and_update();
                if let Some(frame) = open.next_frame() {
                    return Some((frame.payload(), (open, versions)));
                }
                tokio::select! {
                    changed = versions.changed() => changed.ok()?,
                    _ = poll_fn(|context| open.poll_ending(context)) => return None,
                }
            }
        })
    }
}

impl Takeover {
    /// Returns the stream's session, to end it from outside; `None` when it has been taken.
    #[must_use]
    pub fn session(&self) -> Option<Arc<StreamSession>> {
        let stream = self.0.lock();
        stream.as_ref().map(|it| Arc::clone(it.guard.session()))
    }

    /// Takes the stream; returns `None` when the body has begun to write it.
    #[must_use]
    pub fn take(&self) -> Option<OpenStream> {
        self.0.lock().take()
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
        if let State::Waiting(takeover) = &self.0 {
            let Some(open) = takeover.take() else { return Poll::Ready(None) };
            self.0 = State::Writing(Box::pin(open.into_bytes()));
        }
        match &mut self.0 {
            State::Waiting(_) => Poll::Ready(None),
            State::Writing(stream) => stream.as_mut().poll_next(context).map(|bytes| Some(Ok(BodyFrame::data(bytes?)))),
        }
    }
}
