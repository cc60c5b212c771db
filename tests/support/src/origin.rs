//! A server on loopback that plugins send requests to: it records each, and its responses can be chosen.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::until;

/// The server. Clones are cheap and are the same server.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its URL, without a path.
    pub url: String,
    shared: Arc<Mutex<Shared>>,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// Request line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

#[derive(Debug)]
struct Shared {
    /// Never empty; the last one is for all further requests.
    responses: VecDeque<(u16, String)>,
    arrived: Vec<Arrived>,
}

impl Origin {
    /// Starts a server that is unavailable.
    ///
    /// # Panics
    /// If there is no free port on loopback.
    #[expect(clippy::disallowed_methods, reason = "a fake lives as long as the runtime; there is nothing to hand over")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Shared { responses: [(503, String::new())].into(), arrived: Vec::new() };
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
    pub fn answers(&self, status: u16, body: &str) {
        self.answers_in_turn(&[(status, body)]);
    }

    /// Answers with these responses one after the other, and with the last of them from then on.
    ///
    /// # Panics
    /// If there are none.
    pub fn answers_in_turn(&self, responses: &[(u16, &str)]) {
        assert!(!responses.is_empty(), "no response");
        self.shared.lock().responses = responses.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
    }

    /// Returns the requests, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Arrived> {
        self.shared.lock().arrived.clone()
    }

    /// Returns the first request that satisfies a condition, if it has arrived.
    pub fn find(&self, is_wanted: impl Fn(&Arrived) -> bool) -> Option<Arrived> {
        self.shared.lock().arrived.iter().find(|it| is_wanted(it)).cloned()
    }

    /// Waits for a number of requests; returns the bodies of all.
    ///
    /// # Panics
    /// If they do not arrive in time.
    pub async fn bodies(&self, count: usize) -> Vec<String> {
        until("requests", || self.shared.lock().arrived.len() >= count).await;
        self.requests().into_iter().map(|it| it.body).collect()
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
        let response = {
            let mut shared = self.shared.lock();
            shared.arrived.push(arrived);
            if shared.responses.len() > 1 { shared.responses.pop_front() } else { shared.responses.front().cloned() }
        };
        let (status, body) = response.unwrap_or((503, String::new()));
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

    /// Returns a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// If it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}
