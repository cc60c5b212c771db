//! A server on loopback that plugins send requests to: it records each and answers all with the same response.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) url: String,
    shared: Arc<Mutex<Shared>>,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    head: String,
    pub(super) body: String,
}

struct Shared {
    response: (u16, String),
    arrived: Vec<Arrived>,
}

impl Origin {
    /// Starts a server that is unavailable.
    #[expect(clippy::disallowed_methods, reason = "a fake lives as long as the runtime; there is nothing to hand over")]
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Shared { response: (503, String::new()), arrived: Vec::new() };
        let origin = Self { url, shared: Arc::new(Mutex::new(shared)) };
        let accepting = origin.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // A client that goes away is no concern of the server.
                let _ = accepting.serve(socket).await;
            }
        });
        origin
    }

    /// Answers with this response from now on.
    pub(super) fn answers(&self, status: u16, body: &str) {
        self.shared.lock().response = (status, body.to_owned());
    }

    /// Returns the first request that satisfies a condition, if it has arrived.
    pub(super) fn find(&self, is_wanted: impl Fn(&Arrived) -> bool) -> Option<Arrived> {
        self.shared.lock().arrived.iter().find(|it| is_wanted(it)).cloned()
    }

    async fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let mut received = Vec::new();
        let arrived = loop {
            if let Some(arrived) = Arrived::parse(&received) {
                break arrived;
            }
            if socket.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let (status, body) = {
            let mut shared = self.shared.lock();
            shared.arrived.push(arrived);
            shared.response.clone()
        };
        let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        socket.write_all((head + &body).as_bytes()).await
    }
}

impl Arrived {
    /// Parses a request; `None` until it is complete.
    fn parse(received: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(received).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let arrived = Self { head: head.to_owned(), body: body.to_owned() };
        let length = arrived.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        (body.len() >= length).then_some(arrived)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}
