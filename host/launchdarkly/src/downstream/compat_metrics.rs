//! Metrics under the names and labels of LaunchDarkly's relay, so that its dashboards continue to work.
//!
//! U150, U151, U183: names, labels and type lines are those of the relay, also where they are unusual: the number of open
//! connections has the type `counter`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use uuid::Uuid;
use yardarm_core::metrics::{Families, HistogramVec, Metric, table};

use crate::config::KEYS;

yardarm_core::catalog! {
    CONNECTIONS = counter("connections", ["env", "platformCategory", "userAgent"], "current number of connections");
    NEW_CONNECTIONS = counter("newconnections", ["env", "platformCategory", "userAgent"], "total number of connections");
    REQUESTS = counter("requests", ["env", "platformCategory", "userAgent", "method", "route"],
        "Number of hits to a route");
    REQUEST_DURATION = histogram("request_duration", ["env", "platformCategory", "userAgent", "method", "route"],
        "Time until a response is ready, in milliseconds; streams are not included");
    INTERNAL_CONNECTIONS = counter("internal_connections", ["env", "platformCategory", "userAgent", "relayId"],
        "current number of connections");
    INTERNAL_NEW_CONNECTIONS = counter("internal_newconnections", ["env", "platformCategory", "userAgent", "relayId"],
        "total number of connections");
    INTERNAL_POLLS = counter("internal_polling_requests", ["env", "platformCategory", "userAgent", "relayId"],
        "total number of polling requests made");
}

/// Upper bounds of times, in milliseconds.
const BOUNDS: [f64; 12] = [10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];
/// Series per metric. Labels contain texts from callers, so their number must be bounded; further user agents are counted
/// under [`OTHER_AGENT`].
const MAX_SERIES: usize = 2_000;
/// Longest label value, in bytes. OpenCensus, which ld-relay uses, rejects longer ones.
const MAX_LABEL: usize = 255;
/// Label value for further user agents.
const OTHER_AGENT: &str = "other";

/// Counters of one gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CompatMetrics(Arc<SharedSeries>);

struct SharedSeries {
    prefix: String,
    /// Distinguishes the counts of processes.
    relay_id: String,
    connections: Series,
    new_connections: Series,
    requests: Series,
    durations: HistogramVec,
    polls: Series,
}

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    /// Display name of the environment.
    pub(crate) env: String,
    /// `server`, `mobile` or `browser`.
    pub(crate) platform: &'static str,
    pub(crate) user_agent: String,
    /// Method and template of the path, for counted requests.
    pub(crate) route: Option<(RequestMethod, &'static str)>,
}

/// The labels under which a request was counted.
pub(crate) struct CountedRequest(Labels);

/// A method that can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestMethod(String);

/// Counts a stream while it is open.
pub(crate) struct OpenConnection {
    count: Arc<AtomicI64>,
}

#[derive(Default)]
struct Series(Mutex<BTreeMap<Labels, Arc<AtomicI64>>>);

impl From<&Method> for RequestMethod {
    fn from(method: &Method) -> Self {
        Self(method.as_str().to_owned())
    }
}

impl CompatMetrics {
    /// Counters at zero, with `prefix` in every name.
    pub(crate) fn new(prefix: String) -> Self {
        let durations = Metric { name: &format!("{prefix}_{}", REQUEST_DURATION.name), ..REQUEST_DURATION };
        Self(Arc::new(SharedSeries {
            durations: durations.histograms(&BOUNDS),
            prefix,
            relay_id: Uuid::new_v4().to_string(),
            connections: Series::default(),
            new_connections: Series::default(),
            requests: Series::default(),
            polls: Series::default(),
        }))
    }

    /// Counts a request with an accepted credential.
    pub(crate) fn request(&self, labels: Labels) -> CountedRequest {
        let mut all = self.0.requests.0.lock();
        let labels = Series::key(&all, labels);
        all.entry(labels.clone()).or_default().fetch_add(1, Ordering::Relaxed);
        CountedRequest(labels)
    }

    /// Records how long a request took whose response is not a stream.
    pub(crate) fn duration(&self, CountedRequest(labels): &CountedRequest, took: Duration) {
        if let Some((method, route)) = &labels.route {
            let route = sanitized(route);
            let values = [&*labels.env, labels.platform, &labels.user_agent, &method.0, &route];
            self.0.durations.with_label_values(&values).observe(took.as_secs_f64() * 1000.0);
        }
    }

    /// Counts a poll by PHP.
    pub(crate) fn poll(&self, labels: Labels) {
        self.0.polls.of(labels).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream until the result is dropped.
    pub(crate) fn connection(&self, labels: Labels) -> OpenConnection {
        self.0.new_connections.of(labels.clone()).fetch_add(1, Ordering::Relaxed);
        let count = self.0.connections.of(labels);
        count.fetch_add(1, Ordering::Relaxed);
        OpenConnection { count }
    }

    /// All metrics in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        let SharedSeries { prefix, relay_id, connections, new_connections, requests, durations, polls } = &*self.0;
        let mut families = Families::default();
        for (metric, series, relay_id) in [
            (CONNECTIONS, connections, None),
            (NEW_CONNECTIONS, new_connections, None),
            (REQUESTS, requests, None),
            (INTERNAL_CONNECTIONS, connections, Some(relay_id)),
            (INTERNAL_NEW_CONNECTIONS, new_connections, Some(relay_id)),
            (INTERNAL_POLLS, polls, Some(relay_id)),
        ] {
            let metric = Metric { name: &format!("{prefix}_{}", metric.name), ..metric };
            series.collect(&mut families, &metric, relay_id.map(String::as_str));
        }
        families.collect(durations);
        families.encode()
    }
}

