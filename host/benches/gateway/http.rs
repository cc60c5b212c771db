//! A minimal HTTP/1.1 client that sends requests and detects wrong responses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Time limit of a blocking response.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A complete response at the beginning of a buffer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Range<usize>,
}

/// A connection that is used for consecutive requests.
pub(crate) struct KeepAlive {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// Builds a request. An empty `body` means none.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Parses a response; returns `None` while it is incomplete.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = head_end(buffer) else { return Ok(None) };
    let head = std::str::from_utf8(&buffer[..end]).context("the head of an answer is not text")?;
    let status = status(head)?;
    let mut length = 0;
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("an answer has a wrong length")?;
        }
        ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "an answer came in chunks, which only streams may");
    }
    Ok((buffer.len() >= end + length).then(|| Answer { status, body: end..end + length }))
}

/// Returns the length of the head, including its empty line.
pub(crate) fn head_end(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|it| it == b"\r\n\r\n").map(|it| it + 4)
}

/// Returns the status of a head.
pub(crate) fn status(head: &str) -> Result<u16> {
    let code = head.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3)?.parse().ok());
    code.with_context(|| format!("not an answer: `{}`", head.lines().next().unwrap_or_default()))
}

impl KeepAlive {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self { socket, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request and waits for its response; returns status and body.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.buffer.clear();
        self.socket.write_all(request)?;
        let mut piece = [0; 16 << 10];
        loop {
            let count = self.socket.read(&mut piece).context("no answer came")?;
            ensure!(count > 0, "the connection was closed instead of an answer");
            self.buffer.extend_from_slice(&piece[..count]);
            if let Some(answer) = parse(&self.buffer)? {
                return Ok((answer.status, &self.buffer[answer.body]));
            }
        }
    }

    /// Gets a document that must exist.
    pub(crate) fn get(&mut self, path: &str) -> Result<&[u8]> {
        match self.send(&request("GET", path, &[], b""))? {
            (200, body) => Ok(body),
            (status, body) => bail!("{path} was answered {status}: {}", String::from_utf8_lossy(body)),
        }
    }

    /// Gets a JSON document that must exist.
    pub(crate) fn json(&mut self, path: &str) -> Result<serde_json::Value> {
        serde_json::from_slice(self.get(path)?).with_context(|| format!("{path} is not JSON"))
    }

    /// Returns all metrics, of one moment.
    pub(crate) fn metrics(&mut self) -> Result<Metrics> {
        Ok(Metrics(String::from_utf8_lossy(self.get("/metrics")?).into_owned()))
    }
}

/// Metrics in the text format of Prometheus.
pub(crate) struct Metrics(String);

impl Metrics {
    /// Returns the sum of a metric over all series with these labels; 0 if there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let series = rest.strip_prefix('{').map_or(Some(("", rest)), |rest| rest.split_once('}'))?;
            let is_wanted = rest.starts_with(['{', ' ']) && wanted.iter().all(|it| series.0.contains(it.as_str()));
            if is_wanted { series.1.trim().parse::<f64>().ok() } else { None }
        };
        self.0.lines().filter_map(value).sum()
    }
}
