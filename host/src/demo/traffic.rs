//! Requests of SDKs of both vendors at a steady rate: polls, evaluations, streams and batches of events.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};
use yardarm_core::time::unix_ms;

use super::harness::{API_KEY, ENVIRONMENT};
use super::http;
use super::launchdarkly::{ENV_ID, MOBILE_KEY, SDK_KEY};

/// Users, and each as a context in the form that paths have: base64 of `{"kind":"user","key":"…"}`.
const USERS: [(&str, &str); 4] = [
    ("ada", "eyJraW5kIjoidXNlciIsImtleSI6ImFkYSJ9"),
    ("alan", "eyJraW5kIjoidXNlciIsImtleSI6ImFsYW4ifQ"),
    ("grace", "eyJraW5kIjoidXNlciIsImtleSI6ImdyYWNlIn0"),
    ("edsger", "eyJraW5kIjoidXNlciIsImtleSI6ImVkc2dlciJ9"),
];
/// Most streams that are open at a time.
const MOST_STREAMS: usize = 3;

/// Fake SDKs.
pub(crate) struct Traffic {
    gateway: SocketAddr,
    /// Headers of every request, as whole lines.
    headers: Vec<String>,
    /// Number of responses by status; the status 0 stands for none.
    responses: Mutex<BTreeMap<u16, u64>>,
}

/// A request of an SDK.
enum SdkRequest {
    Plain { line: String, headers: Vec<String>, body: Value },
    Stream { path: String, headers: Vec<String> },
    Token,
}

impl Traffic {
    /// Creates SDKs of the gateway at this address; every request has these headers, which are whole lines.
    pub(crate) fn new(gateway: SocketAddr, headers: Vec<String>) -> Self {
        Self { gateway, headers, responses: Mutex::default() }
    }

    /// Returns the number of responses by status; the status 0 stands for none.
    pub(crate) fn responses(&self) -> BTreeMap<u16, u64> {
        self.responses.lock().clone()
    }

    /// Sends requests one after another, forever; `rate` is their number per second, and with zero there are none.
    pub(crate) async fn keep_sending(&self, rate: u32) {
        if rate == 0 {
            return std::future::pending().await;
        }
        let mut timer = interval(Duration::from_secs(1) / rate);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streams = Vec::new();
        let mut token = String::new();
        for round in 0.. {
            for request in requests(round, &token) {
                timer.tick().await;
                let status = match request {
                    SdkRequest::Plain { line, headers, body } => self.send(&line, headers, &body).await,
                    SdkRequest::Stream { path, headers } => self.open(&path, headers, &mut streams).await,
                    SdkRequest::Token => self.exchange_key(&mut token).await,
                };
                // A request without a response is counted like the others.
                *self.responses.lock().entry(status.unwrap_or(0)).or_default() += 1;
            }
        }
    }

    async fn send(&self, line: &str, headers: Vec<String>, body: &Value) -> anyhow::Result<u16> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Ok(http::send(self.gateway, line, &self.with_own(headers), &body).await?.status)
    }

    /// Opens a stream that stays open while later ones are opened.
    async fn open(&self, path: &str, headers: Vec<String>, streams: &mut Vec<TcpStream>) -> anyhow::Result<u16> {
        let (status, stream) = http::open(self.gateway, path, &self.with_own(headers)).await?;
        if streams.len() >= MOST_STREAMS {
            streams.remove(0);
        }
        streams.push(stream);
        Ok(status)
    }

    async fn exchange_key(&self, token: &mut String) -> anyhow::Result<u16> {
        let body = json!({ "apiKey": API_KEY }).to_string();
        let response = http::send(self.gateway, "POST /client/auth", &self.with_own(Vec::new()), &body).await?;
        if let Some(text) = response.json()["authToken"].as_str() {
            text.clone_into(token);
        }
        Ok(response.status)
    }

    fn with_own(&self, headers: Vec<String>) -> Vec<String> {
        headers.into_iter().chain(self.headers.iter().cloned()).collect()
    }
}

/// Returns the requests of one round, each kind once; `token` is what the SDKs of Harness send.
fn requests(round: usize, token: &str) -> Vec<SdkRequest> {
    let (user, context) = USERS[round % USERS.len()];
    let key = |key: &str| vec![format!("Authorization: {key}")];
    let get = |path: String, headers| SdkRequest::Plain { line: format!("GET {path}"), headers, body: Value::Null };
    let post = |path: &str, mut headers: Vec<String>, body| {
        headers.extend(["Content-Type: application/json", "X-LaunchDarkly-Event-Schema: 4"].map(str::to_owned));
        SdkRequest::Plain { line: format!("POST {path}"), headers, body }
    };
    let stream = |path: String, headers| SdkRequest::Stream { path, headers };
    let bearer = || key(&format!("Bearer {token}"));
    vec![
        get("/sdk/flags".to_owned(), key(SDK_KEY)),
        get(format!("/msdk/evalx/contexts/{context}"), key(MOBILE_KEY)),
        post("/bulk", key(SDK_KEY), events(user)),
        get(format!("/sdk/evalx/{ENV_ID}/contexts/{context}"), Vec::new()),
        stream("/all".to_owned(), key(SDK_KEY)),
        post(&format!("/events/bulk/{ENV_ID}"), Vec::new(), events(user)),
        stream(format!("/meval/{context}"), key(MOBILE_KEY)),
        post("/mobile/events/bulk", key(MOBILE_KEY), events(user)),
        SdkRequest::Token,
        get(format!("/client/env/{ENVIRONMENT}/feature-configs"), bearer()),
        get(format!("/client/env/{ENVIRONMENT}/target/{user}/evaluations"), bearer()),
        post(&format!("/metrics/{ENVIRONMENT}"), bearer(), metrics(user)),
        stream("/stream".to_owned(), [bearer(), vec![format!("API-Key: {API_KEY}")]].concat()),
    ]
}

/// Returns a batch with an event of each common kind.
fn events(user: &str) -> Value {
    let now = unix_ms();
    let context = json!({"kind": "user", "key": user, "name": user, "email": format!("{user}@example.com")});
    json!([
        {"kind": "identify", "creationDate": now, "context": context},
        {"kind": "custom", "key": "order", "creationDate": now, "context": context, "data": {"total": 12.5}},
        {"kind": "click", "key": "buy", "creationDate": now, "context": context, "url": "https://shop.example/"},
        {"kind": "feature", "key": "banner-text", "creationDate": now, "context": context, "value": "Welcome aboard",
         "variation": 0, "version": 1, "default": ""},
    ])
}

/// Returns how often a target received a variation.
fn metrics(user: &str) -> Value {
    let attributes: Vec<Value> = [
        ("featureIdentifier", "banner-text"),
        ("variationIdentifier", "Welcome aboard"),
        ("target", user),
        ("SDK_LANGUAGE", "go"),
        ("SDK_TYPE", "server"),
        ("SDK_VERSION", "1.0.0"),
    ]
    .map(|(key, value)| json!({"key": key, "value": value}))
    .into();
    let data = json!({"timestamp": unix_ms(), "count": 1, "metricsType": "FFMETRICS", "attributes": attributes});
    json!({"metricsData": [data], "targetData": [{"identifier": user, "name": user, "attributes": []}]})
}
