//! `POST /metrics/{environment}` (F086).

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::auth::Caller;
use super::rejection::{Rejection, json_body};
use super::state::Downstream;
use crate::metrics::{NotTaken, Reservation};

pub(super) async fn post(State(downstream): State<Downstream>, caller: Caller, request: Request) -> Response {
    match take(&downstream, caller, request).await {
        Ok(()) => json_body("null\n"),
        Err(rejection) => rejection.into_response(),
    }
}

async fn take(downstream: &Downstream, caller: Caller, request: Request) -> Result<(), Rejection> {
    let metrics = &caller.environment.metrics;
    let mut reservation = metrics.reserve();
    let limit = usize::try_from(downstream.config.max_metrics_body).unwrap_or(usize::MAX);
    let body = read(request, limit, &mut reservation).await?;
    let post = metrics.read(body).await?;
    downstream.compat_metrics.metrics(&caller.environment.identity.id, &post.sdks);
    metrics.accept(post, reservation, caller.facts.route, caller.facts.sdk);
    Ok(())
}

/// Reads a body. Its bytes are reserved while they arrive, so that no body exceeds its limit.
async fn read(request: Request, limit: usize, reservation: &mut Reservation) -> Result<Bytes, Rejection> {
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Rejection::Bad("the body ended too early".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Rejection::TooLarge);
        }
        reservation.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

impl From<NotTaken> for Rejection {
    fn from(problem: NotTaken) -> Self {
        match problem {
            NotTaken::Busy => Self::Busy,
            malformed @ NotTaken::Malformed(_) => Self::Bad(malformed.to_string()),
        }
    }
}
