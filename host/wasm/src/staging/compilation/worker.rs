//! The compiler process: limits itself, compiles one component, and ends.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use yardarm_core::Supervisor;
use yardarm_core::workers::processors;

use super::protocol::{Job, LARGEST_JOB, REPORTED, Report};
use super::threads::{CompilerThreads, URGENT_AFTER};
use crate::runtime::engine;

/// Time for which an urgent compilation has the priority of the threads that serve.
const URGENT_FOR: Duration = Duration::from_secs(10);
/// Open files and pipes of a compiler.
const MOST_FILES: u64 = 64;
/// Seconds between the signal that ends a process at its limit of processor time, and the one that cannot be handled.
const GRACE: u64 = 5;

enum Event {
    Compiled(Result<Vec<u8>, Report>),
    /// The host has ended, or given up the compilation.
    HostGone,
}

/// Runs this process as the compiler of a plugin host (see [`Compiler::Child`](crate::Compiler::Child)): compiles one
/// component from the standard input to the standard output, within limits that the host sends.
///
/// Blocks until the end, after which the process must end at once: threads may still be running.
#[must_use]
pub fn run_compiler() -> ExitCode {
    match read_job().and_then(|job| compile(&job)) {
        Ok(Some(code)) => {
            let mut output = io::stdout().lock();
            // A host that has gone needs no code.
            let written = output.write_all(&code).and_then(|()| output.flush());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => ExitCode::FAILURE,
        Err(report) => {
            let line = serde_json::to_string(&report).unwrap_or_default();
            // There is no other place for a report.
            let _ = writeln!(io::stderr(), "{line}");
            ExitCode::from(REPORTED)
        }
    }
}

fn read_job() -> Result<Job, Report> {
    let mut size = [0; 4];
    let mut input = io::stdin().lock();
    input.read_exact(&mut size).map_err(unavailable)?;
    let size = u32::from_be_bytes(size) as usize;
    if size > LARGEST_JOB {
        return Err(Report::Unavailable("started by hand; only a plugin host can use this command".to_owned()));
    }
    let mut job = vec![0; size];
    input.read_exact(&mut job).map_err(unavailable)?;
    serde_json::from_slice(&job).map_err(unavailable)
}

/// Returns the code; `None` if the host has gone.
fn compile(job: &Job) -> Result<Option<Vec<u8>>, Report> {
    confine(job).map_err(unavailable)?;
    let mut component = vec![0; job.size];
    io::stdin().lock().read_exact(&mut component).map_err(unavailable)?;
    let threads = CompilerThreads::start(processors()).map_err(unavailable)?;
    let (events, received) = channel();
    watch_host(events.clone()).map_err(unavailable)?;
    let kind = job.kind;
    threads.spawn(move || {
        let compiled = Supervisor::global().catch("plugin compiler", None, || {
            let engine = engine::on_demand(kind, false).map_err(unavailable)?;
            engine.precompile_component(&component).map_err(|error| Report::Invalid(format!("{error:#}")))
        });
        let compiled = compiled.unwrap_or_else(|error| Err(Report::Panicked(error.location.to_string())));
        // The receiver waits until the process ends.
        let _ = events.send(Event::Compiled(compiled));
    });
    match wait(&threads, &received, job.is_urgent) {
        Some(Event::Compiled(compiled)) => compiled.map(Some),
        Some(Event::HostGone) | None => Ok(None),
    }
}

/// Waits for the end, and has an urgent compilation leave idle priority for a while.
fn wait(threads: &CompilerThreads, events: &Receiver<Event>, is_urgent: bool) -> Option<Event> {
    if is_urgent {
        match events.recv_timeout(URGENT_AFTER) {
            Err(RecvTimeoutError::Timeout) => threads.set_urgent(true),
            event => return event.ok(),
        }
        match events.recv_timeout(URGENT_FOR) {
            Err(RecvTimeoutError::Timeout) => threads.set_urgent(false),
            event => return event.ok(),
        }
    }
    events.recv().ok()
}

/// Watches for the end of the standard input, which stays open as long as the host waits.
///
/// The death signal of Linux would be sent when the *thread* that started this process ends, which is a thread of a pool.
fn watch_host(events: Sender<Event>) -> io::Result<()> {
    let watch = move || {
        let _ = io::stdin().lock().read(&mut [0]);
        let _ = events.send(Event::HostGone);
    };
    Supervisor::global().thread("compiler input", "yardarm-host", watch).map(drop)
}

/// Gives up what a compiler does not need.
fn confine(job: &Job) -> io::Result<()> {
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, MOST_FILES, MOST_FILES)?;
    // Counts what can be written to, and no address space that is only reserved.
    limit(Resource::Data, job.memory, job.memory)?;
    limit(Resource::Cpu, job.processor, job.processor + GRACE)?;
    #[cfg(target_os = "linux")]
    {
        rustix::thread::set_no_new_privs(true)?;
        rustix::thread::set_name(c"yardarm-compile")?;
        // If the machine runs out of memory, this process goes, and not the gateway. Optional: procfs may be read-only.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
    Ok(())
}

/// Sets the limits of a resource, unless they are lower.
fn limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let before = rustix::process::getrlimit(resource);
    let lower = |wanted: u64, limit: Option<u64>| Some(limit.map_or(wanted, |limit| limit.min(wanted)));
    let maximum = lower(maximum, before.maximum);
    let current = lower(current, before.current.or(maximum));
    Ok(setrlimit(resource, Rlimit { current, maximum })?)
}

fn unavailable(error: impl std::fmt::Display) -> Report {
    Report::Unavailable(error.to_string())
}
