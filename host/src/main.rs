//! The program: arguments, then one of its commands, then an exit code.

use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;
use yardarm::cli::Cli;
use yardarm::logging;
use yardarm_core::workers::processors;
use yardarm_core::{Supervisor, supervisor};

/// An error in the program itself (`EX_SOFTWARE` of `sysexits.h`).
const EXIT_INTERNAL: u8 = 70;
/// Serving threads beyond one per processor. While the others pass on long bodies, one of these waits for sockets, so that
/// the short requests of everybody else are seen, and the kernel shares the processors fairly among all.
const SPARE_THREADS: usize = 2;
/// A thread that waits for a file system that does not answer must not keep the process for longer.
const BLOCKED: Duration = Duration::from_secs(1);

/// `EX_OSERR` of sysexits(3).
const EXIT_OS_ERROR: u8 = 71;

fn main() -> ExitCode {
    supervisor::install_panic_hook();
    #[cfg(debug_assertions)]
    panic_on_purpose();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            logging::print_error(&format!("error: threads cannot be started: {error}"));
            return ExitCode::from(EXIT_OS_ERROR);
        }
    };
    let ended = Supervisor::global().catch("main", None, || runtime.block_on(cli.run()));
    runtime.shutdown_timeout(BLOCKED);
    logging::flush();
    ended.unwrap_or(ExitCode::from(EXIT_INTERNAL))
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(processors() + SPARE_THREADS).enable_all().build()
}

/// Lets tests of the whole program make a task of the process panic. Only in builds with debug assertions.
#[cfg(debug_assertions)]
fn panic_on_purpose() {
    for task in std::env::var("FAULTS_FOR_TESTS").unwrap_or_default().split(',').filter(|it| !it.is_empty()) {
        Supervisor::global().faults().arm(task);
    }
}
