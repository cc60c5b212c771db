//! The real program, started, signalled and killed; all of its output is kept.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use yardarm_testkit::{Answer, Call, SseClient, until, within};

use crate::sdk::Sdk;

pub(crate) use rustix::process::Signal;

/// A running `yardarm`.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    reading: Arc<(Mutex<Reading>, Condvar)>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// How the output of the program is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Read and kept.
    On,
    /// Left in the pipe.
    Paused,
    /// The pipe is closed.
    Closed,
}

/// Returns a command without the environment variables of the test.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yardarm"));
    command.env_clear().current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir).args(arguments).output().expect("a program that starts")
}

impl Program {
    /// Starts the gateway with the configuration file in `dir` and waits until it listens. The log must be JSON.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    /// Starts the gateway with arguments.
    pub(crate) async fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = command(dir);
        command.args(arguments);
        Self::launch(command).await
    }

    /// Starts the gateway by a line of shell, which receives the program as `$0`.
    pub(crate) async fn start_through(dir: &Path, line: &str) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", line, env!("CARGO_BIN_EXE_yardarm")]).env_clear().current_dir(dir).stdin(Stdio::null());
        Self::launch(shell).await
    }

    /// Starts the gateway by any command.
    pub(crate) async fn launch(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program that starts");
        let log = Arc::default();
        let reading = Arc::new((Mutex::new(Reading::On), Condvar::new()));
        let readers = vec![
            keep(child.stdout.take().expect("piped"), Arc::clone(&log), Arc::clone(&reading)),
            keep(child.stderr.take().expect("piped"), Arc::clone(&log), Arc::clone(&reading)),
        ];
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Self { child, log, readers, reading, address: nowhere, admin: nowhere };
        let mut addresses = None;
        until("the program to listen", || {
            let log = program.log();
            addresses = log.iter().find_map(|line| listening(line));
            let has_ended = program.child.try_wait().expect("a child").is_some();
            assert!(addresses.is_some() || !has_ended, "the program ended: {log:#?}");
            addresses.is_some()
        })
        .await;
        (program.address, program.admin) = addresses.expect("addresses");
        program
    }

    /// Returns the lines of output so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets how the output is handled. A line that is awaited at this moment is still read.
    pub(crate) fn reads(&self, reading: Reading) {
        *self.reading.0.lock().unwrap_or_else(PoisonError::into_inner) = reading;
        self.reading.1.notify_all();
    }

    /// Returns the process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether a line of the log has this message.
    pub(crate) fn has_logged(&self, message: &str) -> bool {
        self.log().iter().any(|line| line.contains(message))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("a child that runs");
    }

    /// Waits for the end of the process and of its output.
    pub(crate) async fn ends(mut self) -> (ExitStatus, Vec<String>) {
        let mut status = None;
        until("the program to end", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        if *self.reading.0.lock().unwrap_or_else(PoisonError::into_inner) == Reading::Paused {
            self.reads(Reading::On);
        }
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        (status.expect("a status"), self.log())
    }

    pub(crate) async fn answers(&self, call: &Call) -> Answer {
        call.to(self.address).await
    }

    pub(crate) async fn operator_gets(&self, path: &str) -> Answer {
        Call::get(path).to(self.admin).await
    }

    pub(crate) async fn opens(&self, path: &str, key: &str) -> Sdk {
        let call = Call::get(path).key(key);
        Sdk::new(SseClient::open(self.address, &call).await, &call)
    }

    /// Opens a stream as soon as the environment accepts streams.
    pub(crate) async fn opens_when_ready(&self, path: &str, key: &str) -> Sdk {
        let call = Call::get(path).key(key);
        let asks = async {
            loop {
                let client = SseClient::open(self.address, &call).await;
                if client.head().status != 503 {
                    return Sdk::new(client, &call);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("an open stream", asks).await
    }

    /// Opens a stream as soon as its key is known and there is data for it.
    pub(crate) async fn opens_when_served(&self, path: &str, key: &str) -> Sdk {
        let call = Call::get(path).key(key);
        let asks = async {
            loop {
                let client = SseClient::open(self.address, &call).await;
                if client.head().status == 200 {
                    return Sdk::new(client, &call);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("an open stream", asks).await
    }

    pub(crate) async fn wait_until_ready(&self) {
        let asks = async {
            while self.operator_gets("/ready").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("`/ready` to say yes", asks).await;
        self.wait_until_plugins_are_loaded().await;
    }

    /// Waits until every plugin that was in the folder at the start is active or rejected.
    pub(crate) async fn wait_until_plugins_are_loaded(&self) {
        let asks = async {
            while self.operator_gets("/api/plugins").await.json()["ready"] != true {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the plugins of the start", asks).await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, as in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "gateway is listening" {
        return None;
    }
    let address = |name: &str| line[name].as_str()?.parse().ok();
    Some((address("sdks")?, address("admin")?))
}

fn keep(
    output: impl std::io::Read + Send + 'static,
    log: Arc<Mutex<Vec<String>>>,
    reading: Arc<(Mutex<Reading>, Condvar)>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            let now = reading.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_paused = |it: &mut Reading| *it == Reading::Paused;
            let now = reading.1.wait_while(now, is_paused).unwrap_or_else(PoisonError::into_inner);
            if *now == Reading::Closed {
                return;
            }
        }
    })
}
