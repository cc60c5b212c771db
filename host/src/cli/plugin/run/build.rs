//! The command that builds the plugin.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::event::RunEvent;

/// Most bytes of output that are kept, the last ones.
const MOST_OUTPUT: usize = 64 << 10;
/// Longest wait for the end of the output after the command has ended, because a process that it has left behind, such as a
/// server of a compiler, can keep it open.
const REST_OF_OUTPUT: Duration = Duration::from_millis(500);

/// A build command and the folder in which it runs.
pub(super) struct Build {
    command: String,
    folder: PathBuf,
}

/// The processes of a command that runs; they are killed if it is dropped before they end.
struct Running(Option<Pid>);

impl Build {
    pub(super) fn new(command: &str, folder: &Path) -> Self {
        Self { command: command.to_owned(), folder: folder.to_owned() }
    }

    /// Returns the command as it was given.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// Runs the command to its end; returns what is to be reported of it. The processes of a call that is dropped are killed.
    pub(super) async fn run(&self) -> RunEvent {
        let start = Instant::now();
        let failed = |reason: String, output: Vec<u8>| RunEvent::BuildFailed {
            reason,
            output: String::from_utf8_lossy(&output).into_owned(),
        };
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return failed(format!("cannot be started: {error}"), Vec::new()),
        };
        let mut running = Running(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let mut kept = Vec::new();
        let status = match child.stdout.take() {
            Some(output) => wait(&mut child, output, &mut kept).await,
            None => child.wait().await,
        };
        running.0 = None;
        match status {
            Ok(status) if status.success() => {
                RunEvent::Built { ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX) }
            }
            Ok(status) => match status.code() {
                Some(code) => failed(format!("has failed with exit code {code}"), kept),
                None => failed("was ended by a signal".to_owned(), kept),
            },
            Err(error) => failed(format!("cannot be waited for: {error}"), kept),
        }
    }

    /// Starts the command with both of its outputs in one pipe, and with this program as `YARDARM` of Makefiles.
    fn spawn(&self) -> std::io::Result<Child> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("yardarm"));
        Command::new("/bin/sh")
            .args(["-c", "exec 2>&1; eval \"$1\"", "sh", &self.command])
            .env("YARDARM", program)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Waits for the end of the command and keeps the end of its output.
async fn wait(
    child: &mut Child,
    mut output: impl AsyncRead + Unpin,
    kept: &mut Vec<u8>,
) -> std::io::Result<std::process::ExitStatus> {
    let mut buffer = vec![0; 8 << 10];
    let mut status = None;
    loop {
        let read = output.read(&mut buffer);
        let read = match status {
            None => tokio::select! {
                read = read => read,
                ended = child.wait() => {
                    status = Some(ended?);
                    continue;
                }
            },
            Some(_) => timeout(REST_OF_OUTPUT, read).await.unwrap_or(Ok(0)),
        };
        match read {
            Ok(count @ 1..) => kept.extend_from_slice(&buffer[..count]),
            // The end of the output, which may come before that of the command.
            _ => break,
        }
        if kept.len() > MOST_OUTPUT {
            kept.drain(..kept.len() - MOST_OUTPUT);
        }
    }
    match status {
        Some(status) => Ok(status),
        None => child.wait().await,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // They may have ended by themselves.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(command: &str) -> RunEvent {
        Build::new(command, Path::new("/")).run().await
    }

    #[tokio::test]
    async fn output_and_exit_code_are_reported() {
        let RunEvent::BuildFailed { reason, output } = run("echo one; echo two >&2; exit 3").await else { panic!() };
        assert_eq!((&*reason, &*output), ("has failed with exit code 3", "one\ntwo\n"));
        let RunEvent::BuildFailed { reason, output } = run("no-such-compiler").await else { panic!() };
        assert!(reason.contains("127") && output.contains("no-such-compiler"), "{reason}: {output}");
        assert!(matches!(run("test -n \"$YARDARM\"").await, RunEvent::Built { .. }));
    }

    #[tokio::test]
    async fn the_end_of_long_output_is_kept_and_left_processes_do_not_delay_the_end() {
        let start = Instant::now();
        let RunEvent::BuildFailed { output, .. } = run("seq 100000; echo last; sleep 60 & exit 1").await else {
            panic!()
        };
        assert!(output.len() <= MOST_OUTPUT && output.ends_with("last\n"), "{}", output.len());
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_dropped_build_ends_its_processes() {
        let dir = tempfile::tempdir().unwrap();
        let build = Build::new("sleep 1; touch late & wait", dir.path());
        assert!(timeout(Duration::from_millis(200), build.run()).await.is_err());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!dir.path().join("late").exists());
    }
}
