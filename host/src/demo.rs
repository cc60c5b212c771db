//! `yardarm demo`: the gateway against a fake LaunchDarkly and a fake Harness inside the process, with sample plugins.
//!
//! The clouds are those that the tests use. Everything listens on loopback, and nothing leaves the machine. `yardarm plugin
//! run` uses the same clouds, and the requests of `traffic`.

pub(crate) mod clouds;
mod harness;
pub(crate) mod http;
mod launchdarkly;
mod plugins;
mod tour;
pub(crate) mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use self::clouds::Clouds;
use crate::config::{self, Config, LogConfig, LogFormat, Overrides};
use crate::gateway::Gateway;
use crate::logging;
use crate::process::{Request, Signals, failed, stop};

/// Time between two changes of a flag.
const CHANGE_INTERVAL: Duration = Duration::from_secs(3);

/// Options of the demo.
#[derive(Debug)]
pub struct DemoOptions {
    /// Address for SDKs.
    pub listen: SocketAddr,
    /// Address of the page and the API.
    pub admin: SocketAddr,
    /// Folder for the plugins of the demo.
    pub plugins: PathBuf,
    /// Folder with built sample plugins.
    pub samples: PathBuf,
    /// Time after which the demo ends; `None` runs it until a signal.
    pub duration: Option<Duration>,
}

/// Runs the demo until a signal arrives or its duration is over.
pub async fn run(options: DemoOptions) -> ExitCode {
    match Box::pin(start(&options)).await {
        Err(error) => failed(&error.context("the demo could not be started")),
        Ok((gateway, clouds, mut signals)) => {
            let end = async {
                match options.duration {
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = clouds.keep_changing(CHANGE_INTERVAL) => (),
                () = until_end(&mut signals, &gateway) => (),
                () = end => (),
                error = gateway.failure() => tracing::error!(%error, "the demo ends"),
            }
            tour::print("\nending: streams first, then events, then the rest …");
            let code = stop(gateway, &mut signals).await;
            tour::print(if code == ExitCode::SUCCESS {
                "demo: OK, ended cleanly"
            } else {
                "demo: FAILED to end cleanly"
            });
            code
        }
    }
}

/// Handles SIGHUP. The demo has no configuration file, so only its plugin folder is scanned.
async fn until_end(signals: &mut Signals, gateway: &Gateway) {
    while signals.next().await != Request::End {
        gateway.rescan_plugins();
    }
}

async fn start(options: &DemoOptions) -> anyhow::Result<(Gateway, Clouds, Signals)> {
    let signals = Signals::new().context("signals cannot be received")?;
    // Life-cycle lines would hide the output of the demo, so only warnings and errors are logged.
    logging::start(&LogConfig {
        level: "warn".to_owned(),
        format: LogFormat::Text,
        requests: false,
        split_output: false,
    })?;
    tour::print("starting a fake LaunchDarkly and a fake Harness inside this process …");
    let clouds = Clouds::start("demo-harness").await;
    let found = plugins::prepare(&options.plugins, &options.samples)?;
    tour::print(&found.to_string());
    tour::print("starting the gateway (the first time, plugins are compiled) …");
    let gateway = Gateway::start(config(options, &clouds)?).await?;
    gateway.plugins_loaded().await;
    tour::check(&gateway, &clouds).await?;
    tour::invite(&gateway, &options.plugins, &found);
    Ok((gateway, clouds, signals))
}

fn config(options: &DemoOptions, clouds: &Clouds) -> anyhow::Result<Config> {
    let variables = [
        ("YARDARM_SERVER_LISTEN", free(options.listen).to_string()),
        ("YARDARM_ADMIN_LISTEN", free(options.admin).to_string()),
        ("YARDARM_DATA_DIR", options.plugins.join(".data").display().to_string()),
        ("YARDARM_PLUGINS_DIR", options.plugins.display().to_string()),
        ("YARDARM_PLUGINS_RECHECK_WINDOW", "1s".to_owned()),
        ("YARDARM_SHUTDOWN_DRAIN", "500ms".to_owned()),
    ];
    // Plugins of the demo can be controlled like those of any gateway.
    let token = std::env::var("YARDARM_ADMIN_TOKEN").ok().map(|token| ("YARDARM_ADMIN_TOKEN", token));
    let variables = clouds.settings("demo").into_iter().chain(variables).chain(token);
    let variables = variables.map(|(name, value)| (name.to_owned(), value)).collect();
    // A `yardarm.toml` in the working directory is not read.
    Ok(config::load_without_file(&Overrides::of_program(variables))?.config)
}

/// Returns the address, or the same address with a free port if it is in use.
fn free(address: SocketAddr) -> SocketAddr {
    match std::net::TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::new(address.ip(), 0),
    }
}
