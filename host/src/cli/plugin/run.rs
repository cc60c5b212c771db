//! `yardarm plugin run`: a gateway with fake clouds and fake SDKs that runs a plugin while its author changes it.

mod build;
mod calls;
mod event;
mod folder;
mod observer;
mod output;
mod project;
mod screen;
mod session;
mod sources;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::build::Build;
use self::event::RunEvent;
use self::output::Output;
use self::project::Project;
use self::session::Session;
use super::outcome::{Format, ToolError, ToolExit, print_failure};
use crate::logging;
use crate::process::Signals;

/// What is logged: all that the plugin logs, and problems of the gateway. Failed calls and refused files are events.
const LOGGED: &str = "warn,yardarm_wasm=error,yardarm::guest=trace";

/// Arguments of `plugin run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Starts a gateway on loopback with a fake LaunchDarkly and a fake Harness inside the process, loads the plugin, and \
    sends it the requests, streams, evaluations and events of fake SDKs; flags change every two seconds. When a source is \
    saved, the plugin is built, and the new version replaces the running one between two calls. A build that fails, and a version \
    that a gateway would refuse, leave the version before in place and are explained.\n\n\
    FOLDER is what `yardarm plugin new` has created, or any folder with a Makefile or a `build.sh` that writes NAME.wasm. With FILE \
    and no `--build`, the file is watched, whatever builds it. What `.gitignore` lists is not watched. NAME.toml beside \
    NAME.wasm is the binding file; without one, the plugin is bound to all its hooks, with no grants.\n\n\
    On a terminal, a table of calls is shown: for each hook the outcomes, the times within which half and 99 % of the calls ended, \
    memory, errors and log lines. Otherwise each event is a line, with --json a JSON object. Ctrl-C ends the command with 0. With \
    --for it ends with 0 if the newest version runs and none of its calls has failed, otherwise with 1.\n\n\
    Examples:\n  yardarm plugin new gate --lang rust --hook request-auth && yardarm plugin run gate\n  \
    yardarm plugin run gate.wasm --header 'x-token: change-me' --rate 50\n  \
    yardarm plugin run target/wasm32-wasip2/release/gate.wasm --sources . --build 'cargo build --release --target wasm32-wasip2'\n  \
    yardarm plugin run gate --for 10s --json"
)]
pub(super) struct RunArgs {
    /// The component, or the folder with the sources of the plugin
    #[arg(value_name = "FILE|FOLDER")]
    plugin: PathBuf,
    /// Command that builds the component, for a shell in the folder of the sources [default: `make` or `sh build.sh` in FOLDER]
    #[arg(long, value_name = "COMMAND")]
    build: Option<String>,
    /// Folder of the sources, where `--build` runs [default: FOLDER, or the folder of FILE]
    #[arg(long, value_name = "FOLDER", requires = "build")]
    sources: Option<PathBuf>,
    /// The binding file, whose name is then that of the plugin [default: NAME.toml beside NAME.wasm, if it is there]
    #[arg(long, value_name = "FILE")]
    binding: Option<PathBuf>,
    /// Folder with a file per secret, for `{ secret = "NAME" }` in the configuration
    #[arg(long, value_name = "FOLDER")]
    secrets: Option<PathBuf>,
    /// Name of the environments, which the patterns of a binding file must match
    #[arg(long, value_name = "NAME", default_value = "demo")]
    environment: String,
    /// Header of every request of the fake SDKs; can be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<String>,
    /// Requests of the fake SDKs per second; 0 sends none
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=1000))]
    rate: u32,
    /// Address for SDKs of your own
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Address of the page and the API
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    admin: SocketAddr,
    /// End after this time, such as `10s`
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

pub(super) async fn run(args: RunArgs, format: Format) -> ExitCode {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return refused(format, &ToolError::general(format!("signals cannot be received: {error}"))),
    };
    match prepared(&args, format, &mut signals).await {
        Ok(Some(session)) => Box::pin(session.run(signals)).await,
        // A signal came before anything was started.
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => refused(format, &error),
    }
}

/// Builds the plugin for the first time and starts what runs it; returns `None` if a signal came first.
async fn prepared(args: &RunArgs, format: Format, signals: &mut Signals) -> Result<Option<Session>, ToolError> {
    let project = Project::find(&args.plugin, args.build.as_deref(), args.sources.as_deref(), args.binding.as_deref())?;
    let (output, log_sink) = Output::new(format);
    logging::start_with(LOGGED, log_sink).map_err(|error| ToolError::general(error.to_string()))?;
    let start = async {
        if let Some(build) = project.build() {
            build_first(&build, &output).await?;
        }
        project.check()?;
        Session::start(args, project, output).await
    };
    tokio::select! {
        started = Box::pin(start) => started.map(Some),
        () = signals.end() => Ok(None),
    }
}

/// Builds what is to be run. Unlike later, a failure is an error, because there is nothing else to run.
async fn build_first(build: &Build, output: &Output) -> Result<(), ToolError> {
    output.emit(RunEvent::Building { command: build.command().to_owned() });
    let built = build.run().await;
    let failure = match &built {
        RunEvent::BuildFailed { reason, output } => Some(format!("{}\n{}", reason, output.trim_end())),
        _ => None,
    };
    match failure {
        Some(text) => Err(ToolError::general(format!("`{}` {}", build.command(), text.trim_end()))),
        None => {
            output.emit(built);
            Ok(())
        }
    }
}

fn refused(format: Format, error: &ToolError) -> ExitCode {
    print_failure(format, error);
    ToolExit::Refused.into()
}

/// Checks a header and returns it as a line.
fn parse_header(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once(':').ok_or("a header has a name, a colon and a value")?;
    let name: http::HeaderName = name.trim().parse().map_err(|_| "this is not the name of a header")?;
    let value: http::HeaderValue = value.trim().parse().map_err(|_| "this is not the value of a header")?;
    Ok(format!("{name}: {}", value.to_str().map_err(|_| "the value has characters that are not ASCII")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_whole_lines() {
        assert_eq!(parse_header("X-Token:  abc ").unwrap(), "x-token: abc");
        for text in ["x-token", "x token: a", "a: b\r\nc: d"] {
            assert!(parse_header(text).is_err(), "{text}");
        }
    }
}
