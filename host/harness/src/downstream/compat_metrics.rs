//! Metrics under the names and labels of ff-proxy, so that its dashboards go on working (F089).

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::StatusCode;
use yardarm_core::metrics::{Families, HistogramVec, IntCounterVec, table};

use super::routes;
use crate::environments::{Connection, Environments};
use crate::metrics::{KnownSdks, OTHER, Sdk};
use crate::upstream::Registrations;

yardarm_core::catalog! {
    REQUESTS = counter("ff_proxy_http_requests_total", ["url", "envID", "code", "method"],
        "Responses; `url` is the pattern of the route.");
    DURATIONS = histogram("ff_proxy_http_requests_duration", ["url", "envID"], "Seconds to the head of the response.");
    SDKS = counter("ff_proxy_sdk_usage", ["envID", "sdk_type", "sdk_version", "sdk_language"],
        "Entries of metrics by the SDK that sent them.");
    FORWARDED = counter("ff_proxy_metrics_forwarded", ["envID", "error"],
        "Posts of metrics to Harness, and whether they failed.");
    PUBLISHED = counter("ff_proxy_sse_publish", ["environment", "api_key", "error"],
        "Events that were sent to streams of SDKs.");
    CLOSED = counter("ff_proxy_sse_stream_close", ["environment", "api_key", "error"],
        "Ends of Harness' streams, which end those of SDKs.");
    HEALTH = gauge("ff_proxy_stream_health", ["host"],
        "1 while the upstream streams of all environments are connected, otherwise 0.");
    REGISTRATIONS = counter("yardarm_harness_target_registrations_total", ["outcome"],
        "Targets that SDKs presented, by the outcome of their registration with Harness.");
    WAITING = gauge("yardarm_harness_target_registrations_waiting", [],
        "Targets that wait to be registered with Harness.");
}

/// Buckets of the reference, so that quantiles mean the same.
const BUCKETS: [f64; 8] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0];

/// Counters of one gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CompatMetrics(Arc<Shared>);

/// Metrics that are recorded as requests arrive; all others are computed when they are rendered.
struct Shared {
    requests: IntCounterVec,
    durations: HistogramVec,
    sdks: IntCounterVec,
    known_sdks: KnownSdks,
    host: String,
}

impl CompatMetrics {
    /// Returns counters at zero.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            requests: REQUESTS.counters(),
            durations: DURATIONS.histograms(&BUCKETS),
            sdks: SDKS.counters(),
            known_sdks: KnownSdks::default(),
            host: host(),
        }))
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
    pub(crate) fn render(&self, environments: &Environments, registered: &Registrations) -> String {
        let mut families = Families::default();
        families.collect(&self.0.requests);
        families.collect(&self.0.durations);
        families.collect(&self.0.sdks);
        let all = environments.all();
        for environment in &all {
            let (id, counters) = (environment.identity.id.as_str(), &environment.counters);
            let (arrived, failed) = counters.posts();
            families.sample(&FORWARDED, &[id, "false"], arrived);
            families.sample(&FORWARDED, &[id, "true"], failed);
            families.sample(&PUBLISHED, &[id, counters.key(), "false"], counters.published());
            families.sample(&CLOSED, &[id, counters.key(), "false"], counters.closed());
        }
        let is_healthy = !all.is_empty()
            && !environments.are_incomplete()
            && all.iter().all(|it| it.stream().connection == Connection::Connected);
        families.sample(&HEALTH, &[&self.0.host], is_healthy);
        registrations(&mut families, registered);
        families.encode()
    }
}

/// Adds the metrics about registrations of targets, which ff-proxy does not have.
pub(crate) fn registrations(families: &mut Families, counts: &Registrations) {
    families.sample(&REGISTRATIONS, &["registered"], counts.registered);
    families.sample(&REGISTRATIONS, &["refused"], counts.refused);
    families.sample(&REGISTRATIONS, &["dropped"], counts.dropped);
    families.sample(&WAITING, &[], counts.waiting);
}

/// Returns the documentation of the metrics, in Markdown.
#[must_use]
pub fn metrics_document() -> String {
    format!(
        "## Harness\n\nUnder the names of ff-proxy, at `/metrics` of the Harness side; the admin listener serves the last two \
         as well.\n\n{}",
        table(ALL.iter().copied())
    )
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
