//! A small HTTP client for any method, path and header, which returns complete responses.

use std::io::Write;
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;

use crate::connection::{Connection, Framing, Head};

/// A request, as it is written.
#[derive(Debug, Clone)]
pub struct Call {
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// All headers except `Date`, which was checked, and those that determine the end of the body.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// Creates a request of any method; `target` is written unchanged.
    #[must_use]
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self { method: method.to_owned(), target: target.into(), version: "HTTP/1.1", headers: Vec::new(), body: None }
    }

    /// Creates a `GET` request.
    #[must_use]
    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    /// Creates an `OPTIONS` request.
    #[must_use]
    pub fn options(target: impl Into<String>) -> Self {
        Self::new("OPTIONS", target)
    }

    /// Creates a `POST` request with a body.
    #[must_use]
    pub fn post(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body)
    }

    /// Creates a `REPORT` request with a JSON body.
    #[must_use]
    pub fn report(target: impl Into<String>, json: impl Into<Vec<u8>>) -> Self {
        Self::new("REPORT", target).header("Content-Type", "application/json").body(json)
    }

    /// Sets `Authorization`.
    #[must_use]
    pub fn key(self, credential: &str) -> Self {
        self.header("Authorization", credential)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body, with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Compresses the body and sets `Content-Encoding`.
    ///
    /// # Panics
    /// Never: writes to a vector succeed.
    #[must_use]
    pub fn gzipped(self) -> Self {
        let body = gzip(self.body.as_deref().unwrap_or_default());
        self.header("Content-Encoding", "gzip").body(body)
    }

    /// Uses HTTP/1.0.
    #[must_use]
    pub fn http_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// Returns the method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the bytes of the request.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: gateway.localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends the request on a new connection and reads the response.
    ///
    /// # Panics
    /// When there is no complete response.
    pub async fn to(&self, address: SocketAddr) -> Answer {
        let mut connection = Connection::open(address).await;
        self.on(&mut connection).await
    }

    /// Sends the request on an open connection and reads the response.
    ///
    /// # Panics
    /// When there is no complete response.
    pub async fn on(&self, connection: &mut Connection) -> Answer {
        // A server may answer and close before it has read everything.
        let _ = connection.try_send(self.bytes()).await;
        connection.answer(&self.method).await.unwrap_or_else(|| panic!("no answer to {self}"))
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

impl Connection {
    /// Reads the next complete response; `None` if the connection ends instead.
    ///
    /// # Panics
    /// When a response is incomplete, or a final one has no `Date`.
    pub async fn answer(&mut self, method: &str) -> Option<Answer> {
        let head = self.head().await?;
        let body = match head.framing(method) {
            Framing::Nothing => Bytes::new(),
            Framing::Length(length) => self.exactly(length).await,
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    let chunk = self.chunk().await.expect("a last chunk");
                    if chunk.is_empty() {
                        break body.into();
                    }
                    body.extend_from_slice(&chunk);
                }
            }
            Framing::UntilClose => {
                let mut body = Vec::new();
                loop {
                    let some = self.some().await;
                    if some.is_empty() {
                        break body.into();
                    }
                    body.extend_from_slice(&some);
                }
            }
        };
        Some(Answer::new(head, body))
    }
}

impl Answer {
    pub(crate) fn new(head: Head, body: Bytes) -> Self {
        let date = head.header("date").unwrap_or_else(|| panic!("no Date: {head:?}"));
        assert!(date.len() == 29 && date.ends_with(" GMT"), "Date in the only form that is still sent: {date}");
        let framing = ["date", "content-length", "transfer-encoding"];
        let headers = head.headers.into_iter().filter(|(name, _)| !framing.contains(&name.as_str())).collect();
        Self { status: head.status, headers, body }
    }

    /// Returns the value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    ///
    /// # Panics
    /// When it is not text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// Compresses bytes.
///
/// # Panics
/// Never: writes to a vector succeed.
#[must_use]
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).expect("a vector takes every write");
    encoder.finish().expect("a vector takes every write")
}
