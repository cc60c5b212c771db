//! `yardarm plugin`: the tools of plugin authors, which need no gateway, and the control of plugins in a running one.

mod bench;
mod captures;
mod cases_file;
mod check;
mod control;
mod diff;
mod explain;
mod gateway;
mod inspect;
mod list;
mod new;
mod order;
mod outcome;
mod pack;
#[cfg(feature = "registry")]
mod pull;
mod replay;
#[cfg(feature = "demo")]
mod run;
mod schema;
mod sign;
mod table;
mod test;
mod wit;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use yardarm_wasm::PluginAction;

use self::outcome::Format;
pub(super) use self::outcome::ToolExit;

/// Arguments of `plugin`.
#[derive(Debug, Args)]
pub(super) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Create a plugin to start from, in the language of your choice
    New(new::NewArgs),
    /// Print the interface of plugins, or write it where toolchains look for it
    Wit(wit::WitArgs),
    /// Print the JSON Schema of binding files, for editors
    Schema,
    /// Show what a component is and wants, without compiling or running it
    Inspect(inspect::InspectArgs),
    /// Check everything that a gateway checks when it loads a plugin
    Check(check::CheckArgs),
    /// Put a manifest into a component
    Pack(pack::PackArgs),
    /// Run the cases of a plugin and print the differences
    Test(test::TestArgs),
    /// Run a plugin in a gateway with fake clouds and fake SDKs; build and swap it whenever a source is saved
    #[cfg(feature = "demo")]
    Run(run::RunArgs),
    /// Measure time, memory and instructions of the calls in the cases
    Bench(bench::BenchArgs),
    /// Compare two versions of a plugin: what they want, and what they reply
    Diff(diff::DiffArgs),
    /// Fetch a component from an OCI registry into a folder, by digest
    #[cfg(feature = "registry")]
    Pull(pull::PullArgs),
    /// Create a key that signs plugins
    Keygen(sign::KeygenArgs),
    /// Sign a component
    Sign(sign::SignArgs),
    /// Check the signature of a component
    Verify(sign::VerifyArgs),
    /// List the plugins of a running gateway: state, version, hooks, and why one is not used
    List(list::ListArgs),
    /// Show in which order a running gateway calls plugins, by environment and hook
    Order(order::OrderArgs),
    /// Show which plugins decided about a request, how, and how long it took
    Explain(explain::ExplainArgs),
    /// Print the failed calls that a running gateway has kept
    Captures(captures::CapturesArgs),
    /// Repeat calls that failed in a gateway
    Replay(replay::ReplayArgs),
    /// Return to the version before the running one, whose files are then in quarantine
    Rollback(control::ControlArgs),
    /// Keep the running version, whatever becomes of its files
    Pin(control::ControlArgs),
    /// Let newer files replace the running version again
    Unpin(control::ControlArgs),
    /// End the probation of the running version, and keep it
    Promote(control::ControlArgs),
    /// Take a plugin out of service, its required hooks included, until it is reinstated
    Retire(control::ControlArgs),
    /// Load the files of a retired plugin again
    Reinstate(control::ControlArgs),
    /// Release the files of a plugin from quarantine
    Clear(control::ControlArgs),
}

impl PluginArgs {
    /// Runs the command. Its exit code is 0 if everything is fine, 1 if something was refused or failed; 2 stands for an
    /// invalid command line.
    pub(super) async fn run(self) -> ExitCode {
        let format = if self.json { Format::Json } else { Format::Text };
        match self.command {
            PluginCommand::New(args) => new::run(args, format).await,
            PluginCommand::Wit(args) => wit::run(args, format).await,
            PluginCommand::Schema => schema::run(format).await,
            PluginCommand::Inspect(args) => inspect::run(args, format).await,
            PluginCommand::Check(args) => check::run(args, format).await,
            PluginCommand::Pack(args) => pack::run(args, format).await,
            PluginCommand::Test(args) => test::run(args, format).await,
            #[cfg(feature = "demo")]
            PluginCommand::Run(args) => Box::pin(run::run(args, format)).await,
            PluginCommand::Bench(args) => bench::run(args, format).await,
            PluginCommand::Diff(args) => diff::run(args, format).await,
            #[cfg(feature = "registry")]
            PluginCommand::Pull(args) => pull::run(args, format).await,
            PluginCommand::Keygen(args) => sign::keygen(args, format).await,
            PluginCommand::Sign(args) => sign::sign(args, format).await,
            PluginCommand::Verify(args) => sign::verify(args, format).await,
            PluginCommand::List(args) => list::run(args, format).await,
            PluginCommand::Order(args) => order::run(args, format).await,
            PluginCommand::Explain(args) => explain::run(args, format).await,
            PluginCommand::Captures(args) => captures::run(args, format).await,
            PluginCommand::Replay(args) => replay::run(args, format).await,
            PluginCommand::Rollback(args) => control::run(PluginAction::Rollback, args, format).await,
            PluginCommand::Pin(args) => control::run(PluginAction::Pin, args, format).await,
            PluginCommand::Unpin(args) => control::run(PluginAction::Unpin, args, format).await,
            PluginCommand::Promote(args) => control::run(PluginAction::Promote, args, format).await,
            PluginCommand::Retire(args) => control::run(PluginAction::Retire, args, format).await,
            PluginCommand::Reinstate(args) => control::run(PluginAction::Reinstate, args, format).await,
            PluginCommand::Clear(args) => control::run(PluginAction::Clear, args, format).await,
        }
    }
}
