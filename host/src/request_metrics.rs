//! Metrics of requests, recorded as they are answered, and what else can record requests.

mod sdk_counts;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use http::{Method, StatusCode};
use yardarm_core::SdkRelease;
use yardarm_core::metrics::catalog::{HTTP_REQUEST_SECONDS, HTTP_REQUESTS};
use yardarm_core::metrics::{HistogramVec, IntCounterVec, Registry};
use yardarm_core::registry::RouteTag;
use yardarm_core::trace::Span;

use self::sdk_counts::SdkCounts;

/// Upper bounds of the histogram of times, in seconds.
const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Metrics that are recorded per request. Cheap to clone.
#[derive(Clone)]
pub struct RequestMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    sdks: Arc<SdkCounts>,
}

/// Records requests in a way of its own.
pub(crate) trait RequestObserver: Send + Sync {
    /// Records the arrival of a request.
    fn begin(&self, request: &Request) -> Box<dyn ObservedRequest>;
}

/// A request that is being answered. If it is dropped, there was no answer.
pub(crate) trait ObservedRequest: Send + Sync {
    /// Returns the span of the request, if it has one.
    fn span(&self) -> Option<&Span>;

    /// Records the answer.
    fn end(self: Box<Self>, answered: &Answered<'_>);
}

/// The answer to a request.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only exporters read answers"))]
pub(crate) struct Answered<'a> {
    /// The method, as the SDK sent it.
    pub(crate) method: &'a Method,
    /// The route, if one was found.
    pub(crate) tag: Option<&'a RouteTag>,
    pub(crate) status: StatusCode,
    /// Whether a stream has begun.
    pub(crate) is_stream: bool,
    pub(crate) took: Duration,
}

impl RequestMetrics {
    /// Creates the metrics, all zero, and registers them.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            requests: HTTP_REQUESTS.counters(),
            seconds: HTTP_REQUEST_SECONDS.histograms(&BOUNDS),
            sdks: Arc::default(),
        };
        let recorded = metrics.clone();
        registry.register(move |families| {
            families.collect(&recorded.requests);
            families.collect(&recorded.seconds);
            recorded.sdks.collect(families);
        });
        metrics
    }

    /// Counts an answered request.
    pub fn request(&self, route: &str, status: StatusCode, took: Duration) {
        let class = match status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, class]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Counts a request with an accepted credential by its SDK; `None` is an SDK that is not known.
    pub fn sdk(&self, vendor: &'static str, release: Option<SdkRelease>) {
        self.sdks.count(vendor, release);
    }
}
