//! What every request of an SDK passes, whatever the vendor: panic guard, span, counters, limits of size and time, and
//! `Retry-After` on every temporary refusal.

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
use yardarm_core::hooks::ClientAddress;
use yardarm_core::registry::RouteTag;
use yardarm_core::retry_after::{self, PassedThrough};
use yardarm_core::supervisor::{self, fault_point};

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

/// A panic in a handler is logged and costs this request only.
pub(crate) fn catch_panics(router: Router) -> Router {
    let router = Router::new().fallback_service(router);
    // For tests; nothing that users run carries it.
    let router = if cfg!(debug_assertions) { router.layer(middleware::map_request(panic_on_purpose)) } else { router };
    router.layer(CatchPanicLayer::custom(answer_panic))
}

async fn panic_on_purpose(request: Request) -> Request {
    fault_point("request");
    request
}

/// Everything of some size but streams, whose events must leave one by one.
fn compression() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new()
        .compress_when(SizeAbove::new(256).and(NotForContentType::SSE).and(NotForContentType::IMAGES))
}

/// Bounds a request and notes how it went. A stream counts as answered once its head is there.
async fn observe(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let span = tracing::debug_span!("request", method = %request.method(), http.route = tracing::field::Empty, client = tracing::field::Empty);
    if let Some(client) = ClientAddress::of(request.extensions()) {
        span.record("client", tracing::field::display(client));
    }
    let request = request.map(|body| Body::new(Limited::new(body, guard.max_body)));
    let answer = tokio::time::timeout(guard.timeout, next.run(request).instrument(span.clone())).await;
    let mut response = answer.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response());
    if response.extensions().get::<PassedThrough>().is_none() {
        retry_after::complete(response.status(), response.headers_mut());
    }
    let route = response.extensions().get::<RouteTag>().map_or("other", |tag| tag.route);
    span.record("http.route", route);
    guard.request_metrics.request(route, response.status(), start.elapsed());
    response
}

/// A panic is a fault of ours, and SDKs give up for good on most other statuses.
fn answer_panic(payload: Box<dyn Any + Send + 'static>) -> Response {
    supervisor::report_caught("request", &*payload);
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
