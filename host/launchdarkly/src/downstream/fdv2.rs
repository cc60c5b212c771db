//! `/sdk/poll` and `/sdk/stream`: the second version of the delivery protocol ("FDv2", L267).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use yardarm_core::Snapshot;
use yardarm_vendor::stream_response::Start;

use super::Downstream;
use super::auth::Caller;
use super::polling::{answer, not_initialized};
use super::query::first_query_value;
use super::stream::open;
use crate::data::fdv2::Fdv2Data;

/// `GET /sdk/poll`
pub(super) async fn poll(caller: Caller, uri: Uri, headers: HeaderMap) -> Response {
    // The reference answers 500 before there is data; SDKs treat it like the 503 of the other polls.
    let Some(snapshot) = newest(&caller) else { return not_initialized() };
    let objects = snapshot.data();
    let state = objects.state();
    let has_everything = first_query_value(uri.query(), "basis").as_deref() == Some(&state);
    answer(&caller, &headers, &state, || if has_everything { objects.nothing_new().into() } else { objects.poll() })
}

/// `GET /sdk/stream`
pub(super) async fn stream(State(downstream): State<Arc<Downstream>>, caller: Caller, uri: Uri) -> Response {
    let Some(source) = caller.environment.fdv2.as_ref().map(yardarm_core::Environment::update_source) else {
        return not_initialized();
    };
    let basis = first_query_value(uri.query(), "basis");
    let has_everything = newest(&caller).filter(|it| basis.as_deref() == Some(&it.data().state()));
    let start = match has_everything {
        Some(snapshot) => Start::After(snapshot.seq(), snapshot.data().nothing_new_frame()),
        None => Start::Everything,
    };
    open(&downstream, caller, source, 0, start)
}

fn newest(caller: &Caller) -> Option<Arc<Snapshot<Fdv2Data>>> {
    caller.environment.fdv2.as_ref()?.snapshot()
}
