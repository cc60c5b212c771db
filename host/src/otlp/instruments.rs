//! The instruments, under the names of LaunchDarkly's relay 9.0, of which dashboards exist. Rows V052 and D8.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use parking_lot::Mutex;
use yardarm_core::registry::RouteTag;

/// Upper bounds of durations, in seconds: those of the semantic conventions.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Name of the metric of requests and streams at this moment.
pub(super) const ACTIVE: &str = "http.server.active_requests";
/// Names of `http.request.method`. Any other method is the last one.
pub(super) const METHODS: [&str; 6] = ["GET", "POST", "REPORT", "OPTIONS", "HEAD", "_OTHER"];
pub(super) const SCHEMES: [&str; 2] = ["http", "https"];

/// Values of metrics that are read from the gateway at each export, by name.
pub(super) type Samples = BTreeMap<&'static str, Vec<(Vec<KeyValue>, i64)>>;

/// The kind of a metric that is read.
#[derive(Clone, Copy)]
enum Kind {
    /// A value that goes up and down, and that may not be added up.
    Gauge,
    /// A number of things that go up and down.
    Level,
    /// A number that only grows.
    Count,
}

use Kind::{Count, Gauge, Level};

/// The metrics that are read, with their units and meanings.
const READ: &[(&str, Kind, &str, &str)] = &[
    ("launchdarkly.relay.events.sent", Count, "{event}", "Events delivered upstream."),
    ("launchdarkly.relay.events.failed", Count, "{event}", "Events that upstream refused or did not answer for."),
    ("launchdarkly.relay.events.dropped", Count, "{event}", "Events that were dropped before they were sent."),
    ("launchdarkly.relay.events.pending", Level, "{event}", "Events that wait or are being sent."),
    ("launchdarkly.relay.init.slots.held", Level, "{delivery}", "Full deliveries that count towards their limit."),
    ("launchdarkly.relay.init.queue.waiting", Level, "{delivery}", "Full deliveries that wait for others."),
    ("launchdarkly.relay.init.admitted", Count, "{delivery}", "Full deliveries that have begun."),
    ("launchdarkly.relay.init.rejected", Count, "{delivery}", "Full deliveries that were refused."),
    (
        "launchdarkly.relay.init.sheds",
        Count,
        "{delivery}",
        "Full deliveries to clients that read too slowly, which count no longer.",
    ),
    ("launchdarkly.relay.status", Gauge, "1", "1 for the current state of the gateway, 0 for the others."),
    ("launchdarkly.relay.environment.count", Level, "{environment}", "Environments."),
    ("launchdarkly.relay.environment.status.count", Level, "{environment}", "Environments by status."),
    (
        "launchdarkly.relay.environment.connection.state.count",
        Level,
        "{environment}",
        "Environments by state of the connection to upstream.",
    ),
    (
        "launchdarkly.relay.environment.datastore.state.count",
        Level,
        "{environment}",
        "Environments by state of their databases.",
    ),
    (
        "launchdarkly.relay.environment.big_segments.unavailable.count",
        Level,
        "{environment}",
        "Environments whose Big Segments cannot be queried.",
    ),
    (
        "launchdarkly.relay.environment.big_segments.stale.count",
        Level,
        "{environment}",
        "Environments whose Big Segments are out of date.",
    ),
    (
        "launchdarkly.relay.autoconfig.state",
        Gauge,
        "1",
        "1 for the current state of auto-configuration, 0 for the others.",
    ),
    ("launchdarkly.relay.autoconfig.state.since", Gauge, "s", "Unix time of the last change of the state."),
    ("launchdarkly.relay.autoconfig.last_error", Gauge, "s", "Unix time of the last error."),
    (
        "launchdarkly.relay.environment.status",
        Gauge,
        "1",
        "1 for the current status of the environment, 0 for the others.",
    ),
    (
        "launchdarkly.relay.environment.connection.state",
        Gauge,
        "1",
        "1 for the current state of the connection, 0 for the others.",
    ),
    ("launchdarkly.relay.environment.connection.state.since", Gauge, "s", "Unix time of the last change of the state."),
    ("launchdarkly.relay.environment.connection.last_error", Gauge, "s", "Unix time of the last error."),
    (
        "launchdarkly.relay.environment.datastore.state",
        Gauge,
        "1",
        "1 for the current state of the database, 0 for the others.",
    ),
    ("launchdarkly.relay.environment.datastore.state.since", Gauge, "s", "Unix time of the last change of the state."),
    ("launchdarkly.relay.environment.datastore.info", Gauge, "1", "1, with the database of the environment."),
    ("launchdarkly.relay.environment.big_segments.available", Gauge, "1", "1 while Big Segments can be queried."),
    ("launchdarkly.relay.environment.big_segments.stale", Gauge, "1", "1 while Big Segments are out of date."),
    (
        "launchdarkly.relay.environment.big_segments.last_synchronized",
        Gauge,
        "s",
        "Unix time of the last synchronization.",
    ),
    ("launchdarkly.relay.environment.info", Gauge, "1", "1, with the vendor of the environment."),
];

