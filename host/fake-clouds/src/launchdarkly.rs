//! A fake of LaunchDarkly's services: streams flags, accepts events, records requests, and fails on command.

mod answers;
mod big_segments;
mod lists;
mod transfers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::time::Instant;

pub use self::transfers::TransferAnswer;

/// The fake service. Cheap to clone; it ends with the runtime.
#[derive(Clone)]
pub struct FakeLaunchDarkly {
    address: SocketAddr,
    shared: Arc<Mutex<Cloud>>,
}

#[derive(Default)]
struct Cloud {
    environments: HashMap<String, Environment>,
    /// Big Segment revisions by SDK key.
    big_segments: HashMap<String, big_segments::Revisions>,
    /// Responses to the next stream requests, before the usual ones.
    next_streams: VecDeque<StreamAnswer>,
    /// Responses to requests of FDv2.
    transfers: transfers::Script,
    /// Whether every stream request is answered with 503.
    is_down: bool,
    /// Response to goal requests in place of the usual one.
    goals: Option<GoalsAnswer>,
    /// Statuses of the next event posts, before the usual 202.
    next_posts: VecDeque<u16>,
    /// Whether posts are answered 503 and not recorded.
    refuses_posts: bool,
    /// Delay of responses to posts.
    post_delay: Duration,
    /// `Date` of responses to posts in place of the real one.
    post_date: Option<&'static str>,
    requests: Vec<Recorded>,
}

#[derive(Clone)]
struct GoalsAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

struct Environment {
    flags: BTreeMap<String, Value>,
    segments: BTreeMap<String, Value>,
    /// For auto-configuration: the content of the first event in place of flags and segments.
    list: Option<Value>,
    /// Whether there is data to send; without it, a stream opens and stays silent.
    has_data: bool,
    events: broadcast::Sender<Sent>,
    /// The same data by FDv2.
    states: transfers::States,
}

/// What is sent on open streams.
#[derive(Clone, Debug)]
enum Sent {
    Bytes(Bytes),
    Close,
}

/// The response to a stream request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamAnswer {
    /// A response with this status and no body.
    Status(u16),
    /// An open stream that sends nothing.
    Silence,
    /// A 302 to this path.
    Redirect(&'static str),
}

/// A request that the fake received.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Time of arrival.
    pub at: Instant,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as received.
    pub raw_body: Bytes,
}

impl Recorded {
    /// Returns the body after decompression.
    ///
    /// # Panics
    /// When the body does not match its headers.
    #[must_use]
    pub fn body(&self) -> Bytes {
        if self.header("content-encoding") != Some("gzip") {
            return self.raw_body.clone();
        }
        let mut body = Vec::new();
        flate2::read::GzDecoder::new(&self.raw_body[..]).read_to_end(&mut body).expect("a gzip body");
        body.into()
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// When the body is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body()).expect("a JSON body")
    }

    fn is_stream(&self) -> bool {
        self.path.split('?').next().is_some_and(|path| path.ends_with("/all"))
    }

