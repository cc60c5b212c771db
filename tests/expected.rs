//! The expected response: its status, all of its headers, its body.

use serde_json::Value;
use yardarm_testkit::Answer;

pub(crate) const TEXT: &str = "content-type: text/plain; charset=utf-8";
pub(crate) const JSON: &str = "content-type: application/json";
const NOSNIFF: &str = "x-content-type-options: nosniff";

/// The bodies A to E of refusals (the table at the top of `docs/compatibility/launchdarkly.md`).
pub(crate) const TEXT_A: &str = "Relay Proxy is not yet fully initialized, does not have list of environments yet";
pub(crate) const TEXT_B: &str = "Relay Proxy recognizes the provided credential, but the payload filter was not found";
pub(crate) const TEXT_C: &str =
    "Relay Proxy does not recognize the client credential (missing or invalid Authorization header)";
pub(crate) const TEXT_D: &str = "URL did not contain an environment ID";
pub(crate) const TEXT_E: &str = "client was not initialized";

pub(crate) const ALLOWED_HEADERS: &str = "Cache-Control,Content-Type,Content-Length,Accept-Encoding,X-LaunchDarkly-User-Agent,X-LaunchDarkly-Payload-ID,X-LaunchDarkly-Wrapper,X-LaunchDarkly-Event-Schema,X-LaunchDarkly-Tags";

/// A complete response, except for the headers that [`Answer`] has checked and left out.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    status: u16,
    headers: Vec<String>,
    body: Body,
    is_passed_through: bool,
}

#[derive(Debug, Clone)]
enum Body {
    Bytes(Vec<u8>),
    /// JSON, compared regardless of the order of properties and of white space.
    Json(Value),
    Any,
}

/// Expects no body and no headers.
pub(crate) fn empty(status: u16) -> Expected {
    Expected { status, headers: Vec::new(), body: Body::Bytes(Vec::new()), is_passed_through: false }
}

pub(crate) fn text(status: u16, text: &str) -> Expected {
    Expected { body: Body::Bytes(text.into()), ..empty(status) }.with(TEXT)
}

pub(crate) fn json(status: u16, json: Value) -> Expected {
    Expected { body: Body::Json(json), ..empty(status) }.with(JSON)
}

/// Expects `{"message": …}`.
pub(crate) fn message(status: u16, text: &str) -> Expected {
    json(status, serde_json::json!({ "message": text }))
}

/// Expects any JSON.
pub(crate) fn some_json(status: u16) -> Expected {
    Expected { body: Body::Any, ..empty(status) }.with(JSON)
}

/// Expects the response to an unknown path.
pub(crate) fn page_not_found() -> Expected {
    text(404, "404 page not found\n").with(NOSNIFF)
}

pub(crate) fn not_initialized() -> Expected {
    message(503, "Service not initialized")
}

impl Expected {
    /// Adds a header.
    pub(crate) fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    /// Expects a forwarded response of another server, which has no `Retry-After` from the gateway.
    pub(crate) fn passed_through(mut self) -> Self {
        self.is_passed_through = true;
        self
    }

    /// Sets the `Content-Type`.
    pub(crate) fn with_type(mut self, content_type: &str) -> Self {
        self.headers.retain(|it| !it.starts_with("content-type"));
        self.with(&format!("content-type: {content_type}"))
    }

    pub(crate) fn nosniff(self) -> Self {
        self.with(NOSNIFF)
    }

    /// Expects an image or other bytes as body.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.body = Body::Bytes(bytes.to_owned());
        self
    }

    /// Adds the six CORS headers (L162).
    pub(crate) fn cors(self, origin: &str, methods: &str) -> Self {
        self.cors_with_headers(origin, methods, ALLOWED_HEADERS)
    }

    /// Adds the six CORS headers (L162) with another list of allowed headers.
    pub(crate) fn cors_with_headers(self, origin: &str, methods: &str, allowed: &str) -> Self {
        self.with("access-control-allow-credentials: false")
            .with(&format!("access-control-allow-headers: {allowed}"))
            .with(&format!("access-control-allow-methods: {methods}"))
            .with(&format!("access-control-allow-origin: {origin}"))
            .with("access-control-expose-headers: Date")
            .with("access-control-max-age: 300")
    }

    /// Adds the only header that a browser receives when its environment is unknown.
    pub(crate) fn cors_methods(self, methods: &str) -> Self {
        self.with(&format!("access-control-allow-methods: {methods}"))
    }

    /// Fails the test if the response differs.
    pub(crate) fn compare(&self, what: &str, answer: &Answer) {
        let mut headers = self.headers.clone();
        headers.sort();
        let mut found: Vec<_> = answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        // Every temporary refusal of the gateway has one, whose value varies.
        let says_when = headers.iter().any(|it| it.starts_with("retry-after"));
        if [429, 503].contains(&self.status) && answer.status == self.status && !self.is_passed_through && !says_when {
            let seconds = answer.header("retry-after").and_then(|it| it.parse::<u32>().ok());
            assert!(seconds.is_some_and(|it| (1..=10).contains(&it)), "{what}, Retry-After: {found:?}");
            found.retain(|it| !it.starts_with("retry-after"));
        }
        // The headers that name the environment are in every response after its credential was found, and in no other.
        // Most tests do not check them.
        let is_unknown = self.status == 401 || matches!(&self.body, Body::Bytes(text) if text == TEXT_D.as_bytes());
        if !is_unknown && !headers.iter().any(|it| it.starts_with("x-ld-envid")) {
            found.retain(|it| !it.starts_with("x-ld-envid"));
        }
        let body = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, self.status, "{what}, with body {body}");
        assert_eq!(found, headers, "{what}");
        match &self.body {
            Body::Bytes(bytes) => assert_eq!(body, String::from_utf8_lossy(bytes), "{what}"),
            Body::Json(json) => assert_eq!(&answer.json(), json, "{what}"),
            Body::Any => {
                let _ = answer.json();
            }
        }
    }
}
