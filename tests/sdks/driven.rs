//! An SDK in a program of its own, driven line by line.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// Interpreters start slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Language {
    Node,
    Python,
}

pub(crate) struct Driven {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Language {
    fn program(self) -> (PathBuf, PathBuf) {
        let sdks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sdks");
        match self {
            Self::Node => ("node".into(), sdks.join("node/server.mjs")),
            Self::Python => (sdks.join("python/.venv/bin/python"), sdks.join("python/server.py")),
        }
    }

    /// Whether `tests/sdks/install.sh` has run; in CI it must have.
    pub(crate) fn is_installed(self) -> bool {
        let sdks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sdks");
        let mark = match self {
            Self::Node => sdks.join("node/node_modules/.installed"),
            Self::Python => sdks.join("python/.venv/.installed"),
        };
        let is_installed = mark.exists();
        assert!(is_installed || std::env::var_os("CI").is_none(), "{self:?}: run `make sdks` first");
        if !is_installed {
            println!("skipped: {self:?} SDK is not installed, run `make sdks`");
        }
        is_installed
    }
}

impl Driven {
    pub(crate) async fn start(language: Language, url: &str, key: &str) -> Self {
        let (program, script) = language.program();
        let mut child = Command::new(program)
            .arg(script)
            .args([url, key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the interpreter starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, input, output }
    }

    /// The next fact with this name; others before it are passed over.
    pub(crate) async fn hears(&mut self, name: &str) -> Value {
        self.hears_within(name, PATIENCE).await
    }

    pub(crate) async fn hears_within(&mut self, name: &str, time: Duration) -> Value {
        let facts = async {
            loop {
                let line = self.output.next_line().await.expect("a line").expect("the SDK still runs");
                let fact: Value = serde_json::from_str(&line).expect("a fact");
                if let Some(value) = fact.get(name) {
                    return value.clone();
                }
            }
        };
        timeout(time, facts).await.unwrap_or_else(|_| panic!("`{name}` was not heard within {time:?}"))
    }

    pub(crate) async fn answers(&mut self, command: &str, name: &str) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("the SDK still runs");
        self.hears(name).await
    }

    pub(crate) async fn eventually_answers(&mut self, command: &str, name: &str, expected: &Value) {
        let deadline = Instant::now() + PATIENCE;
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
        let _ = self.input.write_all(b"close\n").await;
        let _ = timeout(PATIENCE, self.child.wait()).await;
    }
}
