//! The state of the gateway as values of metrics.

use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use yardarm_core::delivery::DeliveryReport;
use yardarm_core::status::Connection;
use yardarm_vendor::report::{EnvironmentListReport, EnvironmentReport, ErrorReport, EventReport};

use super::instruments::{ACTIVE, Instruments, Samples};
use super::requests::{ENVIRONMENT, Labels};
use crate::state::State;

/// Reasons of lost events that a response of upstream, or its absence, is the cause of.
const FAILED: [&str; 5] = ["rejected", "refused", "too-large", "upstream-error", "upstream-unreachable"];
/// States of an environment.
const STATUSES: [&str; 2] = ["connected", "disconnected"];

/// Returns the current values; those of single environments only if they are wanted.
pub(super) fn samples(state: &State, instruments: &Instruments, has_environments: bool) -> Samples {
    let mut values = Values::default();
    let reports = state.reports();
    for report in &reports {
        if let Some(events) = &report.events {
            values.events(&report.name, events);
        }
        if has_environments {
            values.environment(report);
        }
    }
    values.totals(&reports);
    for list in state.environment_lists() {
        values.list(&list);
    }
    for deliveries in state.vendors.delivery_reports() {
        values.deliveries(deliveries);
    }
    let mut streams: BTreeMap<_, i64> = BTreeMap::new();
    state.streams.for_each(|facts| *streams.entry(Labels::of_stream(facts, instruments)).or_default() += 1);
    for (labels, count) in streams {
        values.add(ACTIVE, labels.attributes(), count);
    }
    values.0
}

#[derive(Default)]
struct Values(Samples);

impl Values {
    fn add(&mut self, name: &'static str, attributes: Vec<KeyValue>, value: i64) {
        self.0.entry(name).or_default().push((attributes, value));
    }

