//! An upstream that writes arbitrary bytes, complete or broken, and then holds or closes the connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The upstream. Cheap to clone; it ends with the runtime.
#[derive(Clone)]
pub struct RawUpstream {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    scripts: VecDeque<Vec<Step>>,
    heads: Vec<String>,
}

/// A step on a connection after a request has been read.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes these bytes.
    Say(Bytes),
    /// Keeps the connection open without writing.
    Hold,
    /// Resets the connection instead of closing it.
    Reset,
}

impl Step {
    /// Returns the head of a stream, and this text as one chunk.
    #[must_use]
    pub fn stream(text: impl AsRef<[u8]>) -> Self {
        Self::stream_of_type("Content-Type: text/event-stream\r\n", text)
    }

    /// Like [`Self::stream`], with another line, or none, in place of `Content-Type`.
    #[must_use]
    pub fn stream_of_type(line: &str, text: impl AsRef<[u8]>) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\n{line}Transfer-Encoding: chunked\r\n\r\n");
        Self::Say([head.as_bytes(), &chunk(text.as_ref())].concat().into())
    }

    /// Returns a redirect.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        let head = format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\n");
        Self::Say(format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").into())
    }

    /// Returns one more chunk.
    #[must_use]
    pub fn chunk(text: impl AsRef<[u8]>) -> Self {
        Self::Say(chunk(text.as_ref()).into())
    }

    /// Returns bytes that are written unchanged.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Say(bytes.into())
    }
}

impl RawUpstream {
    /// Starts on a free loopback port.
    ///
    /// # Panics
    /// When there is none.
    #[expect(clippy::disallowed_methods, reason = "a fake lives as long as the runtime; there is nothing to hand over")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let upstream = Self { address, shared: Arc::default() };
        let accepting = upstream.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(socket));
            }
        });
        upstream
    }

    /// Returns the base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the script of the next connection that has none yet. Connections without a script are answered with 503.
    pub fn plays(&self, script: impl IntoIterator<Item = Step>) {
        self.lock().scripts.push_back(script.into_iter().collect());
    }

    /// Returns the heads of all requests.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.lock().heads.clone()
    }

    async fn serve(self, mut socket: TcpStream) {
        let mut request = BytesMut::new();
        while !request.windows(4).any(|it| it == b"\r\n\r\n") {
            if !matches!(socket.read_buf(&mut request).await, Ok(count) if count > 0) {
                return;
            }
        }
        let end = request.windows(4).position(|it| it == b"\r\n\r\n").map_or(request.len(), |it| it + 4);
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        while request.len() < end + body_length(&head) {
            if !matches!(socket.read_buf(&mut request).await, Ok(count) if count > 0) {
                return;
            }
        }
        let script = {
            let mut shared = self.lock();
            shared.heads.push(head);
            shared.scripts.pop_front()
        };
        let unavailable = || vec![Step::bytes("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")];
        for step in script.unwrap_or_else(unavailable) {
            match step {
                Step::Say(bytes) => {
                    if socket.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Hold => std::future::pending().await,
                Step::Reset => {
                    let _ = socket.set_zero_linger();
                    return;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock()
    }
}

fn chunk(text: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

/// Returns the length of the body that follows a head.
fn body_length(head: &str) -> usize {
    let lengths = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().and_then(|(_, length)| length.trim().parse().ok()).unwrap_or_default()
}
