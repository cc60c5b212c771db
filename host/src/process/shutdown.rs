//! Graceful shutdown of the process.

use std::process::ExitCode;

use super::signals::Signals;
use crate::gateway::Gateway;

/// Stops the gateway gracefully; a second signal ends the process at once.
pub(crate) async fn stop(gateway: Gateway, signals: &mut Signals) -> ExitCode {
    tokio::select! {
        // Work that was not finished in time is in the log; the shutdown was still orderly.
        _ = gateway.stop() => ExitCode::SUCCESS,
        () = signals.end() => {
            tracing::warn!("second signal, ending at once");
            ExitCode::FAILURE
        }
    }
}
