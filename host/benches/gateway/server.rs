//! The gateway under measurement: the release binary, in a separate process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::http::{self, KeepAlive};
use crate::options::Options;
use crate::process::Process;
use crate::transport;

/// Time limit of a start, including plugins.
const START: Duration = Duration::from_secs(60);

/// Configuration of a gateway.
pub(crate) struct Setup {
    binary: PathBuf,
    dir: Arc<TempDir>,
    environments: Vec<String>,
    upstream: String,
    /// Lines of the section `[plugins]`.
    of_plugins: String,
    more: String,
    has_tls: bool,
    keep: bool,
}

/// A running gateway. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// When the process was started.
    pub(crate) spawned: Instant,
    /// Address of the listener for SDKs.
    pub(crate) sdks: SocketAddr,
    /// Address of the admin listener.
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    _dir: Arc<TempDir>,
}

/// Returns the SDK key of an environment.
pub(crate) fn sdk_key(environment: &str) -> String {
    format!("sdk-bench-{environment}")
}

/// Returns the client-side ID of an environment.
pub(crate) fn env_id(environment: &str) -> String {
    format!("id-{environment}")
}

/// Returns the request of a server-side stream.
pub(crate) fn stream_request(environment: &str) -> Vec<u8> {
    let key = sdk_key(environment);
    http::request("GET", "/all", &[("Authorization", &key), ("Accept", "text/event-stream")], b"")
}

impl Setup {
    /// Creates the configuration of a gateway with its own folder and these environments.
    pub(crate) fn new(options: &Options, upstream: &str, environments: &[&str]) -> Result<Self> {
        let mut dir = tempfile::Builder::new().prefix("yardarm-bench-").tempdir().context("no temporary folder")?;
        dir.disable_cleanup(options.keep);
        std::fs::create_dir(dir.path().join("plugins"))?;
        let binary = options.binary();
        Ok(Self {
            binary: binary.canonicalize().with_context(|| format!("no gateway at `{}`", binary.display()))?,
            dir: Arc::new(dir),
            environments: environments.iter().map(|&it| it.to_owned()).collect(),
            upstream: upstream.to_owned(),
            more: String::new(),
            of_plugins: String::new(),
            has_tls: false,
            keep: options.keep,
        })
    }

    /// Adds lines of the section `[launchdarkly]`.
    pub(crate) fn with(mut self, line: &str) -> Self {
        self.more.push_str(line);
        self.more.push('\n');
        self
    }

    /// Adds lines of the section `[plugins]`.
    pub(crate) fn with_plugins(mut self, lines: &str) -> Self {
        self.of_plugins.push_str(lines);
        self.of_plugins.push('\n');
        self
    }

    /// Gives the listener for SDKs a certificate.
    pub(crate) fn with_tls(mut self) -> Result<Self> {
        std::fs::write(self.dir.path().join("cert.pem"), transport::CERTIFICATE)?;
        std::fs::write(self.dir.path().join("key.pem"), transport::KEY)?;
        self.has_tls = true;
        Ok(self)
    }

    /// Returns the watched plugin folder.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// Returns the data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Makes upstream unreachable from now on.
    pub(crate) fn cut_off(&mut self) {
        // The discard port of loopback: no process listens there, and connections are refused at once.
        "http://127.0.0.1:9".clone_into(&mut self.upstream);
    }

    /// Starts the gateway and waits until it listens.
    pub(crate) fn start(&self) -> Result<Server> {
        let config = self.dir.path().join("yardarm.toml");
        std::fs::write(&config, self.text()).with_context(|| format!("`{}`", config.display()))?;
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(&config).current_dir(self.dir.path());
        // Variables of the caller's shell must not configure the gateway.
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let spawned = Instant::now();
        let mut child = command.spawn().with_context(|| format!("`{}` does not start", self.binary.display()))?;
        let log = Arc::<Mutex<Vec<String>>>::default();
        let copy = self.keep.then(|| self.dir.path().join("log"));
        let addresses = match child.stderr.take() {
            Some(stderr) => wait_for_addresses(stderr, &log, copy),
            None => bail!("the gateway has no log"),
        };
        let server =
            |(sdks, admin)| Server { child, spawned, sdks, admin, log: Arc::clone(&log), _dir: Arc::clone(&self.dir) };
        addresses.map(server).with_context(|| format!("the gateway did not start; its log:\n{}", last_lines(&log)))
    }

