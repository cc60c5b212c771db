//! Signals: which end the process, which reloads the configuration, and which are ignored.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM, SIGINT or SIGQUIT: drain and end.
    End,
    /// SIGHUP: reload what can change at run time.
    Reload,
}

/// Handlers of signals, which are installed on creation. From then on none of these signals kills the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    first_user: Signal,
    second_user: Signal,
}

impl Signals {
    /// Installs the handlers. Call this before anything slow, because an earlier signal ends the process.
    ///
    /// # Errors
    /// When the operating system rejects a handler.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            first_user: signal(SignalKind::user_defined1())?,
            second_user: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for a signal that has a meaning. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Request {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => return Request::End,
                _ = self.interrupt.recv() => return Request::End,
                _ = self.quit.recv() => return Request::End,
                _ = self.hang_up.recv() => return Request::Reload,
                _ = self.first_user.recv() => "SIGUSR1",
                _ = self.second_user.recv() => "SIGUSR2",
            };
            tracing::info!(signal = name, "a signal without a meaning here was ignored");
        }
    }

    /// Waits for a signal that ends the process.
    pub(crate) async fn end(&mut self) {
        while self.next().await != Request::End {
            tracing::info!("a reload is not possible at this moment");
        }
    }
}
