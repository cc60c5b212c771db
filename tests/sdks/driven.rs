//! An SDK in a separate program that is controlled by lines of text.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};
use yardarm_testkit::{DynamoDbServer, WAIT_TIMEOUT};

/// Time for a program to end by itself; a browser has a dozen processes.
const GRACE: Duration = Duration::from_secs(10);

/// The vendors' SDKs, and the admin page, which is controlled in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Node,
    /// The same with FDv2: `standard`, `streaming` or `polling`.
    NodeObjects(&'static str),
    Python,
    /// The same with FDv2: `standard` or `streaming`.
    PythonObjects(&'static str),
    Go,
    /// The same with FDv2: `standard` or `streaming`.
    GoObjects(&'static str),
    Rust,
    /// The Go server SDK in daemon mode, on a database of this kind.
    GoDaemon(&'static str),
    /// The Python server SDK in daemon mode, on DynamoDB.
    PythonDaemon,
    /// The Node server SDK in daemon mode, on Redis.
    NodeDaemon,
    /// The client-side SDK for Node.
    NodeClient,
    /// The browser SDK up to version 3, in a real browser.
    LegacyBrowser,
    /// The browser SDK since version 4, in a real browser.
    Browser,
    /// Harness' server SDK for Node.
    HarnessNode,
    /// Harness' server SDK for Python.
    HarnessPython,
    /// Harness' server SDK for Go.
    HarnessGo,
    /// Harness' client SDK, in a real browser.
    HarnessBrowser,
    /// The gateway's own admin page, in a real browser.
    AdminPage,
}

pub(crate) struct Driven {
    child: Child,
    /// `None` once its end was requested.
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// Its temporary files, such as the profile of a browser.
    _dir: TempDir,
}

/// Returns the browser on this machine.
pub(crate) fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let find = |name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|it| it.exists());
    ["chromium", "google-chrome", "chromium-browser"].into_iter().find_map(find)
}

impl Language {
    /// Returns the program and its first arguments.
    fn program(self) -> (PathBuf, Vec<OsString>) {
        let node = |script| ("node".into(), vec![folder().join("node").join(script).into()]);
        let python =
            |script| (folder().join("python/.venv/bin/python"), vec![folder().join("python").join(script).into()]);
        let go = |program| (folder().join("go/bin").join(program), Vec::new());
        match self {
            Self::Python | Self::PythonObjects(_) => python("server.py"),
            Self::Go | Self::GoObjects(_) => go("server"),
            Self::GoDaemon(_) => go("daemon"),
            Self::PythonDaemon => python("daemon.py"),
            Self::NodeDaemon => node("daemon.mjs"),
            Self::Rust => (folder().join("rust/target/debug/server"), Vec::new()),
            Self::Node | Self::NodeObjects(_) => node("server.mjs"),
            Self::NodeClient => node("client.mjs"),
            Self::LegacyBrowser | Self::Browser => node("browser.mjs"),
            Self::HarnessNode => node("harness-server.mjs"),
            Self::HarnessPython => python("harness_server.py"),
            Self::HarnessGo => go("harness_server"),
            Self::HarnessBrowser => node("harness-browser.mjs"),
            Self::AdminPage => node("admin.mjs"),
        }
    }

    /// Returns further arguments after address and key.
    fn more_arguments(self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = match self {
            Self::NodeObjects(way) | Self::PythonObjects(way) | Self::GoObjects(way) => vec![way.into()],
            // The table is that of `tests/sdks/daemon.rs`.
            Self::GoDaemon("dynamodb") | Self::PythonDaemon => vec!["dynamodb".into(), super::daemon::TABLE.into()],
            Self::GoDaemon(database) => vec![database.into()],
            Self::NodeDaemon => vec!["redis".into()],
            Self::LegacyBrowser => vec!["legacy".into()],
            Self::Browser => vec!["current".into()],
            Self::Node | Self::Python | Self::Go | Self::Rust | Self::NodeClient => Vec::new(),
            Self::HarnessNode | Self::HarnessPython | Self::HarnessGo => Vec::new(),
            Self::HarnessBrowser | Self::AdminPage => Vec::new(),
        };
        if self.is_browser() {
            arguments.push(browser().expect("a browser, or the test had skipped").into());
        }
        arguments
    }

    pub(crate) fn is_browser(self) -> bool {
        matches!(self, Self::LegacyBrowser | Self::Browser | Self::HarnessBrowser | Self::AdminPage)
    }

    /// Returns whether `tests/sdks/install.sh` has run; in CI it must have.
    pub(crate) fn is_installed(self) -> bool {
        let mark = match self {
            Self::Python | Self::PythonObjects(_) | Self::PythonDaemon | Self::HarnessPython => {
                "python/.venv/.installed"
            }
            Self::Go | Self::GoObjects(_) | Self::GoDaemon(_) | Self::HarnessGo => "go/bin/.installed",
            Self::Rust => "rust/target/.installed",
            _ => "node/node_modules/.installed",
        };
        let is_installed = folder().join(mark).exists() && (!self.is_browser() || browser().is_some());
        assert!(is_installed || std::env::var_os("CI").is_none(), "{self:?}: run `make setup` first");
        if !is_installed {
            println!("skipped: {self:?} SDK is not installed, run `make setup`");
        }
        is_installed
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sdks")
}

impl Driven {
    pub(crate) async fn start(language: Language, url: &str, key: &str) -> Self {
        let (program, arguments) = language.program();
        let dir = TempDir::new().expect("a temporary folder");
        let mut child = Command::new(program)
            .args(arguments)
            .args([url, key])
            .args(language.more_arguments())
            .env("TMPDIR", dir.path())
            .envs(DynamoDbServer::variables())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, input, output, _dir: dir }
    }

    /// Returns the next fact with this name; others before it are skipped.
    pub(crate) async fn receives(&mut self, name: &str) -> Value {
        self.receives_within(name, WAIT_TIMEOUT).await
    }

    pub(crate) async fn receives_within(&mut self, name: &str, time: Duration) -> Value {
        let received = timeout(time, self.next_fact(name)).await;
        received.unwrap_or_else(|_| panic!("`{name}` was not received within {time:?}"))
    }

    /// Waits for a fact with this name and this value; others before it are skipped.
    pub(crate) async fn receives_exactly(&mut self, name: &str, value: &str, time: Duration) {
        let fact = async { while self.next_fact(name).await != *value {} };
        timeout(time, fact).await.unwrap_or_else(|_| panic!("`{name}` of `{value}` was not received within {time:?}"));
    }

    /// Returns whether a fact with this name and this value arrives; others before it are skipped.
    pub(crate) async fn may_receive(&mut self, name: &str, value: &str, time: Duration) -> bool {
        // Dropping the wait loses nothing: a partial line is kept.
        timeout(time, async { while self.next_fact(name).await != *value {} }).await.is_ok()
    }

    async fn next_fact(&mut self, name: &str) -> Value {
        loop {
            let line = self.output.next_line().await.expect("a line").expect("the SDK still runs");
            let mut fact: Value = serde_json::from_str(&line).expect("a fact");
            if let Some(value) = fact.get_mut(name) {
                return value.take();
            }
        }
    }

    pub(crate) async fn answers(&mut self, command: &str, name: &str) -> Value {
        let input = self.input.as_mut().expect("the program is running");
        input.write_all(format!("{command}\n").as_bytes()).await.expect("the SDK still runs");
        self.receives(name).await
    }

    pub(crate) async fn eventually_answers(&mut self, command: &str, name: &str, expected: &Value) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            let answer = self.answers(command, name).await;
            if answer == *expected {
                return;
            }
            assert!(Instant::now() < deadline, "`{command}` still answers {answer}, not {expected}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn close(mut self) {
        drop(self.input.take());
        let _ = timeout(WAIT_TIMEOUT, self.child.wait()).await;
    }
}

impl Drop for Driven {
    /// The end of its input ends the program, and its browser. Remaining processes are killed.
    fn drop(&mut self) {
        drop(self.input.take());
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
