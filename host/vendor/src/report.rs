//! State of an environment for operators, in one format for all vendors: JSON of the admin listener, metrics and page.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::EnvironmentLabel;
use yardarm_core::status::{ErrorKind, LastError, Status};
use yardarm_core::time::unix_ms;

use crate::events::outbox::LedgerReport;

/// Number of recent changes that are retained per environment.
const RECENT: usize = 32;

/// State of one environment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EnvironmentReport {
    /// Vendor in lower case.
    pub vendor: &'static str,
    /// Configured name.
    pub name: String,
    /// `starting`, `empty`, `rejected` or `ready`.
    pub phase: &'static str,
    /// `initializing`, `valid`, `interrupted` or `off`.
    pub connection: &'static str,
    /// Unix milliseconds since when the connection is in this state.
    pub since_ms: u64,
    /// The last failure, kept after recovery.
    pub last_error: Option<ErrorReport>,
    /// Whether the served data was read from disk and no data has been received from upstream since.
    pub is_stale: bool,
    /// Whether a payload plugin failed, so that the newest upstream data is not served.
    pub is_behind: bool,
    /// Items of the newest data that cannot be parsed; their last good versions are served.
    pub skipped_items: usize,
    /// Unix milliseconds of the last message from upstream; 0 before the first.
    pub last_message_ms: u64,
    /// Sequence number of the newest change.
    pub sequence: u64,
    /// Flags served.
    pub flags: usize,
    /// Segments served.
    pub segments: usize,
    /// The most recent changes, newest first; a few dozen.
    pub recent_changes: Vec<ChangeReport>,
    /// Counts of events; `None` when events are disabled.
    pub events: Option<EventReport>,
    /// State of the environment's database; `None` without one.
    pub store: Option<StoreReport>,
    /// `leader`, `follower`, `alone` or `undecided`: the role of this gateway in its fleet; `None` without one.
    pub role: Option<&'static str>,
    /// State of Big Segments; `None` where there are none.
    pub big_segments: Option<BigSegmentReport>,
}

/// State of the database of one environment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StoreReport {
    /// Kind of database in lower case.
    pub database: &'static str,
    /// Its address, without a password. Empty for the usual address of a service.
    pub server: String,
    /// Prefix of the environment's keys. May be empty.
    pub prefix: String,
    /// Name of the table; empty for databases without tables.
    pub table: String,
    /// `available`, or why it is not: `unreachable`, `denied`, `read-only`, `cluster`, `full`, `unsaved`, `wrong-type`,
    /// `busy`, `missing` or `refused`.
    pub state: &'static str,
    /// All states that it can be in.
    #[serde(skip)]
    pub states: &'static [&'static str],
    /// Writes that brought it up to date.
    pub writes: u64,
    /// Operations that failed, checks during an outage included.
    pub failures: u64,
    /// Unix milliseconds since when it is in this state.
    pub since_ms: u64,
    /// Advice for the operator; `None` while the database is available.
    pub advice: Option<&'static str>,
    /// The last error reply of the database, shortened; `None` while it is available.
    pub last_answer: Option<String>,
}

/// State of groups whose members are in a database.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BigSegmentReport {
    /// Whether the last request to the database succeeded.
    pub is_available: bool,
    /// Whether the last synchronization is older than the configured limit.
    pub is_stale: bool,
    /// Unix milliseconds of the last synchronization; 0 for never or unknown.
    pub synchronized_on_ms: u64,
}

/// State of a list of environments that upstream provides, where they are not configured individually.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EnvironmentListReport {
    /// Vendor in lower case.
    pub vendor: &'static str,
    /// The provider of the list, in the vendor's terms.
    pub source: &'static str,
    /// `initializing`, `valid`, `interrupted` or `off`.
    pub connection: &'static str,
    /// Unix milliseconds since when the connection is in this state.
    pub since_ms: u64,
    /// The last failure, kept after recovery.
    pub last_error: Option<ErrorReport>,
    /// Whether there is a list, from upstream or from disk.
    pub is_known: bool,
    /// Whether the list was read from disk and upstream has not sent one since.
    pub is_stale: bool,
    /// Unix milliseconds of the last message from upstream; 0 before the first.
    pub last_message_ms: u64,
    /// Number of environments in the list.
    pub environments: usize,
}

/// The most recent changes of one environment, for display.
#[derive(Debug, Default)]
pub struct RecentChanges(Mutex<VecDeque<ChangeReport>>);

