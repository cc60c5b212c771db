//! Signals: which of them end the process, which has it read its configuration again, and which do nothing.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM, SIGINT or SIGQUIT: drain and end.
    End,
    /// SIGHUP: read again what can change while the process runs.
    Reload,
}

/// Signals that are handled from the moment this is made. None of them kills the process any more.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    first_user: Signal,
    second_user: Signal,
}

impl Signals {
    /// Installs the handlers. To be called before anything that takes time: a signal that comes before ends the process.
    ///
    /// # Errors
    /// When the operating system refuses one.
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

    /// Waits for a signal that asks for something. Safe to be dropped while it waits.
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

    /// Waits for one that ends the process.
    pub(crate) async fn end(&mut self) {
        while self.next().await != Request::End {
            tracing::info!("nothing can be reloaded at this moment");
        }
    }
}
