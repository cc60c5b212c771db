//! A real Redis server on a loopback port, without files: started, killed, started again, and asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Below the ports that systems give out by themselves, so that nobody takes a port between a kill and a restart.
const FIRST_PORT: u16 = 21_000;
const PORTS: u16 = 10_000;
const START: Duration = Duration::from_secs(20);

/// A running server; it ends with this value.
pub struct RedisServer {
    child: Child,
    port: u16,
    password: Option<String>,
    is_cluster: bool,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// A text, also that of a status.
    Text(String),
    /// A failure.
    Error(String),
    /// Several.
    List(Vec<Reply>),
}

impl RedisServer {
    /// Starts a server without data. `None` where Redis is not installed, which is said, and is a failure in CI.
    ///
    /// # Panics
    /// When the server does not start, or in CI when there is none.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(None, false)
    }

    /// Starts a server in cluster mode that has no slots yet.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_cluster() -> Option<Self> {
        Self::start_with(None, true)
    }

    /// Starts a server that wants a password.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_protected(password: &str) -> Option<Self> {
        Self::start_with(Some(password.to_owned()), false)
    }

    #[expect(clippy::print_stderr, reason = "a test that skips says so")]
    fn start_with(password: Option<String>, is_cluster: bool) -> Option<Self> {
        let is_installed = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !is_installed {
            assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
            eprintln!("skipped: redis-server is not installed, see tests/sdks/install.sh");
            return None;
        }
        loop {
            let port = next_port();
            if let Some(child) = launch(port, password.as_deref(), is_cluster) {
                return Some(Self { child, port, password, is_cluster });
            }
        }
    }

    /// How often a command was carried out, and how often it was refused, since the start.
    #[must_use]
    pub fn calls(&self, command: &str) -> (u64, u64) {
        let stats = self.ask(&["INFO", "commandstats"]).text().unwrap_or_default();
        let line = stats.lines().find_map(|it| it.strip_prefix(&format!("cmdstat_{command}:"))).unwrap_or_default();
        let number = |name: &str| {
            line.split(',').find_map(|it| it.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).unwrap_or(0)
        };
        (number("calls"), number("rejected_calls") + number("failed_calls"))
    }

    /// Its address, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map_or_else(String::new, |it| format!(":{it}@"));
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// Ends it at once; what it held is lost.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again at the same address, empty.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(self.port, self.password.as_deref(), self.is_cluster).expect("the port that it had before");
    }

    /// Asks on a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use = "an error is an answer too"]
    pub fn try_ask(&self, words: &[&str]) -> Reply {
        ask(self.port, self.password.as_deref(), words).expect("an answer from Redis")
    }

    /// Asks; an error is not expected.
    ///
    /// # Panics
    /// When there is no answer, or an error.
    #[allow(clippy::must_use_candidate, reason = "some questions are commands")]
    pub fn ask(&self, words: &[&str]) -> Reply {
        match self.try_ask(words) {
            Reply::Error(error) => panic!("{words:?}: {error}"),
            reply => reply,
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.ask(&["GET", key]).text()
    }

    /// A field of a hash.
    #[must_use]
    pub fn field(&self, key: &str, field: &str) -> Option<String> {
        self.ask(&["HGET", key, field]).text()
    }

    /// Fields of a hash, members of a set or names of all keys, in order: the answer to a command that gives a list.
    #[must_use]
    pub fn names(&self, words: &[&str]) -> Vec<String> {
        let Reply::List(list) = self.ask(words) else { panic!("{words:?} gives a list") };
        let mut names: Vec<String> = list.into_iter().filter_map(|it| it.text()).collect();
        names.sort();
        names
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        if self.is_cluster {
            let _ = std::fs::remove_file(format!("/tmp/nodes-{}.conf", self.port));
        }
    }
}

impl Reply {
    /// The text, if it is one.
    #[must_use]
    pub fn text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// Different for each server of a process, and for most processes.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(PORTS)).unwrap_or(0);
    FIRST_PORT + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS
}

/// `None` when the port is taken.
fn launch(port: u16, password: Option<&str>, is_cluster: bool) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--dir", "/tmp", "--loglevel", "warning"]);
    if is_cluster {
        // Kept in `--dir`; a file of an earlier server at this port would be taken over.
        let _ = std::fs::remove_file(format!("/tmp/nodes-{port}.conf"));
        command.args(["--cluster-enabled", "yes", "--cluster-config-file", &format!("nodes-{port}.conf")]);
    }
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("redis-server");
    let start = Instant::now();
    loop {
        if child.try_wait().expect("a child").is_some() {
            return None;
        }
        let id = child.id().to_string();
        // Another process's server may answer at this port while ours is about to give up on it.
        if let Ok(Reply::Text(info)) = ask(port, password, &["INFO", "server"])
            && info.lines().any(|line| line.strip_prefix("process_id:") == Some(&id))
        {
            return Some(child);
        }
        assert!(start.elapsed() < START, "redis-server does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ask(port: u16, password: Option<&str>, words: &[&str]) -> std::io::Result<Reply> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(START))?;
    let mut reader = BufReader::new(stream);
    if let Some(password) = password {
        say(&mut reader, &["AUTH", password])?;
        hear(&mut reader)?;
    }
    say(&mut reader, words)?;
    hear(&mut reader)
}

fn say(stream: &mut BufReader<TcpStream>, words: &[&str]) -> std::io::Result<()> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.get_mut().write_all(text.as_bytes())
}

fn hear(stream: &mut BufReader<TcpStream>) -> std::io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    let Some(kind) = line.chars().next() else { return Err(std::io::ErrorKind::UnexpectedEof.into()) };
    let rest = &line[1..];
    let number = || rest.parse::<i64>().map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData));
    Ok(match kind {
        '+' => Reply::Text(rest.to_owned()),
        '-' => Reply::Error(rest.to_owned()),
        ':' => Reply::Number(number()?),
        '$' => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
        },
        '*' => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(count) => Reply::List((0..count).map(|_| hear(stream)).collect::<std::io::Result<_>>()?),
        },
        _ => return Err(std::io::ErrorKind::InvalidData.into()),
    })
}
