//! `yardarm ff-proxy`: the gateway with the settings of Harness' relay, or its offline files without a gateway.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;
use yardarm_harness::config::compat::{self, CompatError};
use yardarm_vendor::side::VendorSide;

use super::reload::Reload;
use super::run::{serve, signals};
use super::variables;
use crate::config::{self, Config, Loaded, Overrides};
use crate::gateway::Gateway;
use crate::logging;

/// Longest time for all environments to have data before their files are written.
const DATA_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two checks for that.
const LOOK: Duration = Duration::from_millis(100);

/// Exit codes of ff-proxy: wrong usage, and everything else.
const EXIT_USAGE: u8 = 2;
const EXIT_FAILURE: u8 = 1;

/// Runs the command; `arguments` are those of ff-proxy.
pub(super) async fn ff_proxy(arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|it| ["-h", "-help", "--help"].contains(&it.as_str())) {
        return help();
    }
    let signals = match signals() {
        Ok(signals) => signals,
        Err(code) => return code,
    };
    let variables = variables();
    let translation = match compat::translate(arguments, &variables) {
        Ok(translation) => translation,
        Err(error) => return refuse(&error),
    };
    let overrides = Overrides { overrides: translation.overrides, ..Overrides::of_program(variables) };
    let mut loaded = match config::load_without_file(&overrides) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error.into()),
    };
    if let Err(error) = logging::start(&loaded.config.log) {
        return failed(&error);
    }
    for warning in translation.warnings.iter().chain(&loaded.warnings) {
        tracing::warn!("{warning}");
    }
    if translation.export.is_some() {
        // Data that an earlier process persisted may be old.
        loaded.config.data_dir = None;
    }
    settle_secret(&mut loaded.config, translation.export.is_none());
    match translation.export {
        None => {
            // Variables and flags of a process never change; the secret that was chosen above stays in effect.
            let config = loaded.config.clone();
            let load = move || {
                let mut loaded = config::load_without_file(&overrides)?;
                loaded.config = config.clone();
                Ok(loaded)
            };
            Box::pin(serve(Reload::new(loaded, None, load), signals, crate::process::failed)).await
        }
        Some(folder) => match Box::pin(generate(loaded.config, &folder)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
    }
}

/// Loads the configuration that flags of ff-proxy select, for `yardarm check` and `yardarm convert`.
///
/// # Errors
/// A message for the operator.
pub(super) fn load_by_flags(flags: &[String]) -> Result<Loaded, String> {
    let variables = variables();
    let translation = compat::translate(flags, &variables).map_err(|error| error.to_string())?;
    let overrides = Overrides { overrides: translation.overrides, ..Overrides::of_program(variables) };
    let mut loaded = config::load_without_file(&overrides).map_err(|error| error.to_string())?;
    loaded.warnings.splice(0..0, translation.warnings);
    Ok(loaded)
}

fn help() -> ExitCode {
    super::output(&compat::usage());
    ExitCode::SUCCESS
}

/// Prints texts of ff-proxy on lines of their own, so that scripts that search for them find them.
fn refuse(error: &CompatError) -> ExitCode {
    match error {
        CompatError::Usage(_) => {
            logging::print_error(&format!("{error}\n\n{}", compat::usage()));
            ExitCode::from(EXIT_USAGE)
        }
        CompatError::Missing(_) | CompatError::Refused(_) => {
            logging::print_error(&error.to_string());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Handles a missing secret. ff-proxy falls back to a public one; a generated one is safer, and better than no start.
fn settle_secret(config: &mut Config, matters: bool) {
    let has_data_dir = config.data_dir.is_some();
    let Some(side) = config.harness.as_mut().filter(|it| it.auth_secret.is_none()) else { return };
    let is_generated = side.is_offline() && !has_data_dir;
    if is_generated {
        side.auth_secret = Some(compat::generate_secret());
    }
    if !matters || side.bypass_auth {
        return;
    }
    if !side.is_offline() {
        tracing::warn!(
            "AUTH_SECRET is not set: tokens of SDKs are signed with secrets derived from the configured keys, and those that \
             ff-proxy signed with its default are refused. Set AUTH_SECRET to the secret of ff-proxy to keep them valid"
        );
    } else if is_generated {
        tracing::warn!(
            "AUTH_SECRET is not set, so one was generated: tokens of SDKs become invalid when this process ends, and no \
             other instance accepts them. Set AUTH_SECRET, or YARDARM_DATA_DIR to a folder in which one is persisted"
        );
    }
}

/// Returns the exit code of ff-proxy, which is the same for all errors.
fn failed(error: &anyhow::Error) -> ExitCode {
    logging::print_error(&format!("error: {error:#}"));
    ExitCode::from(EXIT_FAILURE)
}

/// Writes the files of the offline mode, once there is data for every key.
async fn generate(config: Config, folder: &Path) -> anyhow::Result<()> {
    let gateway = Gateway::start(config).await?;
    let written = write_when_complete(&gateway, folder).await;
    gateway.stop().await;
    written
}

async fn write_when_complete(gateway: &Gateway, folder: &Path) -> anyhow::Result<()> {
    let harness = gateway.harness().context("Harness is not configured")?;
    let deadline = Instant::now() + DATA_TIMEOUT;
    while let Err(incomplete) = harness.completeness() {
        if incomplete.is_final {
            bail!("offline files cannot be written: {incomplete}");
        }
        if Instant::now() >= deadline {
            bail!("offline files cannot be written within {} s: {incomplete}", DATA_TIMEOUT.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
    // There are few files, and the process serves no requests.
    tokio::task::block_in_place(|| harness.export(folder)).context("offline files cannot be written")?;
    tracing::info!(folder = %folder.display(), environments = harness.reports().len(), "offline files are written");
    Ok(())
}
