//! The program: arguments, then one of its commands, then an exit code.

use std::process::ExitCode;
use std::time::Duration;

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
    let code = runtime.block_on(cli.run());
    // A thread that waits for a file system that does not answer must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}
