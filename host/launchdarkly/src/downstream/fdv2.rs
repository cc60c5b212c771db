//! `/sdk/poll` and `/sdk/stream`: the second version of the delivery protocol ("FDv2", L267).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, Uri};
use yardarm_core::Snapshot;
use yardarm_vendor::stream_response::Start;

use super::Downstream;
use super::auth::Caller;
use super::deliveries::answer_in_full;
use super::polling::{answer, not_initialized};
use super::query::first_query_value;
use super::stream::{open, open_in_full};
use crate::data::fdv2::Fdv2Data;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `GET /sdk/poll`
pub(super) async fn poll(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    // The reference answers 500 before there is data; SDKs treat it like the 503 of the other polls.
    let Some(snapshot) = newest(&caller) else { return not_initialized() };
    let objects = snapshot.data();
    let state = objects.state();
    if basis(uri.query()).as_deref() == Some(&state) {
        return answer(&caller, &headers, &state, || objects.nothing_new());
    }
    answer_in_full(&downstream, &caller, &headers, &state, || objects.poll()).await
}

/// `GET /sdk/stream`
pub(super) async fn stream(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(source) = caller.environment.fdv2.as_ref().map(yardarm_core::Environment::update_source) else {
        return not_initialized();
    };
    // An SDK that opens a stream again may have only the header of event streams (V024).
    let last_id = || headers.get(LAST_EVENT_ID).and_then(|it| it.to_str().ok()).map(str::to_owned);
    let basis = basis(uri.query()).or_else(last_id);
    let has_everything = newest(&caller).filter(|it| basis.as_deref() == Some(&it.data().state()));
    match has_everything {
        Some(snapshot) => {
            let start = Start::After(snapshot.seq(), snapshot.data().nothing_new_frame());
            open(&downstream, caller, source, 0, start)
        }
        None => open_in_full(&downstream, caller, source, 0).await,
    }
}

/// The state that the caller has. Some SDKs once sent it as `selector` (V008).
pub(super) fn basis(query: Option<&str>) -> Option<String> {
    ["basis", "selector"].into_iter().find_map(|name| first_query_value(query, name).filter(|it| !it.is_empty()))
}

fn newest(caller: &Caller) -> Option<Arc<Snapshot<Fdv2Data>>> {
    caller.environment.fdv2.as_ref()?.snapshot()
}
