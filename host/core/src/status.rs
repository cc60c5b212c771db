//! Connection state of an environment, with the time of its last change and the last error.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::internal_error::InternalError;
use crate::time::unix_ms;

/// State of the upstream connection of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Not connected successfully yet.
    Initializing,
    /// Connected, and the last message was valid.
    Valid,
    /// Connected before and not now; attempts continue.
    Interrupted,
    /// No further attempts, or only with long delays.
    Off,
}

/// Kind of the last failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The connection could not be made or broke.
    Network,
    /// An HTTP status other than success.
    Response(u16),
    /// A message was invalid.
    InvalidData,
    /// Reading or writing persisted data failed.
    Store,
    /// Anything else.
    Unknown,
}

/// The last failure. It is kept after recovery, because operators look for it afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// Kind of failure.
    pub kind: ErrorKind,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Human-readable message without secrets.
    pub message: Arc<str>,
}

/// The full status of the connection at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The state.
    pub connection: Connection,
    /// Unix milliseconds of the last change of the state.
    pub since_ms: u64,
    /// The last failure.
    pub last_error: Option<LastError>,
    /// Whether data has been received from upstream in this process. Never reset.
    pub has_received_data: bool,
    /// Whether the served data was read from disk and no data has been received from upstream since.
    pub is_stale: bool,
    /// Unix milliseconds of the last message from upstream; 0 before the first.
    pub last_message_ms: u64,
}

/// An outage between upstream, if that is a relay, and where it has its data from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayedOutage {
    /// Unix milliseconds since when it lasts, by the clock of the relay.
    pub since_ms: u64,
    /// Human-readable message without secrets.
    pub message: Arc<str>,
}

/// The shared status. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Status {
    report: Arc<Mutex<ConnectionStatus>>,
    relayed_outage: Arc<Mutex<Option<RelayedOutage>>>,
    changed: watch::Sender<()>,
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

impl Status {
    /// Creates a status in [`Connection::Initializing`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            report: Arc::new(Mutex::new(ConnectionStatus {
                connection: Connection::Initializing,
                since_ms: unix_ms(),
                last_error: None,
                has_received_data: false,
                is_stale: false,
                last_message_ms: 0,
            })),
            relayed_outage: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Returns a copy of the status. A connection to a relay that has lost its own upstream counts as interrupted.
    #[must_use]
    pub fn current(&self) -> ConnectionStatus {
        let mut report = self.report.lock().clone();
        if report.connection == Connection::Valid
            && let Some(outage) = &*self.relayed_outage.lock()
        {
            report.connection = Connection::Interrupted;
            report.since_ms = outage.since_ms;
            report.last_error = Some(LastError {
                kind: ErrorKind::Network,
                at_ms: outage.since_ms,
                message: Arc::clone(&outage.message),
            });
        }
        report
    }

    /// Returns whether the connection to upstream itself is valid.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.report.lock().connection == Connection::Valid
    }

    /// Records an outage that upstream, being a relay, reports; `None` for its end.
    pub fn set_relayed_outage(&self, outage: Option<RelayedOutage>) {
        let is_change = {
            let mut present = self.relayed_outage.lock();
            let is_change = *present != outage;
            *present = outage;
            is_change
        };
        if is_change {
            self.changed.send_replace(());
        }
    }

    /// Returns a receiver that wakes after each change but that of the time of the last message.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Records a valid message. The last error is kept.
    pub fn message_processed(&self) {
        let is_change = {
            let mut report = self.report.lock();
            report.last_message_ms = unix_ms();
            let is_change = report.connection != Connection::Valid;
            report.enter(Connection::Valid);
            is_change
        };
        // Not after each message: those that wait would wake for nothing.
        if is_change {
            self.changed.send_replace(());
        }
    }

    /// Records that a full data set from upstream is in place.
    pub fn data_received(&self) {
        self.modify(|report| {
            report.has_received_data = true;
            report.is_stale = false;
        });
    }

    /// Records that data was read from disk.
    pub fn data_restored(&self) {
        self.modify(|report| report.is_stale = !report.has_received_data);
    }

    /// Records that there is data to serve, which arrived earlier.
    pub fn data_served(&self) {
        self.changed.send_replace(());
    }

    /// Records a failure after which attempts continue: interrupted, or still initializing before the first success.
    pub fn interrupted(&self, kind: ErrorKind, message: &str) {
        self.modify(|report| {
            report.fail(kind, message);
            if report.connection != Connection::Initializing {
                report.enter(Connection::Interrupted);
            }
        });
    }

    /// Records an internal error of a task of the environment, which is restarted.
    ///
    /// For tasks that hold the connection: it counts as interrupted until the next message from upstream.
    pub fn task_failed(&self, error: &InternalError) {
        self.interrupted(ErrorKind::Unknown, &format!("{error}; restarting"));
    }

    /// Records that a part of upstream's data is invalid while the rest is used: the state is unchanged.
    pub fn note(&self, kind: ErrorKind, message: &str) {
        self.modify(|report| report.fail(kind, message));
    }

    /// Records a permanent rejection by upstream.
    pub fn refused(&self, kind: ErrorKind, message: &str) {
        self.modify(|report| {
            report.fail(kind, message);
            report.enter(Connection::Off);
        });
    }

    fn modify(&self, change: impl FnOnce(&mut ConnectionStatus)) {
        change(&mut self.report.lock());
        self.changed.send_replace(());
    }
}