/// A change that was served.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChangeReport {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Sequence number of the change.
    pub sequence: u64,
    /// Human-readable description.
    pub text: String,
}

/// The last failure of an upstream connection.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorReport {
    /// `network`, `response`, `invalid-data`, `store` or `unknown`.
    pub kind: &'static str,
    /// HTTP status, if the failure was one.
    pub status: Option<u16>,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Human-readable message.
    pub message: String,
}

/// Counts of the events of one environment. Delivered, filtered, dropped and pending add up to received and added.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventReport {
    /// Events received from SDKs.
    pub received: u64,
    /// Events that plugins added; left out while there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub added: u64,
    /// Events delivered upstream.
    pub delivered: u64,
    /// Events that wait or are being sent.
    pub pending: u64,
    /// Events dropped by plugins, by plugin.
    pub filtered: Vec<(String, u64)>,
    /// Events lost, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Bytes of accepted posts on disk whose events are not settled; left out while there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub on_disk_bytes: u64,
    /// Posts rejected because too many were in progress; left out while there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused_posts: u64,
}

impl EnvironmentReport {
    /// Creates the report of an environment without data; the vendor fills in the rest.
    #[must_use]
    pub fn of(label: &EnvironmentLabel, phase: &'static str, status: &Status) -> Self {
        let report = status.current();
        Self {
            vendor: label.vendor(),
            name: label.name().to_string(),
            phase,
            connection: report.connection.as_str(),
            since_ms: report.since_ms,
            last_error: report.last_error.map(ErrorReport::from),
            is_stale: report.is_stale,
            is_behind: false,
            skipped_items: 0,
            last_message_ms: report.last_message_ms,
            sequence: 0,
            flags: 0,
            segments: 0,
            recent_changes: Vec::new(),
            events: None,
            store: None,
            role: None,
            big_segments: None,
        }
    }
}

impl EnvironmentListReport {
    /// Creates the report of a list from the status of its connection.
    #[must_use]
    pub fn of(
        vendor: &'static str,
        source: &'static str,
        status: &Status,
        is_known: bool,
        environments: usize,
    ) -> Self {
        let report = status.current();
        Self {
            vendor,
            source,
            connection: report.connection.as_str(),
            since_ms: report.since_ms,
            last_error: report.last_error.map(ErrorReport::from),
            is_known,
            is_stale: report.is_stale,
            last_message_ms: report.last_message_ms,
            environments,
        }
    }
}

impl RecentChanges {
    /// Adds a change that happened now; the oldest is removed.
    pub fn remember(&self, sequence: u64, text: String) {
        let mut recent = self.0.lock();
        recent.truncate(RECENT - 1);
        recent.push_front(ChangeReport { at_ms: unix_ms(), sequence, text });
    }

    /// Returns all retained changes, newest first.
    #[must_use]
    pub fn all(&self) -> Vec<ChangeReport> {
        self.0.lock().iter().cloned().collect()
    }
}

impl From<LastError> for ErrorReport {
    fn from(error: LastError) -> Self {
        Self {
            kind: match error.kind {
                ErrorKind::Network => "network",
                ErrorKind::Response(_) => "response",
                ErrorKind::InvalidData => "invalid-data",
                ErrorKind::Store => "store",
                ErrorKind::Unknown => "unknown",
            },
            status: if let ErrorKind::Response(status) = error.kind { Some(status) } else { None },
            at_ms: error.at_ms,
            message: error.message.to_string(),
        }
    }
}

impl From<LedgerReport> for EventReport {
    fn from(report: LedgerReport) -> Self {
        Self {
            received: report.received,
            added: report.added,
            delivered: report.delivered,
            pending: report.pending,
            filtered: report.filtered.iter().map(|(plugin, count)| (plugin.to_string(), *count)).collect(),
            dropped: report.dropped.into_iter().collect(),
            on_disk_bytes: 0,
            refused_posts: report.refused_posts,
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_changes_are_remembered() {
        let recent = RecentChanges::default();
        assert!(recent.all().is_empty());
        let before = unix_ms();
        for sequence in 0..40 {
            recent.remember(sequence, format!("change {sequence}"));
        }
        let all = recent.all();
        let sequences: Vec<_> = all.iter().map(|it| it.sequence).collect();
        assert_eq!(sequences, (8..40).rev().collect::<Vec<_>>());
        assert_eq!(all[0].text, "change 39");
        assert!((before..=unix_ms()).contains(&all[31].at_ms));
    }
}