/// Returns the documentation of the metrics, in Markdown.
#[must_use]
pub fn metrics_document() -> String {
    let prefix = KEYS.iter().find(|it| it.path == "launchdarkly.prometheus.prefix").map_or("", |it| it.default);
    let names: Vec<_> = ALL.iter().map(|it| format!("{prefix}_{}", it.name)).collect();
    format!(
        "## LaunchDarkly\n\nUnder the names of LaunchDarkly's relay, at `/metrics` of `launchdarkly.prometheus.listen`. \
         `launchdarkly.prometheus.prefix`\nis the beginning of each name.\n\n{}",
        table(ALL.iter().zip(&names).map(|(metric, name)| Metric { name, ..*metric }))
    )
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Series {
    fn of(&self, labels: Labels) -> Arc<AtomicI64> {
        let mut all = self.0.lock();
        let labels = Self::key(&all, labels);
        Arc::clone(all.entry(labels).or_default())
    }

    /// Returns the labels under which something is counted.
    fn key(all: &BTreeMap<Labels, Arc<AtomicI64>>, labels: Labels) -> Labels {
        let labels = Labels { env: sanitized(&labels.env), user_agent: sanitized(&labels.user_agent), ..labels };
        let is_full = all.len() >= MAX_SERIES && !all.contains_key(&labels);
        if is_full { Labels { user_agent: OTHER_AGENT.to_owned(), ..labels } } else { labels }
    }

    fn collect(&self, families: &mut Families, metric: &Metric<'_>, relay_id: Option<&str>) {
        for (labels, count) in &*self.0.lock() {
            let mut values = vec![&*labels.env, labels.platform, &labels.user_agent];
            let route = labels.route.as_ref().map(|(method, route)| (&method.0, sanitized(route)));
            if let Some((method, route)) = &route {
                values.extend([method, route.as_str()]);
            }
            values.extend(relay_id);
            families.sample(metric, &values, count.load(Ordering::Relaxed));
        }
    }
}

/// Returns a label value as in ld-relay (`sanitizeTagValue`): `/` becomes `_`, blank text becomes `_`, all else
/// stays; at most [`MAX_LABEL`] bytes of it.
fn sanitized(value: &str) -> String {
    if value.trim().is_empty() {
        return "_".to_owned();
    }
    value[..value.floor_char_boundary(MAX_LABEL)].replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(user_agent: &str) -> Labels {
        Labels { env: "My App/Test".to_owned(), platform: "server", user_agent: user_agent.to_owned(), route: None }
    }

    #[test]
    fn the_text_is_that_of_the_reference() {
        let compat_metrics = CompatMetrics::new("launchdarkly_relay".to_owned());
        assert_eq!(compat_metrics.render(), "");
        let open = compat_metrics.connection(labels("Node/9.1"));
        drop(compat_metrics.connection(labels(&format!("{}é", "a".repeat(MAX_LABEL - 1)))));
        drop(compat_metrics.connection(labels(" ")));
        drop(compat_metrics.connection(labels("")));
        let route = Some((RequestMethod::from(&Method::GET), "/sdk/evalx/{envId}/contexts/{context}"));
        compat_metrics.request(Labels { route, ..labels("My Agent/2 (a\"b\\c\n)") });
        let text = compat_metrics.render();
        let relay = &compat_metrics.0.relay_id;
        for line in [
            "# HELP launchdarkly_relay_connections current number of connections",
            "# TYPE launchdarkly_relay_connections counter",
            r#"launchdarkly_relay_connections{env="My App_Test",platformCategory="server",userAgent="Node_9.1"} 1"#,
            r#"launchdarkly_relay_connections{env="My App_Test",platformCategory="server",userAgent="_"} 0"#,
            r#"launchdarkly_relay_newconnections{env="My App_Test",platformCategory="server",userAgent="_"} 2"#,
            r#"launchdarkly_relay_requests{env="My App_Test",method="GET",platformCategory="server",route="_sdk_evalx_{envId}_contexts_{context}",userAgent="My Agent_2 (a\"b\\c\n)"} 1"#,
            &format!(
                r#"launchdarkly_relay_internal_connections{{env="My App_Test",platformCategory="server",relayId="{relay}",userAgent="Node_9.1"}} 1"#
            ),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(text.contains(&format!("\"{}\"", "a".repeat(MAX_LABEL - 1))), "cut between characters: {text}");
        assert!(!text.contains("internal_polling_requests"), "no metric without counts");
        drop(open);
        assert!(
            compat_metrics
                .render()
                .contains(r#"connections{env="My App_Test",platformCategory="server",userAgent="Node_9.1"} 0"#)
        );
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let compat_metrics = CompatMetrics::new("x".to_owned());
        for number in 0..MAX_SERIES + 50 {
            compat_metrics.poll(labels(&number.to_string()));
        }
        let text = compat_metrics.render();
        assert_eq!(text.lines().filter(|it| it.starts_with("x_internal_polling")).count(), MAX_SERIES + 1);
        let other = text.lines().find(|it| it.contains(r#"userAgent="other""#)).unwrap();
        assert!(other.ends_with(" 50"), "{other}");
    }
}
