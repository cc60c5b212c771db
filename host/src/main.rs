//! The program: arguments, then one of its commands, then an exit code.

use std::process::ExitCode;

use yardarm::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(cli.run())
}
