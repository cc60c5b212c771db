//! Layers around the routes of all vendors: panic guard, span, counters, limits of size and time, and `Retry-After` on
//! every temporary rejection.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use http_body_util::Limited;
use tokio::time::Instant;
use tower::{Layer, Service, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tracing::Instrument;
use yardarm_core::registry::RouteTag;
use yardarm_core::retry_after::{self, PassedThrough};
use yardarm_core::supervisor::{self, fault_point};
use yardarm_core::trace;
use yardarm_vendor::admission;

use crate::config::Config;
use crate::explanations::Explanations;
use crate::listener::Answers;
use crate::request_metrics::{Answered, RequestMetrics, RequestObserver};
use crate::vendors::Routes;

/// Beginning of the content type of streams.
const STREAM: &[u8] = b"text/event-stream";

/// Routes of vendors with the layers around them. They are functions instead of layers of a router, each of which would
/// clone its service and allocate its future for every request.
pub(crate) struct Layered {
    routes: Routes,
    is_compressed: bool,
    request_metrics: RequestMetrics,
    explanations: Explanations,
    /// Records requests for exporters of telemetry.
    observer: Option<Arc<dyn RequestObserver>>,
    timeout: Duration,
    max_body: usize,
    /// Whether each request has a line in the log.
    is_logged: bool,
}

impl Layered {
    pub(crate) fn new(
        routes: Routes,
        config: &Config,
        request_metrics: RequestMetrics,
        explanations: Explanations,
        observer: Option<Arc<dyn RequestObserver>>,
    ) -> Self {
        Self {
            routes,
            is_compressed: config.compression,
            request_metrics,
            explanations,
            observer,
            timeout: config.request_timeout,
            max_body: usize::try_from(config.max_body).unwrap_or(usize::MAX),
            is_logged: config.log.requests,
        }
    }

    /// Limits the time of a request and records its outcome. A stream counts as answered once its head is ready.
    async fn observe(&self, mut request: Request) -> Response {
        self.explanations.apply(&mut request);
        let start = Instant::now();
        let span = admission::request_span(request.extensions());
        let is_head = request.method() == Method::HEAD;
        let logged = self.is_logged.then(|| (span.clone(), request.method().clone()));
        let observed = self.observer.as_ref().map(|it| (it.begin(&request), request.method().clone()));
        let traced = observed.as_ref().and_then(|(it, _)| it.span());
        // By reference, because the future is large.
        let guarded = pin!(self.guard(request).instrument(span));
        let answer = trace::within(traced, guarded);
        let answer = tokio::time::timeout(self.timeout, answer).await;
        let mut response = answer.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response());
        if response.extensions().get::<PassedThrough>().is_none() {
            retry_after::complete(response.status(), response.headers_mut());
        }
        set_length(&mut response);
        if is_head {
            *response.body_mut() = Body::empty();
        }
        let tag = response.extensions().get::<RouteTag>();
        let route = tag.map_or("other", |tag| tag.route);
        self.request_metrics.request(route, response.status(), start.elapsed());
        if let Some(RouteTag { environment: Some(environment), sdk, .. }) = tag {
            self.request_metrics.sdk(environment.vendor(), *sdk);
        }
        if let Some((span, method)) = logged {
            let (status, milliseconds) = (response.status().as_u16(), start.elapsed().as_secs_f64() * 1000.0);
            let milliseconds = (milliseconds * 1000.0).round() / 1000.0;
            let line = || tracing::info!(%method, route, status, milliseconds, "request answered");
            trace::in_scope(traced, || span.in_scope(line));
        }
        if let Some((observed, method)) = observed {
            let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(STREAM));
            let (status, took) = (response.status(), start.elapsed());
            observed.end(&Answered { method: &method, tag, status, is_stream, took });
        }
        response
    }

    /// Catches a panic, which is logged and affects this request only.
    async fn guard(&self, request: Request) -> Response {
        let answer = async {
            // Lets tests inject a panic; release builds do nothing here.
            fault_point("request");
            let request = self.limit_body(request);
            if self.is_compressed { self.compress(request).await } else { self.routes.answer(request).await }
        };
        AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(answer_panic)
    }

    fn limit_body(&self, request: Request) -> Request {
        if request.body().is_end_stream() {
            return request;
        }
        request.map(|body| Body::new(Limited::new(body, self.max_body)))
    }

    async fn compress(&self, request: Request) -> Response {
        let routes = service_fn(async |request| Ok::<_, Infallible>(self.routes.answer(request).await));
        let response = compression().layer(routes).call(request).await.unwrap_or_else(|never| match never {});
        response.map(Body::new)
    }
}

impl Answers for Layered {
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move { self.observe(request).await })
    }
}

/// Compresses responses above a size, but not streams, whose events must be sent one by one.
fn compression() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new()
        .compress_when(SizeAbove::new(256).and(NotForContentType::SSE).and(NotForContentType::IMAGES))
}

/// Catches a panic in a handler of `router`, which is logged and affects this request only.
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

/// States the length of a response whose length is known, as a router does.
fn set_length(response: &mut Response) {
    if let Some(length) =
        response.body().size_hint().exact().filter(|_| !response.headers().contains_key(CONTENT_LENGTH))
    {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Responds 503 after a panic, because SDKs never retry after most other statuses.
fn answer_panic(payload: Box<dyn Any + Send + 'static>) -> Response {
    supervisor::report_caught("request", &*payload);
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
