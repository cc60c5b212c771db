//! State of an environment for operators, in one shape for all vendors: the admin listener's JSON, metrics and page.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::environment::EnvironmentLabel;
use crate::outbox::LedgerReport;
use crate::status::{Connection, ErrorKind, LastError, Status};
use crate::time::unix_ms;

/// Changes that are remembered per environment.
const RECENT: usize = 32;

/// State of one environment.
#[derive(Debug, Clone, Serialize)]
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
    /// What went wrong last, kept after recovery.
    pub last_error: Option<ErrorReport>,
    /// Whether what is served was read from disk and nothing has come from upstream since.
    pub is_stale: bool,
    /// Whether a payload plugin failed, so that something upstream said is not served.
    pub is_behind: bool,
    /// Items of the newest data that cannot be read; the last good versions of them are served.
    pub skipped_items: usize,
    /// Unix milliseconds of the last message from upstream; 0 before the first.
    pub last_message_ms: u64,
    /// Number of the newest change.
    pub sequence: u64,
    /// Flags served.
    pub flags: usize,
    /// Segments served.
    pub segments: usize,
    /// The newest changes, newest first; a few dozen.
    pub recent_changes: Vec<ChangeReport>,
    /// Where events stand; `None` when they are switched off.
    pub events: Option<EventReport>,
    /// State of the environment's database; `None` without one.
    pub store: Option<StoreReport>,
    /// State of groups whose members are in the database; `None` where there are none.
    pub big_segments: Option<BigSegmentReport>,
}

/// State of the database of one environment.
#[derive(Debug, Clone, Serialize)]
pub struct StoreReport {
    /// Kind of database in lower case.
    pub database: &'static str,
    /// Its address, without a password.
    pub server: String,
    /// What the environment's keys in it begin with.
    pub prefix: String,
    /// `available`, or in a word why not: `unreachable`, `denied`, `read-only`, `cluster`, `full`, `unsaved`,
    /// `wrong-type`, `busy` or `refused`.
    pub state: &'static str,
    /// Unix milliseconds since when it is in this state.
    pub since_ms: u64,
    /// What an operator can do; `None` while it is available.
    pub advice: Option<&'static str>,
    /// What the database answered last, shortened; `None` while it is available.
    pub last_answer: Option<String>,
}

/// State of groups whose members are in a database.
#[derive(Debug, Clone, Serialize)]
pub struct BigSegmentReport {
    /// Whether the last request to the database was answered.
    pub is_available: bool,
    /// Whether the last synchronization is older than is acceptable.
    pub is_stale: bool,
    /// Unix milliseconds of the last synchronization; 0 for never or unknown.
    pub synchronized_on_ms: u64,
}

/// State of a list of environments that upstream gives, where they are not configured one by one.
#[derive(Debug, Clone, Serialize)]
pub struct EnvironmentListReport {
    /// Vendor in lower case.
    pub vendor: &'static str,
    /// What gives the list, as the vendor calls it.
    pub source: &'static str,
    /// `initializing`, `valid`, `interrupted` or `off`.
    pub connection: &'static str,
    /// Unix milliseconds since when the connection is in this state.
    pub since_ms: u64,
    /// What went wrong last, kept after recovery.
    pub last_error: Option<ErrorReport>,
    /// Whether there is a list, fresh or from disk.
    pub is_known: bool,
    /// Whether the list was read from disk and upstream has not given one since.
    pub is_stale: bool,
    /// Unix milliseconds of the last message from upstream; 0 before the first.
    pub last_message_ms: u64,
    /// Environments in the list.
    pub environments: usize,
}

/// The newest changes of one environment, for people who want to see what happened.
#[derive(Debug, Default)]
pub struct RecentChanges(Mutex<VecDeque<ChangeReport>>);

/// A change that was served.
#[derive(Debug, Clone, Serialize)]
pub struct ChangeReport {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Number of the change.
    pub sequence: u64,
    /// For people.
    pub text: String,
}

/// The last failure of an upstream connection.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorReport {
    /// `network`, `response`, `invalid-data`, `store` or `unknown`.
    pub kind: &'static str,
    /// HTTP status, if that was it.
    pub status: Option<u16>,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// For people.
    pub message: String,
}

/// Where events of one environment stand. Delivered, filtered, dropped and pending add up to received.
#[derive(Debug, Clone, Serialize)]
pub struct EventReport {
    /// Events that SDKs handed over.
    pub received: u64,
    /// Events that arrived upstream.
    pub delivered: u64,
    /// Events that wait or are under way.
    pub pending: u64,
    /// Events that plugins dropped, by plugin.
    pub filtered: Vec<(String, u64)>,
    /// Events that were lost, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Posts that were refused because too much was under way; left out while there are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub refused_posts: u64,
}

impl EnvironmentReport {
    /// What is known of an environment that has no data yet; the rest is for the vendor to fill in.
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
            big_segments: None,
        }
    }
}

impl EnvironmentListReport {
    /// What is known of a list whose connection has this status.
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
    /// Remembers a change that happened now; the oldest is forgotten.
    pub fn remember(&self, sequence: u64, text: String) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT - 1);
        recent.push_front(ChangeReport { at_ms: unix_ms(), sequence, text });
    }

    /// All that are remembered, newest first.
    #[must_use]
    pub fn all(&self) -> Vec<ChangeReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Connection {
    /// The word for it in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Valid => "valid",
            Self::Interrupted => "interrupted",
            Self::Off => "off",
        }
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
            delivered: report.delivered,
            pending: report.pending,
            filtered: report.filtered.iter().map(|(plugin, count)| (plugin.to_string(), *count)).collect(),
            dropped: report.dropped.into_iter().collect(),
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
