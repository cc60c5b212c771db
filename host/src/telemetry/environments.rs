//! Metrics of environments: their data, their events, what they depend on, and the lists that they come from.

use yardarm_core::metrics::{Families, catalog};
use yardarm_core::status::Connection;
use yardarm_vendor::report::{EnvironmentListReport, EnvironmentReport, EventReport};

/// Adds all metrics of this file.
pub(super) fn collect(families: &mut Families, reports: &[EnvironmentReport], lists: &[EnvironmentListReport]) {
    for report in reports {
        let (vendor, name) = (report.vendor, report.name.as_str());
        let labels = [vendor, name];
        for state in Connection::ALL.map(Connection::as_str) {
            families.sample(&catalog::UPSTREAM_STATE, &[vendor, name, state], report.connection == state);
        }
        families.sample(&catalog::UPSTREAM_LAST_MESSAGE, &labels, report.last_message_ms / 1000);
        families.sample(&catalog::ENVIRONMENT_STALE, &labels, report.is_stale);
        families.sample(&catalog::ENVIRONMENT_BEHIND, &labels, report.is_behind);
        families.sample(&catalog::ENVIRONMENT_SKIPPED_ITEMS, &labels, report.skipped_items);
        families.sample(&catalog::ENVIRONMENT_ITEMS, &[vendor, name, "flag"], report.flags);
        families.sample(&catalog::ENVIRONMENT_ITEMS, &[vendor, name, "segment"], report.segments);
        if let Some(report) = &report.events {
            events(families, labels, report);
        }
        if let Some(it) = &report.store {
            for state in it.states {
                families.sample(&catalog::STORE_STATE, &[vendor, name, it.database, state], it.state == *state);
            }
            families.sample(&catalog::STORE_STATE_SINCE, &labels, it.since_ms / 1000);
            families.sample(&catalog::STORE_WRITES, &labels, it.writes);
            families.sample(&catalog::STORE_FAILURES, &labels, it.failures);
        }
        if let Some(it) = &report.big_segments {
            families.sample(&catalog::BIG_SEGMENTS_AVAILABLE, &labels, it.is_available);
            families.sample(&catalog::BIG_SEGMENTS_STALE, &labels, it.is_stale);
            families.sample(&catalog::BIG_SEGMENTS_SYNCHRONIZED, &labels, it.synchronized_on_ms / 1000);
        }
    }
    for it in lists {
        let labels = [it.vendor, it.source];
        for state in Connection::ALL.map(Connection::as_str) {
            families.sample(&catalog::ENVIRONMENT_LIST_STATE, &[it.vendor, it.source, state], it.connection == state);
        }
        families.sample(&catalog::ENVIRONMENT_LIST_STALE, &labels, it.is_stale);
        families.sample(&catalog::ENVIRONMENT_LIST_ENVIRONMENTS, &labels, it.environments);
        families.sample(&catalog::ENVIRONMENT_LIST_LAST_MESSAGE, &labels, it.last_message_ms / 1000);
    }
}

fn events(families: &mut Families, labels: [&str; 2], report: &EventReport) {
    let [vendor, name] = labels;
    families.sample(&catalog::EVENTS_RECEIVED, &labels, report.received);
    families.sample(&catalog::EVENTS_ADDED, &labels, report.added);
    families.sample(&catalog::EVENTS_DELIVERED, &labels, report.delivered);
    families.sample(&catalog::EVENTS_PENDING, &labels, report.pending);
    families.sample(&catalog::EVENTS_ON_DISK, &labels, report.on_disk_bytes);
    families.sample(&catalog::EVENT_POSTS_REFUSED, &labels, report.refused_posts);
    for (plugin, count) in &report.filtered {
        families.sample(&catalog::EVENTS_FILTERED, &[vendor, name, plugin], *count);
    }
    for (reason, count) in &report.dropped {
        families.sample(&catalog::EVENTS_DROPPED, &[vendor, name, reason], *count);
    }
}
