//! `POST /metrics/{environment}` (F086).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use yardarm_vendor::body::collect;

use super::auth::Caller;
use super::rejection::{Rejection, json_body};
use super::state::Downstream;
use crate::metrics::NotTaken;

pub(super) async fn post(State(downstream): State<Arc<Downstream>>, caller: Caller, request: Request) -> Response {
    match take(&downstream, caller, request).await {
        Ok(()) => json_body("null\n"),
        Err(rejection) => rejection.into_response(),
    }
}

async fn take(downstream: &Downstream, caller: Caller, request: Request) -> Result<(), Rejection> {
    let metrics = &caller.environment.metrics;
    let mut reservation = metrics.reserve();
    let limit = usize::try_from(downstream.config.max_metrics_body).unwrap_or(usize::MAX);
    let body = collect(request.into_body(), limit, |length| reservation.cover(length)).await?;
    let post = metrics.read(body).await?;
    downstream.compat_metrics.metrics(&caller.environment.identity.id, &post.sdks);
    metrics.accept(post, reservation, caller.admitted.request);
    Ok(())
}

impl From<NotTaken> for Rejection {
    fn from(problem: NotTaken) -> Self {
        match problem {
            NotTaken::Busy => Self::Busy,
            malformed @ NotTaken::Malformed(_) => Self::Bad(malformed.to_string()),
        }
    }
}
