//! A fake Consul agent with a key/value store, written from the documentation of Consul's HTTP API
//! (<https://developer.hashicorp.com/consul/api-docs/kv>, <https://developer.hashicorp.com/consul/api-docs/txn>).
//!
//! It has Consul's limits and its texts of errors, checks tokens, and fails on command. Blocking queries and sessions are
//! left out.

mod http;
mod store;

use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use self::http::{Request, Response};
use self::store::Store;

/// The agent. Clones are cheap and are the same agent; it ends with the process.
#[derive(Clone)]
pub struct FakeConsul {
    address: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    store: Store,
    /// The token that every request needs; `None` without access control.
    token: Option<String>,
    is_down: bool,
    /// Status and text of every response in place of the usual one.
    failure: Option<(u16, String)>,
    requests: usize,
}

impl FakeConsul {
    /// Starts an agent without keys.
    ///
    /// # Panics
    /// When there is no free port on loopback.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("an address").to_string();
        let consul = Self { address, shared: Arc::default() };
        let serving = consul.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = serving.clone();
                std::thread::spawn(move || {
                    // A client that goes away is no concern of the agent.
                    let _ = connection.serve(&stream);
                });
            }
        });
        consul
    }

    /// Returns host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Rejects all requests without this token from now on.
    pub fn requires_token(&self, token: &str) {
        self.shared.lock().token = Some(token.to_owned());
    }

    /// Closes all connections without a response, until it comes back.
    pub fn goes_down(&self) {
        self.shared.lock().is_down = true;
    }

    /// Ends an outage.
    pub fn comes_back(&self) {
        self.shared.lock().is_down = false;
    }

    /// Answers every request with this status and text; `None` ends that.
    pub fn fails(&self, failure: Option<(u16, &str)>) {
        self.shared.lock().failure = failure.map(|(status, text)| (status, text.to_owned()));
    }

    /// Removes all keys.
    pub fn wipe(&self) {
        self.shared.lock().store.wipe();
    }

    /// Writes a key.
    pub fn set(&self, key: &str, value: &str) {
        self.shared.lock().store.set(key, value.as_bytes().to_vec());
    }

    /// Returns a value as text; `None` if there is no such key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        self.shared.lock().store.get(key).map(|it| String::from_utf8_lossy(&it).into_owned())
    }

    /// Returns the names of all keys, in their order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.shared.lock().store.keys("")
    }

    /// Returns the keys that clients have written or deleted, in the order in which that happened; deleted ones begin with
    /// a minus sign.
    #[must_use]
    pub fn writes(&self) -> Vec<String> {
        self.shared.lock().store.writes()
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.lock().requests
    }

    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            let response = {
                let mut shared = self.shared.lock();
                if shared.is_down {
                    return Ok(());
                }
                shared.requests += 1;
                shared.respond(&request)
            };
            response.write(stream)?;
        }
        Ok(())
    }
}

impl Shared {
    fn respond(&mut self, request: &Request) -> Response {
        if let Some((status, text)) = &self.failure {
            return Response::text(*status, text);
        }
        if let Some(token) = &self.token {
            match request.token() {
                Some(sent) if sent == token => (),
                Some(_) => return Response::text(403, "ACL not found"),
                None => {
                    let text = "Permission denied: anonymous token lacks permission 'key:read'. The anonymous token is \
                                used implicitly when a request does not specify a token.";
                    return Response::text(403, text);
                }
            }
        }
        let path = request.path.clone();
        match (request.method.as_str(), path.strip_prefix("/v1/kv/")) {
            ("GET", Some(key)) => self.store.read(key, request),
            ("PUT", Some(key)) => self.store.put(key, request),
            ("DELETE", Some(key)) => self.store.delete(key, request),
            ("PUT", None) if path == "/v1/txn" => self.store.transact(request),
            ("GET", None) if path == "/v1/status/leader" => Response::text(200, "\"127.0.0.1:8300\""),
            (_, None) => Response::text(404, &format!("Invalid URL path: not found {path}")),
            (method, Some(_)) => Response::text(405, &format!("method {method} not allowed")),
        }
    }
}
