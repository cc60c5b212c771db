//! The response that opens a stream: registered first, checked again, then handed to the listener with its head.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use yardarm_core::change_log::UpdateSource;
use yardarm_core::delivery::DeliverySlot;
use yardarm_core::hooks::{AdmittedRequest, RequestFacts};
use yardarm_core::registry::{StreamGuard, StreamRegistry, TooManyStreams};
use yardarm_core::sse::Frame;
use yardarm_core::stream::OpenStream;

/// Where a stream begins.
pub enum Start {
    /// With the full data, as soon as there is any, and with the slot of this delivery, if deliveries are limited.
    Everything(Option<DeliverySlot>),
    /// After this change, which the caller has; the frame confirms that.
    After(u64, Frame),
    /// After this change, with the changes that follow and nothing before them.
    Continue(u64),
}

/// Registers a stream for an admitted caller.
///
/// A credential that is withdrawn ends the streams that are registered at that moment. `recheck` runs once this one is,
/// so a credential that was withdrawn between the check and the registration is noticed.
///
/// # Errors
/// When too many streams are open, or when `recheck` fails.
pub fn register<E: From<TooManyStreams>>(
    registry: &StreamRegistry,
    request: AdmittedRequest,
    lifetime: Option<Duration>,
    recheck: impl FnOnce(&RequestFacts) -> Result<(), E>,
) -> Result<StreamGuard, E> {
    let guard = registry.open(request, lifetime)?;
    recheck(guard.facts())?;
    Ok(guard)
}

/// Returns the response with `head`. Its body is the stream; over HTTP/1.1 the listener takes the stream out and hands it
/// to the fan-out threads.
#[must_use]
pub fn respond(
    head: HeaderMap,
    source: Arc<dyn UpdateSource>,
    channel: usize,
    start: Start,
    guard: StreamGuard,
) -> Response {
    let stream = match start {
        Start::Everything(slot) => OpenStream::new(source, channel, guard).with_slot(slot),
        Start::After(seq, first) => OpenStream::resumed(source, channel, seq, first, guard),
        Start::Continue(seq) => OpenStream::continued(source, channel, seq, guard),
    };
    let (body, takeover) = stream.into_body();
    let mut response = (head, Body::new(body)).into_response();
    response.extensions_mut().insert(takeover);
    response
}
