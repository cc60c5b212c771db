//! All metrics of the admin listener, each with its meaning.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use yardarm_vendor::report::EnvironmentReport;

use crate::logging;
use crate::state::State;

mod connections;
mod dependencies;
mod plugins;

/// Open streams, by vendor, environment and route.
const STREAMS: &str = "yardarm_streams";
/// Streams opened since start.
const STREAMS_OPENED: &str = "yardarm_streams_opened_total";
/// Streams ended since start, by reason.
const STREAMS_ENDED: &str = "yardarm_streams_ended_total";
/// Streams whose socket is full at this moment.
const STREAMS_BLOCKED: &str = "yardarm_streams_blocked";
/// Number of changes by which the slowest stream lags.
const STREAM_LAG: &str = "yardarm_stream_max_lag_changes";
/// Bytes written to streams since start.
const STREAM_BYTES: &str = "yardarm_stream_written_bytes_total";
/// Connections of SDKs that are open, streams included.
const CONNECTIONS: &str = "yardarm_connections";
/// Most connections of SDKs at once, as settings and open files allow.
const CONNECTIONS_LIMIT: &str = "yardarm_connections_limit";
/// Connections that the gateway closed since start, by reason.
const CONNECTIONS_CLOSED: &str = "yardarm_connections_closed_total";
/// Most streams at once, as settings and open files allow.
const STREAMS_LIMIT: &str = "yardarm_streams_limit";
/// Unix time at which the certificate was loaded, in seconds; missing without TLS.
const CERTIFICATE: &str = "yardarm_certificate_loaded_seconds";
/// 1 while the certificate files cannot be used and the previous certificate stays in use; missing without TLS.
const CERTIFICATE_REJECTED: &str = "yardarm_certificate_rejected";
/// 1 for the current connection state of an environment: initializing, valid, interrupted, off.
const UPSTREAM: &str = "yardarm_upstream_state";
/// Unix time of the last message from upstream, in seconds; 0 before the first.
const UPSTREAM_MESSAGE: &str = "yardarm_upstream_last_message_seconds";
/// 1 while the served data was read from disk and upstream has not sent any yet.
const STALE: &str = "yardarm_environment_stale";
/// 1 while a payload plugin fails, so that a change from upstream is not served.
const BEHIND: &str = "yardarm_environment_behind";
/// Unreadable flags and segments; their last good versions are served.
const SKIPPED: &str = "yardarm_environment_skipped_items";
/// Flags and segments served.
const ITEMS: &str = "yardarm_environment_items";
/// Events received from SDKs.
const EVENTS_RECEIVED: &str = "yardarm_events_received_total";
/// Events delivered upstream.
const EVENTS_DELIVERED: &str = "yardarm_events_delivered_total";
/// Events that wait or are being sent.
const EVENTS_PENDING: &str = "yardarm_events_pending";
/// Events that plugins dropped, by plugin.
const EVENTS_FILTERED: &str = "yardarm_events_filtered_total";
/// Events that were dropped, by reason.
const EVENTS_DROPPED: &str = "yardarm_events_dropped_total";
/// Posts of events that were answered 503 because too many were in progress.
const EVENT_POSTS_REFUSED: &str = "yardarm_event_posts_refused_total";
/// Panics since start, by task. Each is also a record of the log and a row of `/api/status`.
const TASK_PANICS: &str = "yardarm_task_panics_total";
/// Log lines that were dropped because the log was not read or could not be written.
const LOG_DROPPED: &str = "yardarm_log_lines_dropped_total";
/// Resident memory of the process, in bytes.
const MEMORY: &str = "yardarm_process_resident_bytes";
/// CPU time of the process, user and system, in seconds.
const CPU: &str = "yardarm_process_cpu_seconds_total";

/// Returns all metrics in the text format of Prometheus.
pub(crate) fn render(state: &State) -> String {
    let registry = Registry::new();
    state.request_metrics.register(&registry);
    streams(&registry, state);
    connections::register(&registry, state);
    let reports = state.reports();
    environments(&registry, &reports);
    dependencies::register_all(&registry, &reports, &state.environment_lists());
    tasks(&registry, state);
    process(&registry);
    let mut text = Vec::new();
    // Fails only on metrics with conflicting names or labels, which those above do not have.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    plugins::append(&mut text, &state.plugins.metrics(), &state.plugins.status());
    text
}

