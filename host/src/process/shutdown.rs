//! The end of the process.

use std::process::ExitCode;

use super::signals::Signals;
use crate::gateway::Gateway;

/// Ends gracefully; a second signal ends at once.
pub(crate) async fn stop(gateway: Gateway, signals: &mut Signals) -> ExitCode {
    tokio::select! {
        // What could not be finished in time is in the log; the end was still an orderly one.
        _ = gateway.stop() => ExitCode::SUCCESS,
        () = signals.end() => {
            tracing::warn!("second signal, ending at once");
            ExitCode::FAILURE
        }
    }
}
