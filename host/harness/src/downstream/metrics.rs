//! `POST /metrics/{environment}` (section 4.10 of the compatibility page).

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};

use super::Downstream;
use super::auth::Caller;
use super::rejection::{Rejection, json_body};
use crate::metrics::NotTaken;

pub(super) async fn post(State(downstream): State<Downstream>, caller: Caller, request: Request) -> Response {
    let limit = usize::try_from(downstream.config.max_metrics_body).unwrap_or(usize::MAX);
    let body = match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Rejection::TooLarge.into_response(),
    };
    let environment = &caller.environment;
    match environment.metrics.accept(body.clone(), caller.facts.route, caller.facts.sdk) {
        Err(NotTaken::Busy) => Rejection::Busy.into_response(),
        Err(malformed) => Rejection::Bad(malformed.to_string()).into_response(),
        Ok(()) => {
            downstream.telemetry.metrics(&environment.identity.id, &body);
            json_body("null\n")
        }
    }
}
