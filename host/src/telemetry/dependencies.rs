//! Metrics of what environments depend on besides their upstream: databases, Big Segments, lists of environments.

use prometheus::Registry;
use yardarm_vendor::report::{EnvironmentListReport, EnvironmentReport};

use super::{gauges, register, signed};

/// 1 for the current state of an environment's database: available, or the kind of failure.
const STORE: &str = "yardarm_store_state";
/// Unix time at which the database entered this state, in seconds.
const STORE_SINCE: &str = "yardarm_store_state_since_seconds";
/// 1 while the database can be queried for members of Big Segments.
const BIG_SEGMENTS_AVAILABLE: &str = "yardarm_big_segments_available";
/// 1 while the last synchronization of Big Segments is older than `launchdarkly.big_segments_stale_threshold`.
const BIG_SEGMENTS_STALE: &str = "yardarm_big_segments_stale";
/// Unix time of the last synchronization of Big Segments, in seconds; 0 for never or unknown.
const BIG_SEGMENTS_SYNCHRONIZED: &str = "yardarm_big_segments_synchronized_seconds";
/// 1 for the current connection state of a list of environments (auto-configuration).
const LIST: &str = "yardarm_environment_list_state";
/// 1 while the list was read from disk and upstream has not sent one yet.
const LIST_STALE: &str = "yardarm_environment_list_stale";
/// Environments in the list.
const LIST_ENVIRONMENTS: &str = "yardarm_environment_list_environments";
/// Unix time of the last message about the list, in seconds; 0 before the first.
const LIST_MESSAGE: &str = "yardarm_environment_list_last_message_seconds";

/// Registers all metrics of this file with their current values.
pub(super) fn register_all(registry: &Registry, reports: &[EnvironmentReport], lists: &[EnvironmentListReport]) {
    const LABELS: &[&str] = &["vendor", "environment"];
    const LIST_LABELS: &[&str] = &["vendor", "source"];
    let store =
        gauges(STORE, "1 for the present state of the database.", &["vendor", "environment", "database", "state"]);
    let since = gauges(STORE_SINCE, "Unix time at which the database entered its state.", LABELS);
    let available = gauges(BIG_SEGMENTS_AVAILABLE, "1 while members of Big Segments can be read.", LABELS);
    let stale = gauges(BIG_SEGMENTS_STALE, "1 while Big Segments are potentially stale.", LABELS);
    let synchronized =
        gauges(BIG_SEGMENTS_SYNCHRONIZED, "Unix time of the last synchronization of Big Segments.", LABELS);
    for report in reports {
        let labels = [report.vendor, report.name.as_str()];
        if let Some(it) = &report.store {
            store.with_label_values(&[report.vendor, report.name.as_str(), it.database, it.state]).set(1);
            since.with_label_values(&labels).set(signed(it.since_ms / 1000));
        }
        if let Some(it) = &report.big_segments {
            available.with_label_values(&labels).set(it.is_available.into());
            stale.with_label_values(&labels).set(it.is_stale.into());
            synchronized.with_label_values(&labels).set(signed(it.synchronized_on_ms / 1000));
        }
    }
    let list = gauges(LIST, "1 for the present connection state of the list.", &["vendor", "source", "state"]);
    let list_stale = gauges(LIST_STALE, "1 while the list is from disk.", LIST_LABELS);
    let environments = gauges(LIST_ENVIRONMENTS, "Environments in the list.", LIST_LABELS);
    let message = gauges(LIST_MESSAGE, "Unix time of the last message about the list.", LIST_LABELS);
    for it in lists {
        let labels = [it.vendor, it.source];
        list.with_label_values(&[it.vendor, it.source, it.connection]).set(1);
        list_stale.with_label_values(&labels).set(it.is_stale.into());
        environments.with_label_values(&labels).set(signed(it.environments as u64));
        message.with_label_values(&labels).set(signed(it.last_message_ms / 1000));
    }
    for gauge in [store, since, available, stale, synchronized, list, list_stale, environments, message] {
        register(registry, gauge);
    }
}
