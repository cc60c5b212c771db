//! The host's side of a compiler process: starts it, feeds it, and finds out how it ended.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Failure;
use super::protocol::{Job, REPORTED, Report};
use crate::staging::cache::LARGEST_ENTRY;
use crate::vocabulary::{CompileStop, clean};

/// Maximum size of what a compiler may write to its standard error.
const LONGEST_REPORT: u64 = 64 << 10;
/// What the standard library writes when memory cannot be allocated, before it aborts the process.
const OUT_OF_MEMORY: &str = "memory allocation of";
/// Signals by which people and supervisors end processes; they say nothing about the component.
const ENDED_BY_HAND: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// What a compiler has written until its end.
struct Output {
    code: Vec<u8>,
    errors: Vec<u8>,
    status: ExitStatus,
}

/// Compiles a component in a child process; returns its code. The process is killed when the future is dropped.
pub(super) async fn compile(
    program: &Path,
    arguments: &[OsString],
    job: &Job,
    component: &[u8],
) -> Result<Vec<u8>, Failure> {
    let unavailable = |error: io::Error| Failure::Unavailable(format!("`{}`: {error}", program.display()));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").kill_on_drop(true);
    // A program name that selects no command; a process group, so that Ctrl-C in a terminal does not look like a crash.
    command.arg0("yardarm").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(unavailable)?;
    match tokio::time::timeout(Duration::from_secs(job.time), talk(&mut child, job, component)).await {
        Ok(Ok(output)) => verdict(output, job),
        Ok(Err(error)) => Err(unavailable(error)),
        Err(_) => {
            child.kill().await.map_err(unavailable)?;
            Err(Failure::Stopped(CompileStop::Deadline { seconds: job.time }))
        }
    }
}

/// Feeds the compiler, and reads what it writes until it ends.
async fn talk(child: &mut Child, job: &Job, component: &[u8]) -> io::Result<Output> {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut input), Some(output), Some(errors)) = pipes else {
        return Err(io::Error::other("no standard streams"));
    };
    let feed = async {
        let job = serde_json::to_vec(job)?;
        input.write_all(&u32::try_from(job.len()).unwrap_or(u32::MAX).to_be_bytes()).await?;
        input.write_all(&job).await?;
        input.write_all(component).await?;
        input.flush().await
    };
    let (fed, code, errors) = tokio::join!(feed, read(output, LARGEST_ENTRY), read(errors, LONGEST_REPORT));
    let output = Output { code: code?, errors: errors?, status: child.wait().await? };
    // Until here, the compiler could notice the end of the host.
    drop(input);
    // A compiler that ends early does not read everything; its status has the reason.
    if output.status.success() { fed.map(|()| output) } else { Ok(output) }
}

/// Reads to the end, of which the first `limit` bytes are returned.
async fn read(pipe: impl AsyncRead + Unpin, limit: u64) -> io::Result<Vec<u8>> {
    let (mut bytes, mut pipe) = (Vec::new(), pipe);
    (&mut pipe).take(limit).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(bytes)
}

/// Returns the code, or why there is none.
fn verdict(Output { code, errors, status }: Output, job: &Job) -> Result<Vec<u8>, Failure> {
    let errors = String::from_utf8_lossy(&errors);
    let last_line = clean(errors.lines().next_back().unwrap_or_default());
    let stopped = |stop| Err(Failure::Stopped(stop));
    if let Some(number) = status.signal() {
        let is = |signal: Signal| signal.as_raw() == number;
        return if is(Signal::XCPU) {
            stopped(CompileStop::Processor { seconds: job.processor })
        } else if is(Signal::KILL) {
            stopped(CompileStop::Killed)
        } else if is(Signal::ABORT) && errors.contains(OUT_OF_MEMORY) {
            stopped(CompileStop::Memory { limit: job.memory })
        } else if ENDED_BY_HAND.into_iter().any(is) {
            Err(Failure::Unavailable(format!("it was ended by signal {number}")))
        } else {
            stopped(CompileStop::Crashed { how: format!("signal {number} {last_line}").trim_end().to_owned() })
        };
    }
    match status.code() {
        Some(0) if !code.is_empty() => Ok(code),
        Some(reported) if reported == i32::from(REPORTED) => match serde_json::from_str::<Report>(&last_line) {
            Ok(report) => Err(report.into()),
            Err(_) => Err(Failure::Unavailable(format!("it failed: {last_line}"))),
        },
        _ => Err(Failure::Unavailable(format!("{status}, {} bytes of code: {last_line}", code.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::engine::EngineKind;

    fn ended(status: i32, code: &str, errors: &str) -> Result<Vec<u8>, Failure> {
        let job = Job { size: 1, kind: EngineKind::Plain, memory: 64, processor: 7, time: 9, is_urgent: false };
        let status = ExitStatus::from_raw(status);
        verdict(Output { code: code.into(), errors: errors.into(), status }, &job)
    }

    #[test]
    fn the_end_of_a_compiler_is_blamed_on_the_component_or_on_the_machine() {
        let stopped = |stop| Err(Failure::Stopped(stop));
        let exit = |code: i32| code << 8;
        let abort = Signal::ABORT.as_raw();
        assert_eq!(ended(exit(0), "code", "note"), Ok(b"code".to_vec()));
        assert_eq!(ended(Signal::XCPU.as_raw(), "", ""), stopped(CompileStop::Processor { seconds: 7 }));
        assert_eq!(ended(Signal::KILL.as_raw(), "", ""), stopped(CompileStop::Killed));
        let full = ended(abort, "", "memory allocation of 99 bytes failed\n");
        assert_eq!(full, stopped(CompileStop::Memory { limit: 64 }));
        let how = "signal 6 thread x has overflowed its stack".to_owned();
        assert_eq!(ended(abort, "", "thread x has overflowed its stack"), stopped(CompileStop::Crashed { how }));
        let how = format!("signal {}", Signal::SEGV.as_raw());
        assert_eq!(ended(Signal::SEGV.as_raw(), "half", ""), stopped(CompileStop::Crashed { how }));
        let report = serde_json::to_string(&Report::Invalid("bad".to_owned())).unwrap();
        assert_eq!(ended(exit(1), "", &format!("a note\n{report}\n")), Err(Failure::Invalid("bad".to_owned())));
        let report = serde_json::to_string(&Report::Panicked("isel.rs:7".to_owned())).unwrap();
        let how = "internal error (panic) at isel.rs:7".to_owned();
        assert_eq!(ended(exit(1), "", &report), stopped(CompileStop::Crashed { how }));
        for (status, errors) in [(exit(0), ""), (exit(1), "junk"), (exit(64), "usage"), (Signal::TERM.as_raw(), "")] {
            assert!(matches!(ended(status, "", errors), Err(Failure::Unavailable(_))), "{status} {errors}");
        }
    }
}
