//! Requests and responses of the fake agent, over kept connections.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

/// A request.
pub(super) struct Request {
    pub(super) method: String,
    /// Decoded.
    pub(super) path: String,
    query: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// A response.
pub(super) struct Response {
    status: u16,
    body: Vec<u8>,
    /// Index of the last change of what was read.
    index: Option<u64>,
}

impl Request {
    /// Reads the next request; `None` at the end of the connection.
    pub(super) fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let Some(line) = line(reader)? else { return Ok(None) };
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (method, path, query) = (method.to_owned(), decoded(path), query.to_owned());
        let mut headers = Vec::new();
        while let Some(line) = line_of_head(reader)? {
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { method, path, query, headers, body: Vec::new() };
        if let Some(length) = request.header("content-length").and_then(|it| it.parse().ok()) {
            request.body = vec![0; length];
            reader.read_exact(&mut request.body)?;
        } else if request.header("transfer-encoding") == Some("chunked") {
            request.body = chunks(reader)?;
        }
        Ok(Some(request))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    /// Returns the token, which may be in either header.
    pub(super) fn token(&self) -> Option<&str> {
        let bearer = || self.header("authorization").and_then(|it| it.strip_prefix("Bearer "));
        self.header("x-consul-token").or_else(bearer).filter(|it| !it.is_empty())
    }

    /// Whether a parameter is present, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameter(name).is_some()
    }

    /// Returns the value of a parameter; empty for one without a value.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').map(|it| it.split_once('=').unwrap_or((it, "")));
        pairs.into_iter().find(|it| it.0 == name).map(|it| decoded(it.1))
    }
}

impl Response {
    pub(super) fn text(status: u16, text: &str) -> Self {
        Self { status, body: text.as_bytes().to_vec(), index: None }
    }

    pub(super) fn bytes(body: Vec<u8>) -> Self {
        Self { status: 200, body, index: None }
    }

    /// Adds the index of the store.
    pub(super) fn at(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    pub(super) fn write(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} -\r\nContent-Length: {}\r\n", self.status, self.body.len());
        let kind = if self.status == 200 { "application/json" } else { "text/plain" };
        head.push_str(&format!("Content-Type: {kind}\r\n"));
        if let Some(index) = self.index {
            head.push_str(&format!(
                "X-Consul-Index: {index}\r\nX-Consul-Knownleader: true\r\nX-Consul-Lastcontact: 0\r\n"
            ));
        }
        head.push_str("\r\n");
        stream.write_all(&[head.as_bytes(), &self.body].concat())
    }
}

fn line(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let count = reader.read_line(&mut line)?;
    Ok((count > 0).then(|| line.trim_end().to_owned()))
}

/// `None` at the end of the head.
fn line_of_head(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    Ok(line(reader)?.filter(|it| !it.is_empty()))
}

fn chunks(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(reader)?.unwrap_or_default();
        let size =
            usize::from_str_radix(&size, 16).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.take(2).read_to_end(&mut Vec::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|it| u8::from_str_radix(it, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
            }
            (byte, _) => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
