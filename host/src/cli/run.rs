//! `yardarm run`: runs the gateway until a signal arrives.

use std::path::Path;
use std::process::ExitCode;

use super::reload::Reload;
use crate::config::{self, Config, Overrides};
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
    let watched = config::file_to_read(file.as_deref());
    let reload = Reload::new(loaded, watched, move || config::load(file.as_deref(), &overrides));
    Box::pin(serve(reload, signals, failed)).await
}

/// Installs handlers of signals before anything else, because a signal must not kill a process that is about to start.
pub(super) fn signals() -> Result<Signals, ExitCode> {
    Signals::new().map_err(|error| {
        logging::print_error(&format!("error: signals cannot be received: {error}"));
        Exit::System.into()
    })
}

/// Runs the gateway until a signal arrives, or until it has nothing more to do; the log is set up already. `failed` reports
/// an error that ends the gateway.
pub(super) async fn serve(
    mut reload: Reload,
    mut signals: Signals,
    failed: impl Fn(&anyhow::Error) -> ExitCode,
) -> ExitCode {
    let mut config = reload.config().clone();
    if let Err(error) = logging::set_environment_levels(&config.log_levels()) {
        return failed(&error);
    }
    let policy = StartPolicy::of(&config);
    if policy.is_one_shot {
        tracing::info!("Running in one-shot mode - will exit immediately after initializing environments");
        config.close_to_sdks();
    }
    let started = tokio::select! {
        started = Box::pin(Gateway::start(config)) => started,
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
    let mut is_initialized = false;
    let mut orders = gateway.reload_orders();
    loop {
        tokio::select! {
            outcome = gateway.initialized(), if !is_initialized => {
                is_initialized = true;
                match outcome {
                    Err(error) if policy.is_one_shot || policy.exits_on_error => {
                        stop(gateway, &mut signals).await;
                        return failed(&error.into());
                    }
                    Ok(()) if policy.is_one_shot => return finish(gateway, &mut signals, failed).await,
                    _ => (),
                }
            }
            request = signals.next() => match request {
                Request::End => return stop(gateway, &mut signals).await,
                // The outcome is logged.
                Request::Reload => drop(reload.run(&gateway).await),
            },
            Some(order) = orders.recv() => order.answer(reload.run(&gateway).await),
            () = reload.file_changed() => drop(reload.run(&gateway).await),
            error = gateway.failure() => {
                tracing::error!(%error, "the gateway ends, because a part of it cannot be started again");
                stop(gateway, &mut signals).await;
                return Exit::Software.into();
            }
        }
    }
}

/// When the gateway ends by itself.
struct StartPolicy {
    /// As soon as every environment has data or has failed.
    is_one_shot: bool,
    /// As soon as an environment has failed.
    exits_on_error: bool,
}

impl StartPolicy {
    fn of(config: &Config) -> Self {
        let side = config.launchdarkly.as_ref();
        Self {
            is_one_shot: side.is_some_and(|it| it.exit_always),
            exits_on_error: side.is_some_and(|it| it.exit_on_error && !it.ignore_connection_errors),
        }
    }
}

/// Ends the one-shot mode: what was received is written to the databases.
async fn finish(gateway: Gateway, signals: &mut Signals, failed: impl Fn(&anyhow::Error) -> ExitCode) -> ExitCode {
    let outages = gateway.unavailable_stores();
    let code = stop(gateway, signals).await;
    if outages.is_empty() {
        return code;
    }
    failed(&anyhow::anyhow!("persistent stores of these environments are unavailable: {}", outages.join(", ")))
}
