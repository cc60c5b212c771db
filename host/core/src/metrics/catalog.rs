//! Every metric of the gateway with its meaning. Metrics under the names of a vendor's relay, and those that only one
//! vendor has, are declared in the crate of the vendor.

use super::table;

/// Name of every metric that a plugin defines, before the plugin's name and its own; see [`guest_name`].
pub const GUEST_PREFIX: &str = "yardarm_guest_";
/// Meaning of every metric that a plugin defines.
pub const GUEST_HELP: &str = "Defined by the plugin.";

crate::catalog! {
    BUILD_INFO = gauge("yardarm_build_info", ["version"], "1, with the version of the program.");
    READY = gauge("yardarm_ready", [], "Whether `/ready` answers 200.");
    HTTP_REQUESTS = counter("yardarm_http_requests_total", ["route", "status"],
        "Requests answered, by route and status class; a stream counts when its head is sent.");
    HTTP_REQUEST_SECONDS = histogram("yardarm_http_request_seconds", ["route"],
        "Seconds from the arrival of a request's head to the head of its response.");
    SDK_REQUESTS = counter("yardarm_sdk_requests_total", ["vendor", "sdk", "version"],
        "Requests with an accepted credential by SDK, as their headers name it: known SDKs with their versions, the rest as `other`.");
    STREAMS = gauge("yardarm_streams", ["vendor", "environment", "route"], "Open streams.");
    STREAMS_LIMIT = gauge("yardarm_streams_limit", [],
        "Largest number of streams at a time, as settings and open files allow.");
    STREAMS_OPENED = counter("yardarm_streams_opened_total", ["vendor", "environment", "route"], "Streams opened.");
    STREAMS_ENDED = counter("yardarm_streams_ended_total", ["vendor", "environment", "route", "reason"],
        "Streams ended, by reason.");
    STREAMS_BLOCKED = gauge("yardarm_streams_blocked", [], "Streams whose socket is full.");
    STREAM_MAX_LAG = gauge("yardarm_stream_max_lag_changes", [], "Number of changes by which the slowest stream lags.");
    STREAM_WRITTEN_BYTES = counter("yardarm_stream_written_bytes_total", [], "Bytes written to streams.");
    DELIVERIES = gauge("yardarm_deliveries", [],
        "Full deliveries that count towards their limit; absent without a limit, like the metrics of the same beginning.");
    DELIVERIES_WAITING = gauge("yardarm_deliveries_waiting", [], "Full deliveries that wait for others.");
    DELIVERIES_ADMITTED = counter("yardarm_deliveries_admitted_total", [], "Full deliveries that have begun.");
    DELIVERIES_REFUSED = counter("yardarm_deliveries_refused_total", [],
        "Full deliveries that were refused because too many waited.");
    DELIVERIES_OVERDUE = counter("yardarm_deliveries_overdue_total", [],
        "Full deliveries to clients that read too slowly, which count no longer.");
    CONNECTIONS = gauge("yardarm_connections", [], "Open connections of SDKs, streams included.");
    CONNECTIONS_LIMIT = gauge("yardarm_connections_limit", [],
        "Largest number of connections of SDKs at a time, as settings and open files allow.");
    CONNECTIONS_CLOSED = counter("yardarm_connections_closed_total", ["reason"],
        "Connections that the gateway closed, by reason.");
    CERTIFICATE_LOADED = gauge("yardarm_certificate_loaded_seconds", [],
        "Unix time in seconds at which the certificate was loaded; absent without TLS.");
    CERTIFICATE_EXPIRES = gauge("yardarm_certificate_expires_seconds", [],
        "Unix time in seconds at which the certificate that all TLS listeners serve expires; absent without TLS.");
    CERTIFICATE_REJECTED = gauge("yardarm_certificate_rejected", [],
        "1 while the certificate files cannot be used and the previous one is served, otherwise 0; absent without TLS.");

    FLEET_MEMBERS = gauge("yardarm_fleet_members", [], "Gateways in the fleet; absent without one.");
    FLEET_AVAILABLE = gauge("yardarm_fleet_available", [],
        "1 while the database of the fleet answers, otherwise 0; absent without a fleet.");
    FLEET_ROLE = gauge("yardarm_fleet_role", ["source", "role"],
        "1 for the role of this gateway for a source, 0 for the others of `undecided`, `leader`, `follower`, `alone`.");

    UPSTREAM_STATE = gauge("yardarm_upstream_state", ["vendor", "environment", "state"],
        "1 for the current connection state of the environment, 0 for the others of `initializing`, `valid`, `interrupted`, `off`.");
    UPSTREAM_LAST_MESSAGE = gauge("yardarm_upstream_last_message_seconds", ["vendor", "environment"],
        "Unix time in seconds of the last message from upstream; 0 before the first.");
    ENVIRONMENT_STALE = gauge("yardarm_environment_stale", ["vendor", "environment"],
        "1 while the served data was read from disk and upstream has not sent any yet, otherwise 0.");
    ENVIRONMENT_BEHIND = gauge("yardarm_environment_behind", ["vendor", "environment"],
        "1 while a payload plugin fails, so that a change from upstream is not served, otherwise 0.");
    ENVIRONMENT_SKIPPED_ITEMS = gauge("yardarm_environment_skipped_items", ["vendor", "environment"],
        "Unreadable flags and segments, whose last good versions are served.");
    ENVIRONMENT_ITEMS = gauge("yardarm_environment_items", ["vendor", "environment", "kind"],
        "Flags and segments served.");
    ENVIRONMENT_LIST_STATE = gauge("yardarm_environment_list_state", ["vendor", "source", "state"],
        "1 for the current connection state of the list of environments that upstream sends, 0 for the others.");
    ENVIRONMENT_LIST_STALE = gauge("yardarm_environment_list_stale", ["vendor", "source"],
        "1 while the list of environments was read from disk and upstream has not sent one yet, otherwise 0.");
    ENVIRONMENT_LIST_ENVIRONMENTS = gauge("yardarm_environment_list_environments", ["vendor", "source"],
        "Environments in the list.");
    ENVIRONMENT_LIST_LAST_MESSAGE = gauge("yardarm_environment_list_last_message_seconds", ["vendor", "source"],
        "Unix time in seconds of the last message about the list of environments; 0 before the first.");

    STORE_STATE = gauge("yardarm_store_state", ["vendor", "environment", "database", "state"],
        "1 for the current state of the environment's database, 0 for the others: `available`, and the kinds of failures.");
    STORE_STATE_SINCE = gauge("yardarm_store_state_since_seconds", ["vendor", "environment"],
        "Unix time in seconds at which the database entered its state.");
    STORE_WRITES = counter("yardarm_store_writes_total", ["vendor", "environment"],
        "Writes that brought the environment's database up to date.");
    STORE_FAILURES = counter("yardarm_store_failures_total", ["vendor", "environment"],
        "Operations of the environment's database that failed, checks during an outage included.");
    BIG_SEGMENTS_AVAILABLE = gauge("yardarm_big_segments_available", ["vendor", "environment"],
        "1 while the database can be queried for members of Big Segments, otherwise 0.");
    BIG_SEGMENTS_STALE = gauge("yardarm_big_segments_stale", ["vendor", "environment"],
        "1 while the last synchronization of Big Segments is older than the configured threshold, otherwise 0.");
    BIG_SEGMENTS_SYNCHRONIZED = gauge("yardarm_big_segments_synchronized_seconds", ["vendor", "environment"],
        "Unix time in seconds of the last synchronization of Big Segments; 0 if there was none or it is unknown.");

    EVENTS_RECEIVED = counter("yardarm_events_received_total", ["vendor", "environment"], "Events received from SDKs.");
    EVENTS_ADDED = counter("yardarm_events_added_total", ["vendor", "environment"], "Events that plugins added.");
    EVENTS_DELIVERED = counter("yardarm_events_delivered_total", ["vendor", "environment"],
        "Events delivered upstream.");
    EVENTS_PENDING = gauge("yardarm_events_pending", ["vendor", "environment"], "Events that wait or are being sent.");
    EVENTS_ON_DISK = gauge("yardarm_events_on_disk_bytes", ["vendor", "environment"],
        "Bytes of accepted posts on disk whose events are not settled.");
    EVENTS_FILTERED = counter("yardarm_events_filtered_total", ["vendor", "environment", "plugin"],
        "Events that plugins dropped, by plugin.");
    EVENTS_DROPPED = counter("yardarm_events_dropped_total", ["vendor", "environment", "reason"],
        "Events that were dropped for other reasons, by reason.");
    EVENT_POSTS_REFUSED = counter("yardarm_event_posts_refused_total", ["vendor", "environment"],
        "Posts of events that were answered 503 because too many were in progress.");

    PLUGIN_CALLS = counter("yardarm_plugin_calls_total", ["plugin", "hook", "outcome"],
        "Calls by outcome: the decision, whether the reply has edits, or the class of the failure.");
    PLUGIN_VERSION_CALLS = counter("yardarm_plugin_version_calls_total",
        ["plugin", "hook", "version", "generation", "outcome"],
        "Calls of the running version, and of those before and after it that are loaded too, by outcome.");
    PLUGIN_CALL_SECONDS = histogram("yardarm_plugin_call_seconds", ["plugin", "hook"],
        "Seconds that calls took, including the wait for an instance.");
    PLUGIN_POOL_WAIT = counter("yardarm_plugin_pool_wait_seconds_total", ["plugin", "hook"],
        "Seconds that calls waited for an instance.");
    PLUGIN_POOL_INSTANCES = gauge("yardarm_plugin_pool_instances", ["plugin", "hook", "state"],
        "Instances of the pool by state: `busy` or `idle`.");
    PLUGIN_BREAKER_STATE = gauge("yardarm_plugin_breaker_state", ["plugin", "hook"],
        "State of the circuit breaker: 0 closed, 1 half open, 2 open.");
    PLUGIN_GENERATION = gauge("yardarm_plugin_generation", ["plugin"],
        "Number of the running version, counted over all that were staged since the start; 0 if none runs.");
    PLUGIN_INSTANCES_CREATED = counter("yardarm_plugin_instances_created_total", ["plugin"], "Instances created.");
    PLUGIN_INSTANCES_ALIVE = gauge("yardarm_plugin_instances_alive", ["plugin"], "Instances alive.");
    PLUGIN_MEMORY_PEAK = gauge("yardarm_plugin_memory_peak_bytes", ["plugin"],
        "Largest linear memory of any instance after a call or at its end, in bytes.");
    PLUGIN_LOG_LINES_DROPPED = counter("yardarm_plugin_log_lines_dropped_total", ["plugin"],
        "Log lines of the plugin that were dropped because they exceeded its limit.");
    PLUGIN_REPORTS_DROPPED = counter("yardarm_plugin_reports_dropped_total", ["plugin"],
        "Log lines of the host about failed calls that were left out; the next line has their number.");
    PLUGIN_GUEST_METRICS_REFUSED = counter("yardarm_plugin_guest_metrics_refused_total", ["plugin"],
        "Observations for metrics of the plugin that were rejected as invalid or beyond its limits.");
    PLUGIN_CHANGES_LEFT_OUT = counter("yardarm_plugin_changes_left_out_total", ["plugin"],
        "Changes of flag data that a listener did not receive, because it was too slow or refused them.");
    PLUGIN_KV_UNAVAILABLE = counter("yardarm_plugin_kv_unavailable_total", ["plugin"],
        "Operations on stored values that failed because their database was not reachable or refused them.");
    PLUGIN_SWAPS = counter("yardarm_plugin_swaps_total", ["result"],
        "Plans activated (`ok`), and plugin files rejected (`refused`).");
    PLUGIN_CPU_SECONDS = counter("yardarm_plugin_cpu_seconds_total", ["plugin"],
        "Seconds for which calls ran on a processor.");
    PLUGIN_ROLLBACKS = counter("yardarm_plugin_rollbacks_total", ["plugin", "reason"],
        "Versions that were replaced by the one before them, by reason: `traps`, `errors`, `slow`, `set`, `operator`.");
    PLUGIN_SHADOW_CALLS = counter("yardarm_plugin_shadow_calls_total", ["plugin", "result"],
        "Calls that were repeated for a version in shadow, by reply: `same` as that of the running version, `different`, or \
         none because the call was `skipped`. Begins anew with each such version.");
    PLUGIN_SHADOW_DIFFERENCES = counter("yardarm_plugin_shadow_differences_total", ["plugin", "field"],
        "Differences between the replies of a version in shadow and those of the running one, by what differs.");
    PLUGIN_FOLDER_USABLE = gauge("yardarm_plugin_folder_usable", [],
        "1 while plugins can be loaded from the whole plugin folder, otherwise 0.");
    PLUGIN_FILES = gauge("yardarm_plugin_files", ["result"],
        "Plugins by whether their newest files are used (`ok`) or rejected (`refused`).");
    PLUGIN_PLAN_GENERATION = gauge("yardarm_plugin_plan_generation", [], "Generation of the active plan.");

    TASK_PANICS = counter("yardarm_task_panics_total", ["task"],
        "Panics, by task; each is also a record of the log and counted in `/api/status`.");
    LOG_LINES_DROPPED = counter("yardarm_log_lines_dropped_total", [],
        "Log lines that were dropped because the log was not read or could not be written.");
    TELEMETRY_EXPORTED = counter("yardarm_telemetry_exported_total", ["signal"],
        "Spans, log lines and metrics that a collector took by OTLP; absent unless telemetry is exported.");
    TELEMETRY_DROPPED = counter("yardarm_telemetry_dropped_total", ["signal", "reason"],
        "Spans, log lines and metrics that no collector took: the queue was full (`queue-full`), or `export-failed`.");
    PROCESS_RESIDENT_BYTES = gauge("yardarm_process_resident_bytes", [], "Resident memory of the process, in bytes.");
    PROCESS_CPU_SECONDS = counter("yardarm_process_cpu_seconds_total", [],
        "CPU time of the process, user and system, in seconds.");
}

