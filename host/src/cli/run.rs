//! `yardarm run`: the gateway until a signal.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::EXIT_CONFIG;
use crate::config::{self, Config, Overrides};
use crate::gateway::Gateway;
use crate::telemetry;

pub(super) async fn run(file: Option<&Path>, overrides: &Overrides) -> ExitCode {
    let loaded = match config::load(file, overrides) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error.into(), EXIT_CONFIG),
    };
    if let Err(error) = telemetry::start_log(&loaded.config.log) {
        return failed(&error, EXIT_CONFIG);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    serve(loaded.config).await
}

/// The gateway until a signal; the log is set up already.
pub(super) async fn serve(config: Config) -> ExitCode {
    let Ok(mut signals) = Signals::new() else { return failed(&anyhow::anyhow!("signals cannot be received"), 1) };
    match Gateway::start(config).await {
        Err(error) => failed(&error, 1),
        Ok(gateway) => {
            signals.next().await;
            stop(gateway, &mut signals).await
        }
    }
}

/// Ends gracefully; a second signal ends at once.
pub(crate) async fn stop(gateway: Gateway, signals: &mut Signals) -> ExitCode {
    tokio::select! {
        // What could not be finished in time is in the log; the end was still an orderly one.
        _ = gateway.stop() => ExitCode::SUCCESS,
        () = signals.next() => {
            tracing::warn!("second signal, ending at once");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

pub(crate) fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(code)
}
