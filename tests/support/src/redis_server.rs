//! A real Redis server on a loopback port, without persistence, that can be killed, restarted and queried.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Below the ephemeral ports, so that no other process takes the port between a kill and a restart.
const FIRST_PORT: u16 = 21_000;
const PORTS: u16 = 10_000;
const START: Duration = Duration::from_secs(20);

/// A running server; it stops when dropped.
pub struct RedisServer {
    child: Child,
    port: u16,
    password: Option<String>,
    is_cluster: bool,
}

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Null.
    Nil,
    /// A number.
    Number(i64),
    /// A text or a status.
    Text(String),
    /// An error.
    Error(String),
    /// An array.
    List(Vec<Reply>),
}

impl RedisServer {
    /// Starts a server without data. Returns `None`, with a note, where Redis is not installed.
    ///
    /// # Panics
    /// When the server does not start, or in CI when Redis is not installed.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(None, false)
    }

    /// Starts a server in cluster mode without assigned slots.
    ///
    /// # Panics
    /// The same as [`Self::start`].
    #[must_use]
    pub fn start_cluster() -> Option<Self> {
        Self::start_with(None, true)
    }

    /// Starts a server that also listens with TLS, for clients that present `cert.pem`; its own certificate, that of its
    /// clients and their authority are `cert.pem` and `key.pem` in `dir`. Returns it with the port for TLS.
    ///
    /// # Panics
    /// The same as [`Self::start`].
    #[must_use]
    pub fn start_tls(dir: &std::path::Path) -> Option<(Self, u16)> {
        let server = Self::start()?;
        let file = |name: &str| dir.join(name).display().to_string();
        let port = next_port();
        for (name, value) in [
            ("tls-cert-file", file("cert.pem")),
            ("tls-key-file", file("key.pem")),
            ("tls-ca-cert-file", file("cert.pem")),
            ("tls-auth-clients", "yes".to_owned()),
            ("tls-port", port.to_string()),
        ] {
            server.ask(&["CONFIG", "SET", name, &value]);
        }
        Some((server, port))
    }

    /// Starts a server that requires a password.
    ///
    /// # Panics
    /// The same as [`Self::start`].
    #[must_use]
    pub fn start_protected(password: &str) -> Option<Self> {
        Self::start_with(Some(password.to_owned()), false)
    }

    #[expect(clippy::print_stderr, reason = "a skipped test prints a note")]
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

    /// Returns how often a command was executed, and how often it was rejected, since the start.
    #[must_use]
    pub fn calls(&self, command: &str) -> (u64, u64) {
        let stats = self.ask(&["INFO", "commandstats"]).text().unwrap_or_default();
        let line = stats.lines().find_map(|it| it.strip_prefix(&format!("cmdstat_{command}:"))).unwrap_or_default();
        let number = |name: &str| {
            line.split(',').find_map(|it| it.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).unwrap_or(0)
        };
        (number("calls"), number("rejected_calls") + number("failed_calls"))
    }

    /// Returns the URL of the server, including its password.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map_or_else(String::new, |it| format!(":{it}@"));
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// Kills the server; its data is lost.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Restarts the server at the same address, without data.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(self.port, self.password.as_deref(), self.is_cluster).expect("the port that it had before");
    }

    /// Sends a command on a new connection.
    ///
    /// # Panics
    /// When there is no reply.
    #[must_use = "an error is an answer too"]
    pub fn try_ask(&self, words: &[&str]) -> Reply {
        ask(self.port, self.password.as_deref(), words).expect("an answer from Redis")
    }

    /// Sends a command that must not fail.
    ///
    /// # Panics
    /// When there is no reply, or an error.
    #[allow(clippy::must_use_candidate, reason = "some questions are commands")]
    pub fn ask(&self, words: &[&str]) -> Reply {
        match self.try_ask(words) {
            Reply::Error(error) => panic!("{words:?}: {error}"),
            reply => reply,
        }
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.ask(&["GET", key]).text()
    }

    /// Returns a field of a hash.
    #[must_use]
    pub fn field(&self, key: &str, field: &str) -> Option<String> {
        self.ask(&["HGET", key, field]).text()
    }

    /// Sends a command that returns a list, such as fields of a hash, members of a set or names of keys; returns the
    /// list, sorted.
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
        let _ = std::fs::remove_file(format!("/tmp/redis-{}.rdb", self.port));
        if self.is_cluster {
            let _ = std::fs::remove_file(format!("/tmp/nodes-{}.conf", self.port));
        }
    }
}

impl Reply {
    /// Returns the text, if it is one.
    #[must_use]
    pub fn text(self) -> Option<String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// Returns a port that is different for each server of a process, and for most processes.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(PORTS)).unwrap_or(0);
    FIRST_PORT + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS
}

/// Starts the process; returns `None` when the port is taken.
fn launch(port: u16, password: Option<&str>, is_cluster: bool) -> Option<Child> {
    // A replica keeps what it received in a file of `--dir`, which a later server would load.
    let saved = format!("redis-{port}.rdb");
    let _ = std::fs::remove_file(format!("/tmp/{saved}"));
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--dir", "/tmp", "--dbfilename", &saved, "--loglevel", "warning"]);
    if is_cluster {
        // Cluster state is kept in `--dir`; a file of an earlier server at this port would be loaded.
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
        // A server of another process may answer at this port while ours fails to bind it.
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
