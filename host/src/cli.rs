//! Commands and their arguments.

mod admin_client;
mod check;
mod convert;
mod ff_proxy;
mod health;
mod ld_relay;
mod plugin;
mod reload;
mod run;
mod watched_file;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Overrides};
#[cfg(feature = "demo")]
use crate::demo::{self, DemoOptions};
use crate::exit::Exit;

/// A feature-flag relay gateway that you extend with WebAssembly plugins.
///
/// Keeps flag data in sync from LaunchDarkly and Harness and serves it to unmodified SDKs. Without a command it runs
/// the gateway.
#[derive(Debug, Parser)]
#[command(name = "yardarm", version, about, long_about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway; the default command
    Run(RunArgs),
    /// Run the gateway against a fake LaunchDarkly and a fake Harness inside the process; needs no account and no
    /// network
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Check the configuration and every plugin without starting
    Check(CheckArgs),
    /// Print the JSON Schema of the configuration file, for editors and other tools
    Schema,
    /// Write, check, test and measure plugins, and control those of a running gateway
    Plugin(plugin::PluginArgs),
    /// Check whether a running gateway is alive; for container probes
    Health(HealthArgs),
    /// Compile a plugin for a running gateway, which starts this command
    #[command(name = yardarm_wasm::COMPILER_COMMAND, hide = true)]
    PluginCompiler,
    /// Run the gateway with the flags, file and variables of LaunchDarkly's ld-relay, unchanged
    #[command(disable_help_flag = true)]
    LdRelay(ForeignArgs),
    /// Write the settings of another relay as a configuration file of this program
    Convert(ConvertArgs),
    /// Run the gateway with the flags and variables of Harness' ff-proxy, unchanged
    #[command(disable_help_flag = true)]
    FfProxy(ForeignArgs),
}

/// Program names of other relays in container images, and the command that each one selects.
const NAMES: &[(&str, &str)] = &[("ff-proxy", "ff-proxy"), ("ld-relay", "ld-relay"), ("ldr", "ld-relay")];

/// Relays whose configuration can be checked and converted.
const RELAYS: &[&str] = &["ld-relay", "ff-proxy"];

/// Arguments of `run`.
#[derive(Debug, Args, Default)]
pub struct RunArgs {
    /// Configuration file [default: yardarm.toml in this folder, if there is one]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address for SDKs; overrides `server.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Address of the admin listener; overrides `admin.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
struct DemoArgs {
    /// Address for SDKs; another port is used if this one is taken
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8030")]
    listen: SocketAddr,
    /// Address of the page and the API; another port is used if this one is taken
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8040")]
    admin: SocketAddr,
    /// Plugin folder of the demo; edit the files in it to see the effect
    #[arg(long, value_name = "FOLDER", default_value = "demo-plugins")]
    plugins: PathBuf,
    /// Folder with built sample plugins
    #[arg(long, value_name = "FOLDER", default_value = "plugins")]
    samples: PathBuf,
    /// End after this time, such as `10s`
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<std::time::Duration>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Configuration file [default: yardarm.toml in this folder, if there is one]
    #[arg(long, short, value_name = "FILE", conflicts_with = "relay")]
    config: Option<PathBuf>,
    /// Check the configuration of another relay instead: `ld-relay` or `ff-proxy`, and its flags. Options of this command
    /// come first
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "RELAY FLAGS")]
    relay: Vec<String>,
    /// Print every effective value with its source; secrets as ***
    #[arg(long)]
    print_effective: bool,
    /// Print the result as one JSON document, with the plugin folder as `/api/plugins` shows it
    #[arg(long, conflicts_with = "print_effective")]
    json: bool,
}

#[derive(Debug, Args)]
struct HealthArgs {
    /// Check whether the gateway is ready for SDKs, not only whether it is alive
    #[arg(long)]
    ready: bool,
    /// Admin listener of the gateway [default: YARDARM_ADMIN_LISTEN, or 127.0.0.1:8040]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct ConvertArgs {
    /// The relay whose configuration is read, `ld-relay` or `ff-proxy`, and its flags, such as `ld-relay --config FILE
    /// --from-env`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "RELAY FLAGS")]
    relay: Vec<String>,
}

/// Loads the configuration of another relay: its name, and the flags that select the configuration.
fn load_of_relay(relay: &[String]) -> Result<config::Loaded, config::ConfigError> {
    let (name, flags) = relay.split_first().map_or(("", &[][..]), |(name, flags)| (name.as_str(), flags));
    let loaded = match name {
        "ff-proxy" => ff_proxy::load_by_flags(flags),
        _ => ld_relay::load_by_flags(flags),
    };
    loaded.map_err(config::ConfigError::Foreign)
}

