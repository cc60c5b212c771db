//! Layers around the routes of all vendors: panic guard, span, counters, limits of size and time, and `Retry-After` on
//! every temporary rejection.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http_body_util::Limited;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tracing::Instrument;
use yardarm_core::registry::RouteTag;
use yardarm_core::retry_after::{self, PassedThrough};
use yardarm_core::supervisor::{self, fault_point};
use yardarm_vendor::admission;

use crate::config::Config;
use crate::request_metrics::RequestMetrics;

#[derive(Clone)]
struct Guard {
    request_metrics: RequestMetrics,
    timeout: Duration,
    max_body: usize,
}

/// Wraps the routes of all vendors.
pub fn apply(router: Router, config: &Config, request_metrics: RequestMetrics) -> Router {
    let guard = Guard {
        request_metrics,
        timeout: config.request_timeout,
        max_body: usize::try_from(config.max_body).unwrap_or(usize::MAX),
    };
    let router = if config.compression { router.layer(compression()) } else { router };
    catch_panics(router).layer(middleware::from_fn_with_state(guard, observe))
}

/// Catches a panic in a handler, which is logged and affects this request only.
pub(crate) fn catch_panics(router: Router) -> Router {
    let router = Router::new().fallback_service(router);
    // Lets tests inject a panic; release builds do not contain this layer.
    let router = if cfg!(debug_assertions) { router.layer(middleware::map_request(inject_panic)) } else { router };
    router.layer(CatchPanicLayer::custom(answer_panic))
}

async fn inject_panic(request: Request) -> Request {
    fault_point("request");
    request
}

/// Compresses responses above a size, but not streams, whose events must be sent one by one.
fn compression() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new()
        .compress_when(SizeAbove::new(256).and(NotForContentType::SSE).and(NotForContentType::IMAGES))
}

/// Limits the time of a request and records its outcome. A stream counts as answered once its head is ready.
async fn observe(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let span = admission::request_span(request.extensions());
    let request = request.map(|body| Body::new(Limited::new(body, guard.max_body)));
    let answer = tokio::time::timeout(guard.timeout, next.run(request).instrument(span)).await;
    let mut response = answer.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response());
    if response.extensions().get::<PassedThrough>().is_none() {
        retry_after::complete(response.status(), response.headers_mut());
    }
    let route = response.extensions().get::<RouteTag>().map_or("other", |tag| tag.route);
    guard.request_metrics.request(route, response.status(), start.elapsed());
    response
}

/// Responds 503 after a panic, because SDKs never retry after most other statuses.
fn answer_panic(payload: Box<dyn Any + Send + 'static>) -> Response {
    supervisor::report_caught("request", &*payload);
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