    /// Adds a state: one series per value, 1 for the current one and 0 for the others.
    fn state(&mut self, name: &'static str, environment: Option<&str>, states: &[&'static str], current: &str) {
        for state in states {
            let attributes = with(environment, [KeyValue::new("state", *state)]);
            self.add(name, attributes, i64::from(*state == current));
        }
    }

    /// Adds the number of environments in each state.
    fn counts(
        &mut self,
        name: &'static str,
        states: &[&'static str],
        current: impl Iterator<Item = &'static str> + Clone,
    ) {
        for state in states {
            let count = current.clone().filter(|it| it == state).count();
            self.add(name, vec![KeyValue::new("state", *state)], whole(count));
        }
    }

    fn events(&mut self, environment: &str, events: &EventReport) {
        let own = || with(Some(environment), []);
        self.add("launchdarkly.relay.events.sent", own(), number(events.delivered));
        self.add("launchdarkly.relay.events.pending", own(), number(events.pending));
        let mut failed = 0;
        for (reason, count) in &events.dropped {
            if FAILED.contains(reason) {
                failed += count;
            } else {
                let attributes = with(Some(environment), [KeyValue::new("reason", *reason)]);
                self.add("launchdarkly.relay.events.dropped", attributes, number(*count));
            }
        }
        self.add("launchdarkly.relay.events.failed", own(), number(failed));
        let filtered: u64 = events.filtered.iter().map(|(_, count)| count).sum();
        if filtered > 0 {
            let attributes = with(Some(environment), [KeyValue::new("reason", "plugin")]);
            self.add("launchdarkly.relay.events.dropped", attributes, number(filtered));
        }
    }

    fn totals(&mut self, reports: &[EnvironmentReport]) {
        let is_healthy = reports.iter().all(|it| status(it) == STATUSES[0]);
        let current = if is_healthy { "healthy" } else { "degraded" };
        self.state("launchdarkly.relay.status", None, &["healthy", "degraded"], current);
        self.add("launchdarkly.relay.environment.count", Vec::new(), whole(reports.len()));
        self.counts("launchdarkly.relay.environment.status.count", &STATUSES, reports.iter().map(status));
        let connections = Connection::ALL.map(Connection::as_str);
        let states = reports.iter().map(|it| it.connection);
        self.counts("launchdarkly.relay.environment.connection.state.count", &connections, states);
        let stores = || reports.iter().filter_map(|it| it.store.as_ref());
        if let Some(store) = stores().next() {
            let name = "launchdarkly.relay.environment.datastore.state.count";
            self.counts(name, store.states, stores().map(|it| it.state));
        }
        let segments = || reports.iter().filter_map(|it| it.big_segments.as_ref());
        if segments().next().is_some() {
            let unavailable = segments().filter(|it| !it.is_available).count();
            let name = "launchdarkly.relay.environment.big_segments.unavailable.count";
            self.add(name, Vec::new(), whole(unavailable));
            let stale = segments().filter(|it| it.is_stale).count();
            self.add("launchdarkly.relay.environment.big_segments.stale.count", Vec::new(), whole(stale));
        }
    }

    fn list(&mut self, list: &EnvironmentListReport) {
        let connections = Connection::ALL.map(Connection::as_str);
        self.state("launchdarkly.relay.autoconfig.state", None, &connections, list.connection);
        self.add("launchdarkly.relay.autoconfig.state.since", Vec::new(), seconds(list.since_ms));
        if let Some(error) = &list.last_error {
            let (attributes, at) = last_error(None, error);
            self.add("launchdarkly.relay.autoconfig.last_error", attributes, at);
        }
    }

    fn deliveries(&mut self, report: DeliveryReport) {
        let DeliveryReport { held, waiting, admitted, refused, overdue } = report;
        self.add("launchdarkly.relay.init.slots.held", Vec::new(), number(held));
        self.add("launchdarkly.relay.init.queue.waiting", Vec::new(), number(waiting));
        self.add("launchdarkly.relay.init.admitted", Vec::new(), number(admitted));
        let full = KeyValue::new("reason", "budget_full");
        self.add("launchdarkly.relay.init.rejected", vec![full], number(refused));
        self.add("launchdarkly.relay.init.sheds", Vec::new(), number(overdue));
    }

    fn environment(&mut self, report: &EnvironmentReport) {
        let name = Some(report.name.as_str());
        let own = || with(name, []);
        self.state("launchdarkly.relay.environment.status", name, &STATUSES, status(report));
        let connections = Connection::ALL.map(Connection::as_str);
        self.state("launchdarkly.relay.environment.connection.state", name, &connections, report.connection);
        self.add("launchdarkly.relay.environment.connection.state.since", own(), seconds(report.since_ms));
        if let Some(error) = &report.last_error {
            let (attributes, at) = last_error(name, error);
            self.add("launchdarkly.relay.environment.connection.last_error", attributes, at);
        }
        if let Some(store) = &report.store {
            self.state("launchdarkly.relay.environment.datastore.state", name, store.states, store.state);
            self.add("launchdarkly.relay.environment.datastore.state.since", own(), seconds(store.since_ms));
            let database = [KeyValue::new("database", store.database)];
            self.add("launchdarkly.relay.environment.datastore.info", with(name, database), 1);
        }
        if let Some(it) = &report.big_segments {
            self.add("launchdarkly.relay.environment.big_segments.available", own(), it.is_available.into());
            self.add("launchdarkly.relay.environment.big_segments.stale", own(), it.is_stale.into());
            let at = seconds(it.synchronized_on_ms);
            self.add("launchdarkly.relay.environment.big_segments.last_synchronized", own(), at);
        }
        let vendor = [KeyValue::new("vendor", report.vendor)];
        self.add("launchdarkly.relay.environment.info", with(name, vendor), 1);
    }
}

/// Returns the status of an environment: connected once there is data and as long as upstream sends changes.
fn status(report: &EnvironmentReport) -> &'static str {
    let is_connected = report.phase == "ready" && report.connection == Connection::Valid.as_str();
    if is_connected { STATUSES[0] } else { STATUSES[1] }
}

fn last_error(environment: Option<&str>, error: &ErrorReport) -> (Vec<KeyValue>, i64) {
    let status = error.status.map(|it| KeyValue::new("http.response.status_code", i64::from(it)));
    (with(environment, [KeyValue::new("error.type", error.kind)].into_iter().chain(status)), seconds(error.at_ms))
}

fn with(environment: Option<&str>, others: impl IntoIterator<Item = KeyValue>) -> Vec<KeyValue> {
    let environment = environment.map(|it| KeyValue::new(ENVIRONMENT, it.to_owned()));
    environment.into_iter().chain(others).collect()
}

fn seconds(milliseconds: u64) -> i64 {
    number(milliseconds / 1000)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
