//! `GET /metrics`, and the layer that counts requests (F089).

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use tokio::time::Instant;
use yardarm_core::metrics;

use super::routes::environment_id;
use super::state::Downstream;

/// Responds without a token, as the vendor's relay does.
pub(super) async fn show(State(downstream): State<Arc<Downstream>>) -> Response {
    let text = downstream.compat_metrics.render(&downstream.environments, &downstream.registrar.report());
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// The layer around all routes, so that rejections are counted too.
pub(super) async fn count(State(downstream): State<Arc<Downstream>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    // Callers may request any environment; only those that exist have a label.
    let environment = environment_id(request.uri().path()).and_then(|it| downstream.environments.by_id(it));
    let response = next.run(request).await;
    let environment = environment.as_ref().map_or("", |it| it.identity.id.as_str());
    let route = route.as_ref().map(MatchedPath::as_str);
    downstream.compat_metrics.request(route, environment, &method, response.status(), start.elapsed());
    response
}
