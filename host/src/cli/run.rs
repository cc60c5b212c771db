//! `yardarm run`: runs the gateway until a signal arrives.

use std::path::Path;
use std::process::ExitCode;

use super::reload::Reload;
use crate::config::{self, Overrides};
use crate::exit::Exit;
use crate::gateway::Gateway;
use crate::logging;
use crate::process::{Request, Signals, failed, stop};

pub(super) async fn run(file: Option<&Path>, overrides: &Overrides) -> ExitCode {
    let signals = match signals() {
        Ok(signals) => signals,
        Err(code) => return code,
    };
    let loaded = match config::load(file, overrides) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error.into()),
    };
    if let Err(error) = logging::start(&loaded.config.log) {
        return failed(&error);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (file, overrides) = (file.map(Path::to_owned), overrides.clone());
    let reload = Reload::new(loaded, move || config::load(file.as_deref(), &overrides));
    Box::pin(serve(reload, signals)).await
}

/// Installs handlers of signals before anything else, because a signal must not kill a process that is about to start.
pub(super) fn signals() -> Result<Signals, ExitCode> {
    Signals::new().map_err(|error| {
        logging::print_error(&format!("error: signals cannot be received: {error}"));
        Exit::System.into()
    })
}

/// Runs the gateway until a signal arrives; the log is set up already.
pub(super) async fn serve(mut reload: Reload, mut signals: Signals) -> ExitCode {
    let started = tokio::select! {
        started = Box::pin(Gateway::start(reload.config().clone())) => started,
        () = signals.end() => {
            tracing::info!("ended before the start was complete");
            return ExitCode::SUCCESS;
        }
    };
    let gateway = match started {
        Ok(gateway) => gateway,
        Err(error) => return failed(&error),
    };
    #[cfg(debug_assertions)]
    for task in std::env::var("FAULTS_FOR_TESTS").unwrap_or_default().split(',').filter(|it| !it.is_empty()) {
        gateway.supervisor().faults().arm(task);
    }
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::End => return stop(gateway, &mut signals).await,
                Request::Reload => reload.run(&gateway).await,
            },
            error = gateway.failure() => {
                tracing::error!(%error, "the gateway ends, because a part of it cannot be started again");
                stop(gateway, &mut signals).await;
                return Exit::Software.into();
            }
        }
    }
}