    fn text(&self) -> String {
        let mut text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{}[admin]\nlisten = \"127.0.0.1:0\"\n[data]\ndir = {:?}\n[plugins]\ndir = {:?}\n{}\
             [log]\nlevel = \"warn,yardarm::gateway=info\"\n\
             [launchdarkly]\nstream_uri = {up:?}\nbase_uri = {up:?}\nevents_uri = {up:?}\nheartbeat_interval = \"1h\"\n{}",
            if self.has_tls { "tls = { cert = \"cert.pem\", key = \"key.pem\" }\n" } else { "" },
            self.data(),
            self.plugins(),
            self.of_plugins,
            self.more,
            up = self.upstream,
        );
        for name in &self.environments {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "[[launchdarkly.environments]]\nname = {name:?}\nsdk_key = {:?}\nenv_id = {:?}\n",
                sdk_key(name),
                env_id(name),
            );
        }
        text
    }
}

impl Server {
    /// Returns the process, to read its resource usage.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Opens a connection to the admin listener.
    pub(crate) fn operator(&self) -> Result<KeepAlive> {
        KeepAlive::open(self.admin)
    }

    /// Waits until every environment has data from upstream, and until that is written.
    pub(crate) fn settle(&self) -> Result<()> {
        let mut operator = self.operator()?;
        self.wait("data from upstream", || {
            let document = operator.json("/api/environments")?;
            let all = document["environments"].as_array().cloned().unwrap_or_default();
            Ok(!all.is_empty() && all.iter().all(|it| it["connection"] == "valid" && it["phase"] == "ready"))
        })?;
        // The first data is written to disk a quarter of a second later.
        std::thread::sleep(Duration::from_millis(700));
        Ok(())
    }

    /// Waits until all plugins in the folder are active; returns the document.
    pub(crate) fn wait_for_plugins(&self, count: usize) -> Result<Value> {
        let mut operator = self.operator()?;
        let mut last = Value::Null;
        let result = self.wait("active plugins", || {
            last = operator.json("/api/plugins")?;
            let rows = last["plugins"].as_array().cloned().unwrap_or_default();
            Ok(rows.len() == count && rows.iter().all(|it| it["state"] == "active"))
        });
        result.with_context(|| format!("plugins: {:#}", last["plugins"]))?;
        Ok(last)
    }

    /// Polls until the condition holds.
    pub(crate) fn wait(&self, what: &str, mut is_there: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !is_there()? {
            if start.elapsed() > START {
                bail!("no {what} within {START:?}; log of the gateway:\n{}", last_lines(&self.log));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Returns the last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log to its end on a thread; returns the addresses once they are logged.
fn wait_for_addresses(
    stderr: std::process::ChildStderr,
    log: &Arc<Mutex<Vec<String>>>,
    copy: Option<PathBuf>,
) -> Result<(SocketAddr, SocketAddr)> {
    let (found, addresses) = mpsc::channel();
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let (Some(sdks), Some(admin)) = (address(&line, "sdks="), address(&line, "admin=")) {
                // The receiver is dropped if the start took too long.
                let _ = found.send((sdks, admin));
            }
            log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
        if let Some(copy) = copy {
            let lines = log.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
            if let Err(error) = std::fs::write(&copy, lines) {
                eprintln!("the log of a gateway cannot be kept in `{}`: {error}", copy.display());
            }
        }
    });
    match addresses.recv_timeout(START) {
        Ok(found) => Ok(found),
        Err(RecvTimeoutError::Timeout) => bail!("it does not listen after {START:?}"),
        Err(RecvTimeoutError::Disconnected) => bail!("it has ended"),
    }
}

fn address(line: &str, name: &str) -> Option<SocketAddr> {
    line.split_once(name)?.1.split_whitespace().next()?.parse().ok()
}

fn last_lines(log: &Mutex<Vec<String>>) -> String {
    let lines = log.lock().unwrap_or_else(PoisonError::into_inner);
    lines[lines.len().saturating_sub(15)..].join("\n")
}