impl Connection {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Initializing, Self::Valid, Self::Interrupted, Self::Off];

    /// Returns the name in reports.
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

impl ConnectionStatus {
    fn enter(&mut self, connection: Connection) {
        if self.connection != connection {
            self.connection = connection;
            self.since_ms = unix_ms();
        }
    }

    fn fail(&mut self, kind: ErrorKind, message: &str) {
        self.last_error = Some(LastError { kind, at_ms: unix_ms(), message: message.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_tasks_are_woken_by_changes_only() {
        let status = Status::new();
        let mut changes = status.changes();
        for (wakes, is_woken) in [
            (Status::message_processed as fn(&Status), true),
            (Status::message_processed, false),
            (Status::data_received, true),
            (Status::message_processed, false),
            (|it| it.interrupted(ErrorKind::Network, "gone"), true),
            (Status::message_processed, true),
        ] {
            wakes(&status);
            assert_eq!(changes.has_changed().unwrap(), is_woken);
            changes.mark_unchanged();
        }
    }

    #[test]
    fn before_the_first_success_a_failure_leaves_it_initializing() {
        let status = Status::new();
        status.interrupted(ErrorKind::Response(503), "x");
        assert_eq!(status.current().connection, Connection::Initializing);
        status.message_processed();
        status.interrupted(ErrorKind::Network, "y");
        assert_eq!(status.current().connection, Connection::Interrupted);
    }

    #[test]
    fn an_outage_behind_upstream_counts_while_upstream_is_connected() {
        let status = Status::new();
        let outage = RelayedOutage { since_ms: 7, message: "gone".into() };
        status.set_relayed_outage(Some(outage.clone()));
        assert_eq!(status.current().connection, Connection::Initializing);
        status.message_processed();
        let mut changes = status.changes();
        let report = status.current();
        assert_eq!((report.connection, report.since_ms), (Connection::Interrupted, 7));
        assert!(status.is_connected());
        status.set_relayed_outage(Some(outage));
        assert!(!changes.has_changed().unwrap());
        status.set_relayed_outage(None);
        assert!(changes.has_changed().unwrap());
        assert_eq!(status.current().connection, Connection::Valid);
        changes.mark_unchanged();
    }

    #[test]
    fn a_failed_task_interrupts_until_the_next_message() {
        let status = Status::new();
        status.message_processed();
        status.task_failed(&InternalError { task: "stream", location: "a.rs:1".into() });
        let report = status.current();
        assert_eq!(report.connection, Connection::Interrupted);
        let error = report.last_error.unwrap();
        assert!(error.kind == ErrorKind::Unknown && error.message.ends_with("; restarting"), "{}", error.message);
        status.message_processed();
        assert_eq!(status.current().connection, Connection::Valid);
    }

    #[test]
    fn the_last_error_outlives_recovery() {
        let status = Status::new();
        status.interrupted(ErrorKind::InvalidData, "x");
        status.message_processed();
        let report = status.current();
        assert_eq!(report.connection, Connection::Valid);
        assert_eq!(report.last_error.map(|it| it.kind), Some(ErrorKind::InvalidData));
    }

    #[test]
    fn restored_data_is_stale_until_the_first_message() {
        let status = Status::new();
        status.data_restored();
        assert!(status.current().is_stale);
        status.data_received();
        assert!(!status.current().is_stale);
        status.data_restored();
        assert!(!status.current().is_stale);
    }
}
