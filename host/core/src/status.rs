//! Connection state of an environment: what it is, since when, and what went wrong last.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::supervisor::InternalError;
use crate::time::unix_ms;

/// How the upstream connection of an environment is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// No success yet.
    Initializing,
    /// Connected, last message understood.
    Valid,
    /// It worked before and does not now; attempts go on.
    Interrupted,
    /// Nothing is attempted any more, or only very seldom.
    Off,
}

/// Kind of the last failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The connection could not be made or broke.
    Network,
    /// An HTTP status other than success.
    Response(u16),
    /// Something came that could not be understood.
    InvalidData,
    /// Reading or writing kept data failed.
    Store,
    /// Anything else.
    Unknown,
}

/// The last failure. Never cleared, because "what was it?" is asked afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// Kind of failure.
    pub kind: ErrorKind,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// For people; without secrets.
    pub message: Arc<str>,
}

/// Everything known about the connection at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The state.
    pub connection: Connection,
    /// Unix milliseconds of the last change of the state.
    pub since_ms: u64,
    /// The last failure.
    pub last_error: Option<LastError>,
    /// Whether data has been received from upstream in this process. Sticky.
    pub has_received_data: bool,
    /// Whether what is served was read from disk and nothing has come from upstream since.
    pub is_stale: bool,
    /// Unix milliseconds of the last message from upstream; 0 before the first.
    pub last_message_ms: u64,
}

/// The shared state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Status {
    report: Arc<Mutex<ConnectionStatus>>,
    changed: watch::Sender<()>,
}

impl Default for Status {
    fn default() -> Self {
        Self::new()
    }
}

impl Status {
    /// Starts in [`Connection::Initializing`].
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
            changed: watch::Sender::new(()),
        }
    }

    /// A copy of everything.
    #[must_use]
    pub fn current(&self) -> ConnectionStatus {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes after each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// A message was understood. The last error stays.
    pub fn message_processed(&self) {
        self.modify(|report| {
            report.last_message_ms = unix_ms();
            report.enter(Connection::Valid);
        });
    }

    /// A full data set from upstream is in place.
    pub fn data_received(&self) {
        self.modify(|report| {
            report.has_received_data = true;
            report.is_stale = false;
        });
    }

    /// Data was read from disk.
    pub fn data_restored(&self) {
        self.modify(|report| report.is_stale = !report.has_received_data);
    }

    /// Something failed and will be tried again: interrupted, or still initializing before the first success.
    pub fn interrupted(&self, kind: ErrorKind, message: &str) {
        self.modify(|report| {
            report.fail(kind, message);
            if report.connection != Connection::Initializing {
                report.enter(Connection::Interrupted);
            }
        });
    }

    /// A task of the environment failed because of an internal error and is restarted.
    ///
    /// For tasks that keep the connection: it counts as interrupted until upstream has sent something again.
    pub fn task_failed(&self, error: &InternalError) {
        self.interrupted(ErrorKind::Unknown, &format!("{error}; restarting"));
    }

    /// A part of what upstream sent cannot be used, and everything else goes on: the state stays what it is.
    pub fn note(&self, kind: ErrorKind, message: &str) {
        self.modify(|report| report.fail(kind, message));
    }

    /// Upstream refused us in a way that does not heal by itself.
    pub fn refused(&self, kind: ErrorKind, message: &str) {
        self.modify(|report| {
            report.fail(kind, message);
            report.enter(Connection::Off);
        });
    }

    fn modify(&self, change: impl FnOnce(&mut ConnectionStatus)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
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
    fn before_the_first_success_a_failure_leaves_it_initializing() {
        let status = Status::new();
        status.interrupted(ErrorKind::Response(503), "x");
        assert_eq!(status.current().connection, Connection::Initializing);
        status.message_processed();
        status.interrupted(ErrorKind::Network, "y");
        assert_eq!(status.current().connection, Connection::Interrupted);
    }

    #[test]
    fn a_failed_task_interrupts_until_upstream_speaks() {
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
    fn restored_data_is_stale_until_upstream_speaks() {
        let status = Status::new();
        status.data_restored();
        assert!(status.current().is_stale);
        status.data_received();
        assert!(!status.current().is_stale);
        status.data_restored();
        assert!(!status.current().is_stale);
    }
}
