//! Full deliveries of flag data, of which only some take place at a time if that is configured (V039).

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use yardarm_core::delivery::{DeliverySlot, TooManyDeliveries};
use yardarm_vendor::slotted_body::SlottedBody;

use super::Downstream;
use super::auth::Caller;
use super::context::message;
use super::polling::{answer, has_tag};

impl Downstream {
    /// Returns the slot of a full delivery, after a wait if none is free; `None` without a limit.
    ///
    /// # Errors
    /// When too many deliveries wait already.
    pub(super) async fn delivery_slot(&self) -> Result<Option<DeliverySlot>, TooManyDeliveries> {
        match &self.deliveries {
            Some(limit) => limit.acquire().await.map(Some),
            None => Ok(None),
        }
    }
}

/// Returns the answer to a poll of everything, as [`answer`] does. One that the caller has already needs no slot.
pub(super) async fn answer_in_full(
    downstream: &Downstream,
    caller: &Caller,
    request: &HeaderMap,
    tag: &str,
    body: impl FnOnce() -> Bytes,
) -> Response {
    if has_tag(request, tag) {
        return answer(caller, request, tag, Bytes::new);
    }
    match downstream.delivery_slot().await {
        Ok(slot) => answer(caller, request, tag, || with_slot(body(), slot)),
        Err(refusal) => refused(refusal),
    }
}

/// Returns a body that holds a slot until it is written.
pub(super) fn with_slot(bytes: Bytes, slot: Option<DeliverySlot>) -> Body {
    match slot {
        Some(slot) => Body::new(SlottedBody::new(bytes, slot)),
        None => bytes.into(),
    }
}

/// Returns the answer to a poll without a slot.
pub(super) fn refused(refusal: TooManyDeliveries) -> Response {
    message(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string())
}
