//! `yardarm plugin`: the tools of plugin authors. None of them needs a running gateway.

mod bench;
mod cases_file;
mod check;
mod diff;
mod inspect;
mod new;
mod outcome;
mod pack;
mod table;
mod test;
mod wit;

use std::process::ExitCode;

use clap::{Args, Subcommand};

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
    /// Show what a component is and wants, without compiling or running it
    Inspect(inspect::InspectArgs),
    /// Check everything that a gateway checks when it loads a plugin
    Check(check::CheckArgs),
    /// Put a manifest into a component
    Pack(pack::PackArgs),
    /// Run the cases of a plugin and print the differences
    Test(test::TestArgs),
    /// Measure time, memory and instructions of the calls in the cases
    Bench(bench::BenchArgs),
    /// Compare two versions of a plugin: what they want, and what they reply
    Diff(diff::DiffArgs),
}

impl PluginArgs {
    /// Runs the command. Its exit code is 0 if everything is fine, 1 if something was refused or failed; 2 stands for an
    /// invalid command line.
    pub(super) async fn run(self) -> ExitCode {
        let format = if self.json { Format::Json } else { Format::Text };
        match self.command {
            PluginCommand::New(args) => new::run(args, format).await,
            PluginCommand::Wit(args) => wit::run(args, format).await,
            PluginCommand::Inspect(args) => inspect::run(args, format).await,
            PluginCommand::Check(args) => check::run(args, format).await,
            PluginCommand::Pack(args) => pack::run(args, format).await,
            PluginCommand::Test(args) => test::run(args, format).await,
            PluginCommand::Bench(args) => bench::run(args, format).await,
            PluginCommand::Diff(args) => diff::run(args, format).await,
        }
    }
}