fn streams(registry: &Registry, state: &State) {
    let open = gauges(STREAMS, "Open streams.", &["vendor", "environment", "route"]);
    let opened = counters(STREAMS_OPENED, "Streams opened.", &["vendor", "environment", "route"]);
    let ended = counters(STREAMS_ENDED, "Streams ended.", &["vendor", "environment", "route", "reason"]);
    for counts in state.streams.counts() {
        let (vendor, name) = (counts.environment.vendor(), &**counts.environment.name());
        open.with_label_values(&[vendor, name, counts.route]).set(signed(counts.open));
        opened.with_label_values(&[vendor, name, counts.route]).inc_by(counts.opened);
        for (reason, count) in counts.ended {
            ended.with_label_values(&[vendor, name, counts.route, reason]).inc_by(count);
        }
    }
    let report = state.fanout.report();
    let blocked = gauges(STREAMS_BLOCKED, "Streams whose socket is full.", &[]);
    blocked.with_label_values::<&str>(&[]).set(signed(report.blocked as u64));
    let lag = gauges(STREAM_LAG, "Changes by which the slowest stream lags.", &[]);
    lag.with_label_values::<&str>(&[]).set(signed(report.max_lag));
    let bytes = counters(STREAM_BYTES, "Bytes written to streams.", &[]);
    bytes.with_label_values::<&str>(&[]).inc_by(report.written_bytes);
    register(registry, open);
    register(registry, opened);
    register(registry, ended);
    register(registry, blocked);
    register(registry, lag);
    register(registry, bytes);
}

fn environments(registry: &Registry, reports: &[EnvironmentReport]) {
    const LABELS: &[&str] = &["vendor", "environment"];
    let upstream = gauges(UPSTREAM, "1 for the present connection state.", &["vendor", "environment", "state"]);
    let message = gauges(UPSTREAM_MESSAGE, "Unix time of the last message from upstream.", LABELS);
    let stale = gauges(STALE, "1 while data from disk is served.", LABELS);
    let behind = gauges(BEHIND, "1 while a payload plugin fails.", LABELS);
    let skipped = gauges(SKIPPED, "Unreadable items.", LABELS);
    let items = gauges(ITEMS, "Flags and segments served.", &["vendor", "environment", "kind"]);
    let received = counters(EVENTS_RECEIVED, "Events received from SDKs.", LABELS);
    let delivered = counters(EVENTS_DELIVERED, "Events delivered upstream.", LABELS);
    let pending = gauges(EVENTS_PENDING, "Events that wait or are being sent.", LABELS);
    let filtered = counters(EVENTS_FILTERED, "Events that plugins dropped.", &["vendor", "environment", "plugin"]);
    let dropped = counters(EVENTS_DROPPED, "Events that were dropped.", &["vendor", "environment", "reason"]);
    let refused = counters(EVENT_POSTS_REFUSED, "Posts of events that were answered 503.", LABELS);
    for report in reports {
        let (vendor, name) = (report.vendor, report.name.as_str());
        upstream.with_label_values(&[vendor, name, report.connection]).set(1);
        message.with_label_values(&[vendor, name]).set(signed(report.last_message_ms / 1000));
        stale.with_label_values(&[vendor, name]).set(report.is_stale.into());
        behind.with_label_values(&[vendor, name]).set(report.is_behind.into());
        skipped.with_label_values(&[vendor, name]).set(signed(report.skipped_items as u64));
        items.with_label_values(&[vendor, name, "flag"]).set(signed(report.flags as u64));
        items.with_label_values(&[vendor, name, "segment"]).set(signed(report.segments as u64));
        let Some(events) = &report.events else { continue };
        received.with_label_values(&[vendor, name]).inc_by(events.received);
        delivered.with_label_values(&[vendor, name]).inc_by(events.delivered);
        pending.with_label_values(&[vendor, name]).set(signed(events.pending));
        refused.with_label_values(&[vendor, name]).inc_by(events.refused_posts);
        for (plugin, count) in &events.filtered {
            filtered.with_label_values(&[vendor, name, plugin.as_str()]).inc_by(*count);
        }
        for (reason, count) in &events.dropped {
            dropped.with_label_values(&[vendor, name, *reason]).inc_by(*count);
        }
    }
    for gauge in [upstream, message, stale, behind, skipped, items, pending] {
        register(registry, gauge);
    }
    for counter in [received, delivered, filtered, dropped, refused] {
        register(registry, counter);
    }
}

fn tasks(registry: &Registry, state: &State) {
    let panics = counters(TASK_PANICS, "Internal errors (panics).", &["task"]);
    for report in state.lifecycle.supervisor().panics() {
        panics.with_label_values(&[report.task.name]).inc_by(report.panics);
    }
    register(registry, panics);
    let dropped = counters(LOG_DROPPED, "Log lines dropped.", &[]);
    dropped.with_label_values::<&str>(&[]).inc_by(logging::dropped_lines());
    register(registry, dropped);
}

fn process(registry: &Registry) {
    let (resident, cpu) = resources();
    let memory = gauges(MEMORY, "Resident memory.", &[]);
    memory.with_label_values::<&str>(&[]).set(signed(resident));
    register(registry, memory);
    if let Ok(seconds) = prometheus::Counter::new(CPU, "CPU time, user and system.") {
        seconds.inc_by(cpu.as_secs_f64());
        register(registry, seconds);
    }
}

/// Returns the resident bytes and CPU time of this process as the operating system reports them; zero if it does not.
#[must_use]
pub fn resources() -> (u64, Duration) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    let times = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses and may contain anything.
    let fields = times.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    (resident * rustix::param::page_size() as u64, Duration::from_millis(ticks * 1000 / per_second))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid metric")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric")
}

fn register(registry: &Registry, metric: impl Collector + 'static) {
    registry.register(Box::new(metric)).expect("each metric is registered once");
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