/// Returns the name under which a metric of a plugin is reported.
#[must_use]
pub fn guest_name(plugin: &str, metric: &str) -> String {
    format!("{GUEST_PREFIX}{}_{metric}", plugin.replace('-', "_"))
}

/// Returns the documentation of the metrics, in Markdown.
#[must_use]
pub fn metrics_document() -> String {
    format!(
        "## Yardarm\n\nThe admin listener serves these at `/metrics`, and those that plugins define as \
         `{GUEST_PREFIX}<plugin>_<metric>` with labels\nof their own: counters, gauges, and summaries. A name has one kind; \
         observations of another kind are rejected.\n\n{}",
        table(ALL.iter().copied())
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::{Kind, Metric};

    #[test]
    fn names_are_unique_and_follow_the_rules() {
        let is_name = |text: &str| text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
        let mut names = BTreeSet::new();
        for Metric { name, kind, labels, .. } in ALL {
            assert!(names.insert(name), "{name} is declared twice");
            assert!(name.starts_with("yardarm_") && is_name(name), "{name}");
            assert!(!name.starts_with(GUEST_PREFIX), "{name} is reserved for plugins");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let distinct: BTreeSet<_> = labels.iter().collect();
            assert!(distinct.len() == labels.len() && labels.iter().all(|it| is_name(it)), "{name}: {labels:?}");
            assert!(!labels.contains(&"le"), "{name}: the encoder adds this label");
        }
    }

    #[test]
    fn meanings_are_sentences() {
        for Metric { name, help, .. } in ALL {
            assert!(help.ends_with('.') && !help.contains(['\n', '|']), "{name}: {help}");
            assert!(help.starts_with(|it: char| it.is_ascii_uppercase() || it.is_ascii_digit()), "{name}: {help}");
        }
    }
}
