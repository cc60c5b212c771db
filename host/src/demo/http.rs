//! A minimal HTTP client for the demo's self-check and for fake SDKs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::Gateway;

/// Longest time for each step.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A response that was read to its end.
pub(super) struct Response {
    pub(super) status: u16,
    body: String,
}

/// Sends a request and returns the JSON response. `line` is method and path, `headers` are whole lines.
pub(super) async fn json(gateway: &Gateway, line: &str, headers: &[String], body: &str) -> anyhow::Result<Value> {
    let Response { status, body } = send(gateway.address(), line, headers, body).await?;
    ensure!(status == 200, "answered {status}");
    Ok(serde_json::from_str(&body)?)
}

/// Sends a request and reads the response.
pub(super) async fn send(gateway: SocketAddr, line: &str, headers: &[String], body: &str) -> anyhow::Result<Response> {
    let mut request = format!("{line} HTTP/1.0\r\nHost: demo\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|it| request.push_str(&format!("{it}\r\n")));
    let exchange = async {
        let mut stream = TcpStream::connect(gateway).await?;
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(REQUEST_TIMEOUT, exchange).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    Ok(Response { status: status(head)?, body: body.to_owned() })
}

/// Opens a stream and reads its head. The stream lasts as long as the returned connection.
pub(super) async fn open(gateway: SocketAddr, path: &str, headers: &[String]) -> anyhow::Result<(u16, TcpStream)> {
    let head: String = headers.iter().map(|it| format!("{it}\r\n")).collect();
    let exchange = async {
        let mut stream = TcpStream::connect(gateway).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: demo\r\n{head}\r\n").as_bytes()).await?;
        let mut buffer = vec![0; 4 << 10];
        let count = stream.read(&mut buffer).await?;
        Ok::<_, std::io::Error>((String::from_utf8_lossy(&buffer[..count]).into_owned(), stream))
    };
    let (head, stream) = timeout(REQUEST_TIMEOUT, exchange).await??;
    Ok((status(&head)?, stream))
}

fn status(head: &str) -> anyhow::Result<u16> {
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.context("the answer has no status")
}

impl Response {
    /// Returns the body as JSON, or `null`.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// An open stream, read as text.
pub(super) struct Sse {
    stream: TcpStream,
    received: String,
}

impl Sse {
    /// Opens a stream, and retries because an environment without data answers 503 at first.
    pub(super) async fn open(gateway: &Gateway, path: &str, headers: &[String]) -> anyhow::Result<Self> {
        for _ in 0..50 {
            let mut stream = TcpStream::connect(gateway.address()).await?;
            let head: String = headers.iter().map(|it| format!("{it}\r\n")).collect();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: demo\r\n{head}\r\n").as_bytes()).await?;
            let mut sse = Self { stream, received: String::new() };
            if sse.read_until("HTTP/1.1 200").await.is_ok() {
                return Ok(sse);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("{path} is not served")
    }

    /// Reads until `text` has arrived.
    pub(super) async fn read_until(&mut self, text: &str) -> anyhow::Result<()> {
        let read = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                if let Some(index) = self.received.find(text) {
                    self.received.drain(..index + text.len());
                    return Ok(());
                }
                ensure!(!self.received.starts_with("HTTP/1.1 5"), "answered 5xx");
                let count = self.stream.read(&mut buffer).await?;
                ensure!(count > 0, "the stream has ended");
                self.received.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        timeout(REQUEST_TIMEOUT, read).await.context("nothing came in time")?
    }
}
