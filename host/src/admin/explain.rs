//! Tickets for explanations, and what requests with them have caused.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as FromState};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::hooks::LoggedCall;

use super::control::{ErrorDocument, Operator, error};
use super::{Shared, uncached};
use crate::explanations::{TICKET_HEADER, TICKET_LIFETIME};

/// A ticket.
#[derive(Serialize, ToSchema)]
struct TicketDocument {
    ticket: String,
    /// The request header that it belongs in.
    header: String,
    /// How long it is valid.
    valid_s: u64,
}

/// The calls of the requests with a ticket.
#[derive(Serialize, ToSchema)]
struct ExplanationDocument {
    /// In the order in which they ended, 200 at most.
    calls: Vec<LoggedCall>,
}

/// Creates a ticket. Requests of SDKs that have it in the header `yardarm-explain` are explained for five minutes.
#[utoipa::path(
    post,
    path = "/api/explain",
    security(("token" = [])),
    responses(
        (status = 200, body = TicketDocument),
        (status = 401, body = ErrorDocument, description = "The token is missing or wrong."),
        (status = 403, body = ErrorDocument, description = "No token is configured."),
    )
)]
pub(super) async fn create(FromState(state): FromState<Shared>, Operator { peer }: Operator) -> Response {
    tracing::info!(%peer, "requests with a ticket are explained");
    let ticket = state.explanations.create();
    uncached(Json(TicketDocument { ticket, header: TICKET_HEADER.to_string(), valid_s: TICKET_LIFETIME.as_secs() }))
}

/// Returns the calls of plugins that requests with a ticket have caused so far: decision or failure, and time.
#[utoipa::path(
    get,
    path = "/api/explain/{ticket}",
    params(("ticket" = String, Path, description = "The ticket.")),
    security(("token" = [])),
    responses(
        (status = 200, body = ExplanationDocument),
        (status = 401, body = ErrorDocument, description = "The token is missing or wrong."),
        (status = 403, body = ErrorDocument, description = "No token is configured."),
        (status = 404, body = ErrorDocument, description = "The ticket is not valid, or not any more."),
    )
)]
pub(super) async fn read(
    FromState(state): FromState<Shared>,
    _: Operator,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    match path.ok().and_then(|Path(ticket)| state.explanations.find(&ticket)) {
        Some(log) => uncached(Json(ExplanationDocument { calls: log.calls() })),
        None => error(StatusCode::NOT_FOUND, "the ticket is not valid, or not any more"),
    }
}