/// All instruments.
pub(super) struct Instruments {
    pub(super) requests: Counter<u64>,
    pub(super) duration: Histogram<f64>,
    in_progress: Arc<InProgress>,
    samples: Arc<ArcSwap<Samples>>,
    /// Templates of paths by vendor, route and method, as requests have shown them. Open streams do not keep theirs.
    paths: Mutex<BTreeMap<(&'static str, &'static str, &'static str), &'static str>>,
}

/// Requests at this moment that are no streams, by scheme and method.
#[derive(Default)]
struct InProgress([[AtomicI64; METHODS.len()]; SCHEMES.len()]);

/// A request in progress; ends when dropped.
pub(super) struct Active {
    all: Arc<InProgress>,
    scheme: usize,
    method: usize,
}

impl Instruments {
    pub(super) fn new(meter: Meter) -> Self {
        let samples = Arc::new(ArcSwap::from_pointee(Samples::new()));
        for (name, kind, unit, meaning) in READ {
            read(&meter, (name, *kind, unit, meaning), &samples);
        }
        let in_progress = Arc::<InProgress>::default();
        let (active, streams) = (Arc::clone(&in_progress), Arc::clone(&samples));
        meter
            .i64_observable_up_down_counter(ACTIVE)
            .with_unit("{request}")
            .with_description("Requests in progress, and open streams.")
            .with_callback(move |observer| {
                active.observe(&mut |value, attributes| observer.observe(value, attributes));
                for (attributes, value) in streams.load().get(ACTIVE).into_iter().flatten() {
                    observer.observe(*value, attributes);
                }
            })
            .build();
        Self {
            requests: meter
                .u64_counter("launchdarkly.relay.requests")
                .with_unit("{request}")
                .with_description("Requests answered, and streams opened.")
                .build(),
            duration: meter
                .f64_histogram("http.server.request.duration")
                .with_unit("s")
                .with_description("Time until a response is ready, without streams.")
                .with_boundaries(BOUNDS.to_vec())
                .build(),
            in_progress,
            samples,
            paths: Mutex::default(),
        }
    }

    /// Keeps the template of an answered request's path.
    pub(super) fn remember_path(&self, tag: &RouteTag, method: &'static str) {
        if let Some(environment) = &tag.environment {
            self.paths.lock().insert((environment.vendor(), tag.route, method), tag.path);
        }
    }

    /// Returns the template of a route's path, if a request has shown it.
    pub(super) fn path(&self, vendor: &'static str, route: &'static str, method: &'static str) -> Option<&'static str> {
        self.paths.lock().get(&(vendor, route, method)).copied()
    }

    /// Replaces the values that are read at the next collection.
    pub(super) fn set(&self, samples: Samples) {
        self.samples.store(Arc::new(samples));
    }

    /// Counts a request until the result is dropped.
    pub(super) fn begin(&self, method: &str, is_tls: bool) -> Active {
        let method = METHODS.iter().position(|it| *it == method).unwrap_or(METHODS.len() - 1);
        let active = Active { all: Arc::clone(&self.in_progress), scheme: usize::from(is_tls), method };
        active.count().fetch_add(1, Ordering::Relaxed);
        active
    }
}

impl Active {
    fn count(&self) -> &AtomicI64 {
        &self.all.0[self.scheme][self.method]
    }

    pub(super) fn method(&self) -> &'static str {
        METHODS[self.method]
    }

    pub(super) fn scheme(&self) -> &'static str {
        SCHEMES[self.scheme]
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
    }
}

impl InProgress {
    fn observe(&self, observe: &mut dyn FnMut(i64, &[KeyValue])) {
        for (scheme, counts) in SCHEMES.iter().zip(&self.0) {
            for (method, count) in METHODS.iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                if count != 0 {
                    let attributes =
                        [KeyValue::new("http.request.method", *method), KeyValue::new("url.scheme", *scheme)];
                    observe(count, &attributes);
                }
            }
        }
    }
}

/// Creates the instrument of a metric that is read.
fn read(
    meter: &Meter,
    (name, kind, unit, meaning): (&'static str, Kind, &'static str, &'static str),
    samples: &Arc<ArcSwap<Samples>>,
) {
    let samples = Arc::clone(samples);
    let each = move |observe: &mut dyn FnMut(i64, &[KeyValue])| {
        for (attributes, value) in samples.load().get(name).into_iter().flatten() {
            observe(*value, attributes);
        }
    };
    match kind {
        Gauge => drop(
            meter
                .i64_observable_gauge(name)
                .with_unit(unit)
                .with_description(meaning)
                .with_callback(move |it| each(&mut |value, attributes| it.observe(value, attributes)))
                .build(),
        ),
        Level => drop(
            meter
                .i64_observable_up_down_counter(name)
                .with_unit(unit)
                .with_description(meaning)
                .with_callback(move |it| each(&mut |value, attributes| it.observe(value, attributes)))
                .build(),
        ),
        Count => drop(
            meter
                .u64_observable_counter(name)
                .with_unit(unit)
                .with_description(meaning)
                .with_callback(move |it| {
                    each(&mut |value, attributes| it.observe(u64::try_from(value).unwrap_or(0), attributes));
                })
                .build(),
        ),
    }
}