    /// Returns the value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl FakeLaunchDarkly {
    /// Starts the service on a free loopback port.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free loopback port")
    }

    /// Starts the service on an address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let cloud = Self { address: listener.local_addr()?, shared: Arc::default() };
        let router = Router::new().fallback(answers::answer).with_state(cloud.clone());
        serve(listener, router);
        Ok(cloud)
    }

    /// Returns the base URL of every service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds an environment without data, whose streams stay silent.
    ///
    /// Here and below, an environment is identified by its SDK key, and the variant of a payload filter by key and
    /// query: `sdk-…?filter=checkout`.
    pub fn add_environment(&self, sdk_key: &str) {
        self.lock().environments.entry(sdk_key.to_owned()).or_insert_with(|| Environment {
            flags: BTreeMap::new(),
            segments: BTreeMap::new(),
            list: None,
            has_data: false,
            events: broadcast::channel(4096).0,
            states: transfers::States::default(),
        });
    }

    /// Replaces all data, and sends it on open streams. `data` has `flags` and `segments`.
    pub fn puts(&self, sdk_key: &str, data: &Value) {
        self.add_environment(sdk_key);
        self.with(sdk_key, |environment| {
            let map = |name: &str| {
                let items = data.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
                items.into_iter().collect::<BTreeMap<_, _>>()
            };
            environment.flags = map("flags");
            environment.segments = map("segments");
            environment.has_data = true;
            environment.send(environment.put());
            environment.states.replace(&environment.flags, &environment.segments);
        });
    }

    /// Changes one flag, and sends it on open streams. The key is the one in the JSON.
    ///
    /// # Panics
    /// When the flag has no key.
    pub fn patches(&self, sdk_key: &str, flag: &Value) {
        let key = flag["key"].as_str().expect("a flag has a key").to_owned();
        self.with(sdk_key, |environment| {
            environment.flags.insert(key.clone(), flag.clone());
            environment.send(event("patch", &json!({"path": format!("/flags/{key}"), "data": flag})));
            environment.states.change(vec![("flag", key, Some(flag.clone()))]);
        });
    }

    /// Changes one segment, and sends it on open streams.
    ///
    /// # Panics
    /// When the segment has no key.
    pub fn patches_segment(&self, sdk_key: &str, segment: &Value) {
        let key = segment["key"].as_str().expect("a segment has a key").to_owned();
        self.with(sdk_key, |environment| {
            environment.segments.insert(key.clone(), segment.clone());
            environment.send(event("patch", &json!({"path": format!("/segments/{key}"), "data": segment})));
            environment.states.change(vec![("segment", key, Some(segment.clone()))]);
        });
    }

    /// Deletes one item, and notifies open streams. `path` is `/flags/KEY` or `/segments/KEY`.
    pub fn deletes(&self, sdk_key: &str, path: &str, version: i64) {
        self.with(sdk_key, |environment| {
            if let Some(key) = path.strip_prefix("/flags/") {
                environment.flags.remove(key);
                environment.states.change(vec![("flag", key.to_owned(), None)]);
            } else if let Some(key) = path.strip_prefix("/segments/") {
                environment.segments.remove(key);
                environment.states.change(vec![("segment", key.to_owned(), None)]);
            }
            environment.send(event("delete", &json!({"path": path, "version": version})));
        });
    }

    /// Sends bytes unchanged on open streams.
    pub fn sends_bytes(&self, sdk_key: &str, bytes: impl AsRef<[u8]>) {
        self.with(sdk_key, |environment| environment.send(Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// Ends the open streams of an environment, like a service that restarts.
    pub fn closes_streams(&self, sdk_key: &str) {
        self.with(sdk_key, |environment| {
            let _ = environment.events.send(Sent::Close);
            environment.states.close();
        });
    }

    /// Answers the next stream requests in this way, one each.
    pub fn answers_streams_with(&self, answers: impl IntoIterator<Item = StreamAnswer>) {
        self.lock().next_streams.extend(answers);
    }

    /// Ends all open streams and answers new ones with 503, until [`Self::comes_back`].
    pub fn goes_down(&self) {
        let mut cloud = self.lock();
        cloud.is_down = true;
        for environment in cloud.environments.values() {
            let _ = environment.events.send(Sent::Close);
            environment.states.close();
        }
    }

    /// Accepts streams again.
    pub fn comes_back(&self) {
        self.lock().is_down = false;
    }

    /// Answers goal requests in this way from now on.
    pub fn answers_goals_with(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.lock().goals = Some(GoalsAnswer { status, headers, body: body.to_owned() });
    }

    /// Answers the next event posts with these statuses, one each.
    pub fn answers_posts_with(&self, statuses: impl IntoIterator<Item = u16>) {
        self.lock().next_posts.extend(statuses);
    }

    /// Answers event posts with 503 and does not record them, or accepts them again.
    pub fn refuses_posts(&self, refuses_posts: bool) {
        self.lock().refuses_posts = refuses_posts;
    }

    /// Delays every response to a post.
    pub fn delays_posts(&self, delay: Duration) {
        self.lock().post_delay = delay;
    }

    /// Answers every post with this `Date`.
    pub fn dates_posts(&self, date: &'static str) {
        self.lock().post_date = Some(date);
    }

    /// Returns all requests, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    /// Returns stream requests.
    #[must_use]
    pub fn stream_requests(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(|it| it.method == Method::GET && it.is_stream()).collect()
    }

    /// Returns requests to a path, with any query.
    #[must_use]
    pub fn requests_to(&self, path: &str) -> Vec<Recorded> {
        self.requests().into_iter().filter(|it| it.path.split('?').next() == Some(path)).collect()
    }

    /// Returns posts to a path.
    #[must_use]
    pub fn posts(&self, path: &str) -> Vec<Recorded> {
        self.requests().into_iter().filter(|it| it.method == Method::POST && it.path == path).collect()
    }

    /// Returns the number of open streams.
    #[must_use]
    pub fn open_streams(&self, sdk_key: &str) -> usize {
        self.lock().environments.get(sdk_key).map_or(0, |it| it.events.receiver_count())
    }

    fn with(&self, sdk_key: &str, change: impl FnOnce(&mut Environment)) {
        if let Some(environment) = self.lock().environments.get_mut(sdk_key) {
            change(environment);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cloud> {
        self.shared.lock()
    }
}

impl Environment {
    fn put(&self) -> Bytes {
        let data = self.list.clone().unwrap_or_else(|| json!({"flags": self.flags, "segments": self.segments}));
        event("put", &json!({"path": "/", "data": data}))
    }

    fn send(&self, bytes: Bytes) {
        // It is fine if no stream is open.
        let _ = self.events.send(Sent::Bytes(bytes));
    }
}

fn event(name: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

#[expect(clippy::disallowed_methods, reason = "a fake lives as long as the runtime; there is nothing to hand over")]
fn serve(listener: TcpListener, router: Router) {
    tokio::spawn(async move { axum::serve(listener, router).await });
}