/// Arguments in the syntax of another program, which a separate parser reads.
#[derive(Debug, Args)]
struct ForeignArgs {
    /// Flags of that relay; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

impl Cli {
    /// Parses a command line that begins with the program name.
    ///
    /// # Errors
    /// The exit code if no command runs: help, the version, or the error of the command line was printed.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let is_tool = arguments.get(1).is_some_and(|command| command == "plugin");
        Self::try_parse_from(with_command(arguments)).and_then(Self::with_known_relay).map_err(|error| {
            // An output that cannot be written cannot be reported either.
            let _ = error.print();
            match error.use_stderr() {
                false => ExitCode::SUCCESS,
                true if is_tool => plugin::ToolExit::Usage.into(),
                true => Exit::Usage.into(),
            }
        })
    }

    /// Refuses a relay that is not known, or an unknown option in its place.
    fn with_known_relay(self) -> Result<Self, clap::Error> {
        let relay = match &self.command {
            Some(Command::Check(args)) => args.relay.first(),
            Some(Command::Convert(args)) => args.relay.first(),
            _ => None,
        };
        match relay.filter(|it| !RELAYS.contains(&it.as_str())) {
            None => Ok(self),
            Some(other) => {
                let expected = RELAYS.join("` or `");
                let text = format!("`{other}` is neither an option of this command nor one of `{expected}`\n");
                Err(clap::Error::raw(clap::error::ErrorKind::InvalidValue, text))
            }
        }
    }

    /// Runs a command that needs no runtime; returns `None` for all others. The process must end at once afterwards.
    #[must_use]
    pub fn run_without_runtime(&self) -> Option<ExitCode> {
        matches!(self.command, Some(Command::PluginCompiler)).then(yardarm_wasm::run_compiler)
    }

    /// Runs the command to its end.
    pub async fn run(self) -> ExitCode {
        match self.command.unwrap_or(Command::Run(self.run)) {
            Command::Run(args) => run::run(args.config.as_deref(), &args.overrides()).await,
            #[cfg(feature = "demo")]
            Command::Demo(args) => Box::pin(demo::run(args.into())).await,
            Command::Check(args) => {
                check::check(args.config.as_deref(), &args.relay, args.print_effective, args.json).await
            }
            Command::Schema => {
                output(&config::schema());
                ExitCode::SUCCESS
            }
            Command::PluginCompiler => yardarm_wasm::run_compiler(),
            Command::Plugin(args) => args.run().await,
            Command::Health(args) => health::health(args.admin, args.ready).await,
            Command::LdRelay(args) => ld_relay::ld_relay(&args.flags).await,
            Command::Convert(args) => convert::convert(&args.relay),
            Command::FfProxy(args) => ff_proxy::ff_proxy(&args.flags).await,
        }
    }
}

/// Writes the output of a command. A closed reader, such as `head`, is not an error.
fn output(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

/// Returns all environment variables whose values are UTF-8. Other values are ignored, except under the prefix
/// `YARDARM_`, where they are kept and rejected later.
fn variables() -> Vec<(String, String)> {
    let text = |it: OsString, is_ours: bool| match it.into_string() {
        Err(raw) if is_ours => Some(raw.to_string_lossy().into_owned()),
        text => text.ok(),
    };
    let pairs = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let is_ours = name.starts_with("YARDARM_");
        Some((name, text(value, is_ours)?))
    });
    pairs.collect()
}

/// Inserts the command that the program name stands for, if it is the name of another relay.
fn with_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|it| Path::new(it).file_name()?.to_str());
    if let Some((_, command)) = NAMES.iter().find(|it| Some(it.0) == name) {
        arguments.insert(1, command.into());
    }
    arguments
}

impl RunArgs {
    fn overrides(&self) -> Overrides {
        let listen = self.listen.map(|it| ("server.listen", "--listen", it.to_string()));
        let admin = self.admin.map(|it| ("admin.listen", "--admin", it.to_string()));
        let arguments = listen.into_iter().chain(admin).collect();
        Overrides { arguments, ..Overrides::of_program(variables()) }
    }
}

#[cfg(feature = "demo")]
impl From<DemoArgs> for DemoOptions {
    fn from(args: DemoArgs) -> Self {
        Self {
            listen: args.listen,
            admin: args.admin,
            plugins: args.plugins,
            samples: args.samples,
            duration: args.duration,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_arguments_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_means_run() {
        let cli = Cli::parse_from(["yardarm", "--config", "x.toml"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.run.config, Some(PathBuf::from("x.toml")));
    }

    #[test]
    fn the_program_name_selects_a_command_that_parses_its_own_arguments() {
        for line in [
            &["/app/ff-proxy", "--port=1", "-offline", "--help", "--config", "x"][..],
            &["yardarm", "ff-proxy", "--port=1", "-offline", "--help", "--config", "x"],
        ] {
            let cli = Cli::read(line.iter().map(OsString::from)).unwrap();
            let Some(Command::FfProxy(args)) = cli.command else { panic!("{:?}", cli.command) };
            assert_eq!(args.flags, ["--port=1", "-offline", "--help", "--config", "x"]);
        }
        assert!(Cli::read(["ff-proxy.old".into(), "run".into()]).unwrap().command.is_some());
    }
}
