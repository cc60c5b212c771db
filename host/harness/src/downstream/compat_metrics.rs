//! Metrics under the names and labels of ff-proxy, so that its dashboards go on working (F089).

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::routes;
use crate::environments::{Connection, Environments};
use crate::metrics::{KnownSdks, OTHER, Sdk};
use crate::upstream::Registrations;

/// Responses. `url` is the pattern of the route.
const REQUESTS: &str = "ff_proxy_http_requests_total";
/// Seconds to the head of the response.
const DURATIONS: &str = "ff_proxy_http_requests_duration";
/// Entries of metrics by the SDK that sent them.
const SDKS: &str = "ff_proxy_sdk_usage";
/// Posts of metrics to Harness, and whether they failed.
const FORWARDED: &str = "ff_proxy_metrics_forwarded";
/// Events that were sent to streams of SDKs.
const PUBLISHED: &str = "ff_proxy_sse_publish";
/// Ends of Harness' streams, which end those of SDKs.
const CLOSED: &str = "ff_proxy_sse_stream_close";
/// Targets that SDKs presented, by the outcome of their registration with Harness.
const REGISTRATIONS: &str = "yardarm_harness_target_registrations_total";
/// Targets that wait to be registered.
const WAITING: &str = "yardarm_harness_target_registrations_waiting";
/// 1 while the upstream streams of all environments are connected.
const HEALTH: &str = "ff_proxy_stream_health";

/// Buckets of the reference, so that quantiles mean the same.
const BUCKETS: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0];

/// Counters of one gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CompatMetrics(Arc<Shared>);

struct Shared {
    /// Metrics that are counted as requests arrive; all others are collected when they are rendered.
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    sdks: IntCounterVec,
    known_sdks: KnownSdks,
    host: String,
}

impl CompatMetrics {
    /// Returns counters at zero.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let requests = counters(REQUESTS, "Responses.", &["url", "envID", "code", "method"]);
        let options = HistogramOpts::new(DURATIONS, "Seconds to the head of the response.").buckets(BUCKETS.to_vec());
        let durations = HistogramVec::new(options, &["url", "envID"]).expect("a valid metric");
        let sdks = counters(SDKS, "Entries of metrics by SDK.", &["envID", "sdk_type", "sdk_version", "sdk_language"]);
        register(&registry, requests.clone());
        register(&registry, durations.clone());
        register(&registry, sdks.clone());
        Self(Arc::new(Shared { registry, requests, durations, sdks, known_sdks: KnownSdks::default(), host: host() }))
    }

    /// Counts a response. `route` is the path in the route table, `environment` the ID of an existing one or empty.
    pub(crate) fn request(
        &self,
        route: Option<&str>,
        environment: &str,
        method: &Method,
        status: StatusCode,
        time: Duration,
    ) {
        let Some(url) = url(route) else { return };
        self.0.requests.with_label_values(&[url, environment, status.as_str(), method_label(method)]).inc();
        self.0.durations.with_label_values(&[url, environment]).observe(time.as_secs_f64());
    }

    /// Counts the entries of a post of metrics by their SDKs.
    pub(crate) fn metrics(&self, environment: &str, sdks: &[Sdk]) {
        for sdk in sdks {
            let [kind, version, language] = self.0.known_sdks.bounded(environment, sdk.clone());
            self.0.sdks.with_label_values(&[environment, &*kind, &*version, &*language]).inc();
        }
    }

    /// Renders all metrics in the text format of Prometheus.
    pub(crate) fn render(&self, environments: &Environments, registrations: &Registrations) -> Vec<u8> {
        let mut families = self.0.registry.gather();
        families.extend(self.of_environments(environments).gather());
        families.extend(of_registrations(registrations).gather());
        families.sort_by(|left, right| left.name().cmp(right.name()));
        let mut text = Vec::new();
        // Writing to memory cannot fail.
        let _ = TextEncoder::new().encode(&families, &mut text);
        text
    }

    fn of_environments(&self, environments: &Environments) -> Registry {
        let registry = Registry::new();
        let forwarded = counters(FORWARDED, "Posts of metrics to Harness.", &["envID", "error"]);
        let labels = ["environment", "api_key", "error"];
        let published = counters(PUBLISHED, "Events that were sent to streams of SDKs.", &labels);
        let closed = counters(CLOSED, "Ends of Harness' streams, which end those of SDKs.", &labels);
        let all = environments.all();
        for environment in &all {
            let (id, counters) = (environment.identity.id.as_str(), &environment.counters);
            let (arrived, failed) = counters.posts();
            forwarded.with_label_values(&[id, "false"]).inc_by(arrived);
            forwarded.with_label_values(&[id, "true"]).inc_by(failed);
            published.with_label_values(&[id, counters.key(), "false"]).inc_by(counters.published());
            closed.with_label_values(&[id, counters.key(), "false"]).inc_by(counters.closed());
        }
        let is_healthy = !all.is_empty()
            && !environments.are_incomplete()
            && all.iter().all(|it| it.stream().connection == Connection::Connected);
        let health = Opts::new(HEALTH, "1 while the upstream streams of all environments are connected.");
        let health = IntGaugeVec::new(health, &["host"]).expect("a valid metric");
        health.with_label_values(&[&self.0.host]).set(is_healthy.into());
        register(&registry, forwarded);
        register(&registry, published);
        register(&registry, closed);
        register(&registry, health);
        registry
    }
}

fn of_registrations(registrations: &Registrations) -> Registry {
    let registry = Registry::new();
    let counts = counters(REGISTRATIONS, "Targets by the outcome of their registration.", &["outcome"]);
    counts.with_label_values(&["registered"]).inc_by(registrations.registered);
    counts.with_label_values(&["refused"]).inc_by(registrations.refused);
    counts.with_label_values(&["dropped"]).inc_by(registrations.dropped);
    let waiting = IntGaugeVec::new(Opts::new(WAITING, "Targets that wait to be registered."), &[]);
    let waiting = waiting.expect("a valid metric");
    waiting.with_label_values::<&str>(&[]).set(i64::try_from(registrations.waiting).unwrap_or(i64::MAX));
    register(&registry, counts);
    register(&registry, waiting);
    registry
}

/// Returns the pattern as the reference writes it; `None` for routes that it does not count.
fn url(matched: Option<&str>) -> Option<&'static str> {
    match matched.and_then(routes::find) {
        Some(route) => route.counted_as,
        None => Some(OTHER),
    }
}

/// Returns the label of a method. Callers may send any method, so unknown ones share a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => OTHER,
    }
}

/// Returns the host name, which in a container is that of the container.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric")
}

fn register(registry: &Registry, metric: impl Collector + 'static) {
    registry.register(Box::new(metric)).expect("each metric is registered once");
}
