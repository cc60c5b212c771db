//! Flags and segments for server SDKs (F058 to F066).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::Uri;

use super::auth::Caller;
use super::rejection::{Rejection, json_body};
use super::state::Downstream;
use crate::data::dataset::{SegmentForm, segment_text};

/// `GET …/feature-configs`
pub(super) async fn flags(caller: Caller) -> Response {
    match caller.environment.data.snapshot() {
        Some(snapshot) => json_body(snapshot.data().flag_list()),
        None => Rejection::NoData.into_response(),
    }
}

/// `GET …/feature-configs/{item}`
pub(super) async fn flag(caller: Caller, Path(path): Path<Vec<(String, String)>>) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return Rejection::NoData.into_response() };
    match snapshot.data().items().flag(item(&path)) {
        Some(flag) => json_body(flag.line().clone()),
        None => Rejection::NotFound("no such flag".to_owned()).into_response(),
    }
}

/// `GET …/target-segments`
pub(super) async fn segments(State(downstream): State<Arc<Downstream>>, caller: Caller, uri: Uri) -> Response {
    match caller.environment.data.snapshot() {
        Some(snapshot) => json_body(snapshot.data().segment_list(form(&downstream, &uri))),
        None => Rejection::NoData.into_response(),
    }
}

/// `GET …/target-segments/{item}`
pub(super) async fn segment(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    Path(path): Path<Vec<(String, String)>>,
    uri: Uri,
) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return Rejection::NoData.into_response() };
    match snapshot.data().items().segment(item(&path)) {
        Some(segment) => json_body(segment_text(segment, form(&downstream, &uri)).line().clone()),
        None => Rejection::NotFound("no such segment".to_owned()).into_response(),
    }
}

/// Returns the last variable of a path, decoded.
pub(super) fn item(path: &[(String, String)]) -> &str {
    path.iter().find(|(name, _)| name == "item").map_or("", |(_, item)| item)
}

/// Returns the form of segment rules: newer SDKs request rules of several clauses.
fn form(downstream: &Downstream, uri: &Uri) -> SegmentForm {
    let is_requested = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "rules=v2"));
    if is_requested && downstream.config.and_rules { SegmentForm::New } else { SegmentForm::Old }
}
