//! A minimal HTTP client for the demo's self-check.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::gateway::Gateway;

/// Longest time for each step.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends a request and returns the JSON response. `line` is method and path, `headers` are whole lines.
pub(super) async fn json(gateway: &Gateway, line: &str, headers: &[String], body: &str) -> anyhow::Result<Value> {
    let mut request = format!("{line} HTTP/1.0\r\nHost: demo\r\nContent-Length: {}\r\n", body.len());
    headers.iter().for_each(|it| request.push_str(&format!("{it}\r\n")));
    let mut stream = TcpStream::connect(gateway.address()).await?;
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await?;
    let mut answer = String::new();
    timeout(REQUEST_TIMEOUT, stream.read_to_string(&mut answer)).await??;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    ensure!(head.contains(" 200 "), "answered {}", head.lines().next().unwrap_or_default());
    Ok(serde_json::from_str(body)?)
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
