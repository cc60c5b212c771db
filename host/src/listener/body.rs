//! Bodies of requests and responses that record their progress for the listener.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use yardarm_core::registry::{EndReason, StreamSession};

use super::activity::{Activity, RequestGuard};
use super::progress::Progress;

/// Largest piece of a response that is passed to HTTP/2 at once, so that bytes that a client does not read stay here.
const MAX_PIECE: usize = 64 << 10;

/// A request body that records whether it was read to its end.
pub(super) struct RequestBody {
    body: Incoming,
    is_read: Arc<AtomicBool>,
}

/// A response body. Its request is in progress until the body is dropped.
pub(super) struct AnswerBody {
    kind: Kind,
    request: RequestGuard,
    /// The stream that this body writes, if it is one.
    stream: Option<Arc<StreamSession>>,
    /// Set for HTTP/2, whose requests share a connection.
    paced: Option<Paced>,
}

enum Kind {
    Ordinary(Body),
    /// Never yields data and never ends; when it is polled, the response head has been encoded.
    Handover(Arc<Activity>),
}

struct Paced {
    progress: Arc<Progress>,
    rest: Bytes,
}

impl RequestBody {
    /// Returns a body for the router.
    pub(super) fn wrap(body: Incoming, is_read: Arc<AtomicBool>) -> Body {
        let is_empty = http_body::Body::is_end_stream(&body);
        is_read.store(is_empty, Ordering::Relaxed);
        if is_empty { Body::empty() } else { Body::new(Self { body, is_read }) }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || matches!(frame, Poll::Ready(Some(Ok(_)))) && self.body.is_end_stream()
        {
            self.is_read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl AnswerBody {
    pub(super) fn new(body: Body, request: RequestGuard) -> Self {
        Self { kind: Kind::Ordinary(body), request, stream: None, paced: None }
    }

    /// Creates the body of a stream that leaves the HTTP library once its head is written.
    pub(super) fn handover(activity: Arc<Activity>, request: RequestGuard) -> Self {
        Self { kind: Kind::Handover(activity), request, stream: None, paced: None }
    }

    /// Sets the stream that the body writes, so that its end is recorded with a reason.
    pub(super) fn of_stream(self, stream: Option<Arc<StreamSession>>) -> Self {
        let mut this = self;
        this.stream = stream;
        this
    }

    /// Splits the body into small pieces and records when they are taken.
    pub(super) fn paced(self, progress: Option<Arc<Progress>>) -> Self {
        let mut this = self;
        this.paced = progress.map(|progress| Paced { progress, rest: Bytes::new() });
        this
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let body = match &mut this.kind {
            Kind::Ordinary(body) => body,
            Kind::Handover(activity) => {
                activity.note_body_polled();
                return Poll::Pending;
            }
        };
        let Some(paced) = &mut this.paced else { return Pin::new(body).poll_frame(context) };
        paced.progress.note_taken();
        if paced.rest.is_empty() {
            match std::task::ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => paced.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        paced.progress.note_given();
        let piece = paced.rest.split_to(paced.rest.len().min(MAX_PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Ordinary(body) => self.paced.as_ref().is_none_or(|it| it.rest.is_empty()) && body.is_end_stream(),
            Kind::Handover(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Kind::Ordinary(body) = &self.kind else { return SizeHint::default() };
        let mut hint = body.size_hint();
        if let Some(rest) = self.paced.as_ref().map(|it| it.rest.len() as u64).filter(|it| *it > 0) {
            let upper = hint.upper().map(|it| it.saturating_add(rest));
            hint.set_lower(hint.lower().saturating_add(rest));
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
        }
        hint
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        let was_cut = self.request.was_cut() || self.paced.as_ref().is_some_and(|it| it.progress.was_cut());
        if let Some(stream) = self.stream.take().filter(|_| was_cut) {
            stream.end(EndReason::Unresponsive);
        }
    }
}
