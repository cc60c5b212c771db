//! The program: parses arguments, runs a command, and returns an exit code.

mod allocator;

use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;
use yardarm::cli::Cli;
use yardarm::logging;
use yardarm_core::workers::processors;
use yardarm_core::{Supervisor, supervisor};

/// An error in the program itself (`EX_SOFTWARE` of `sysexits.h`).
const EXIT_INTERNAL: u8 = 70;
/// Serving threads beyond one per processor. While the others copy long bodies, a spare thread polls sockets, so that
/// short requests are served, and the kernel shares the processors fairly between all threads.
const SPARE_THREADS: usize = 2;
/// Longest time that the exit waits for blocking threads, such as one on a file system that does not respond.
const BLOCKED: Duration = Duration::from_secs(1);

/// `EX_OSERR` of sysexits(3).
const EXIT_OS_ERROR: u8 = 71;

fn main() -> ExitCode {
    allocator::return_large_allocations();
    supervisor::install_panic_hook();
    #[cfg(debug_assertions)]
    arm_faults();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    if let Some(code) = cli.run_without_runtime() {
        return code;
    }
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
fn arm_faults() {
    for task in std::env::var("FAULTS_FOR_TESTS").unwrap_or_default().split(',').filter(|it| !it.is_empty()) {
        Supervisor::global().faults().arm(task);
    }
}
