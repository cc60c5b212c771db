//! Metrics of requests, recorded as they are answered.

use std::time::Duration;

use http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Requests answered, by route and status class. A stream counts when its head is sent.
const REQUESTS: &str = "yardarm_http_requests_total";
/// Time to the head of the response, by route.
const REQUEST_SECONDS: &str = "yardarm_http_request_seconds";

/// Metrics that are recorded per request; all others are computed when metrics are requested. Cheap to clone.
#[derive(Clone)]
pub struct RequestMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestMetrics {
    /// Creates the metrics, all zero.
    #[must_use]
    pub fn new() -> Self {
        let buckets = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        let seconds = HistogramOpts::new(REQUEST_SECONDS, "Time to the head of the response.").buckets(buckets);
        Self {
            requests: IntCounterVec::new(Opts::new(REQUESTS, "Requests answered."), &["route", "status"])
                .expect("a valid metric"),
            seconds: HistogramVec::new(seconds, &["route"]).expect("a valid metric"),
        }
    }

    /// Registers these metrics.
    pub(crate) fn register(&self, registry: &Registry) {
        registry.register(Box::new(self.requests.clone())).expect("each metric is registered once");
        registry.register(Box::new(self.seconds.clone())).expect("each metric is registered once");
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
}
