//! A fake of Harness' services: authenticates, returns flags and segments, streams changes, accepts metrics, records
//! requests, and fails on command. It does not evaluate: tests set the results for client SDKs.
//!
//! All services share one base URL, with any path as prefix: `/api/1.0`, `/gateway/cf`.

mod answers;
mod listener;
mod proxy;
mod route;
mod script;
mod stream;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

pub use self::script::HarnessAnswer;
use crate::launchdarkly::Recorded;

/// Default interval of heartbeats.
const BEAT: Duration = Duration::from_secs(15);

/// The fake service. Cheap to clone; it ends with the runtime.
///
/// Environments and their streams are identified by the ID (a UUID) of the environment. Streams of a proxy key are
/// identified by that key.
#[derive(Clone)]
pub struct FakeHarness {
    address: SocketAddr,
    listener: Arc<tokio::sync::Mutex<Option<listener::Listening>>>,
    shared: Arc<Mutex<Cloud>>,
}

struct Cloud {
    environments: BTreeMap<String, Environment>,
    /// Environments by API key.
    keys: HashMap<String, String>,
    proxies: HashMap<String, proxy::Proxy>,
    tokens: token::Tokens,
    script: script::Script,
    /// Interval of heartbeats; `None` for streams without them.
    beat: Option<Duration>,
    /// Whether every request is answered 503.
    is_down: bool,
    /// Whether every stream request is answered 503.
    streams_are_down: bool,
    /// Whether streams are at `/client/env/{id}/stream` and not at `/stream`.
    streams_are_listed: bool,
    /// Maximum length of a page.
    page_limit: usize,
    /// Whether the page after the last one has no list at all, instead of an empty one.
    ends_without_list: bool,
    requests: Vec<Recorded>,
    /// API keys and targets.
    registered: Vec<(String, Value)>,
}

struct Environment {
    identifier: String,
    flags: Vec<Value>,
    segments: Vec<Value>,
    targets: Vec<Value>,
    /// Key entries as listed by the admin service.
    listed_keys: Vec<Value>,
    /// Results by target and flag.
    evaluations: HashMap<String, BTreeMap<String, Value>>,
    events: broadcast::Sender<Sent>,
}

/// What is sent on open streams.
#[derive(Clone, Debug)]
enum Sent {
    Bytes(Bytes),
    Close,
}

/// The two kinds of items.
#[derive(Clone, Copy)]
enum Domain {
    Flag,
    Segment,
}

impl FakeHarness {
    /// The token that the admin service requires in `x-api-key`.
    pub const ADMIN_TOKEN: &str = "pat.admin.0001";

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
        let bound = listener::bind(address).await?;
        let cloud = Cloud {
            environments: BTreeMap::new(),
            keys: HashMap::new(),
            proxies: HashMap::new(),
            tokens: token::Tokens::default(),
            script: script::Script::default(),
            beat: Some(BEAT),
            is_down: false,
            streams_are_down: false,
            streams_are_listed: false,
            page_limit: usize::MAX,
            ends_without_list: false,
            requests: Vec::new(),
            registered: Vec::new(),
        };
        let cloud =
            Self { address: bound.local_addr()?, listener: Arc::default(), shared: Arc::new(Mutex::new(cloud)) };
        *cloud.listener.lock().await = Some(listener::serve(bound, cloud.clone()));
        Ok(cloud)
    }

    /// Returns the base URL of every service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds an environment without flags, with these API keys, whose hashes the admin service lists.
    pub fn adds_environment<'a>(&self, id: &str, identifier: &str, api_keys: impl IntoIterator<Item = &'a str>) {
        let mut cloud = self.lock();
        let environment = cloud.environments.entry(id.to_owned()).or_insert_with(|| Environment {
            identifier: identifier.to_owned(),
            flags: Vec::new(),
            segments: Vec::new(),
            targets: Vec::new(),
            listed_keys: Vec::new(),
            evaluations: HashMap::new(),
            events: broadcast::channel(4096).0,
        });
        let api_keys: Vec<_> = api_keys.into_iter().collect();
        for key in &api_keys {
            environment.lists_key(&Self::hash(key));
        }
        cloud.keys.extend(api_keys.into_iter().map(|key| (key.to_owned(), id.to_owned())));
    }

    /// Returns the SHA-256 of an API key in lower-case hexadecimal digits, as listed by the admin service.
    #[must_use]
    pub fn hash(api_key: &str) -> String {
        token::sha256(api_key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Replaces flags and segments without notifying open streams.
    pub fn puts(&self, id: &str, flags: impl IntoIterator<Item = Value>, segments: impl IntoIterator<Item = Value>) {
        self.with(id, |environment| {
            environment.flags = flags.into_iter().collect();
            environment.segments = segments.into_iter().collect();
        });
    }

    /// Stores a flag, and sends `create` or `patch` on open streams.
    pub fn changes_flag(&self, id: &str, flag: &Value) {
        self.changes(id, Domain::Flag, flag);
    }

    /// Stores a flag without notifying open streams.
    pub fn stores_flag(&self, id: &str, flag: &Value) {
        self.with(id, |environment| drop(environment.stores(Domain::Flag, flag)));
    }

    /// Deletes a flag, and notifies open streams.
    pub fn deletes_flag(&self, id: &str, identifier: &str) {
        self.deletes(id, Domain::Flag, identifier);
    }

    /// Stores a segment, and sends `create` or `patch` on open streams.
    pub fn changes_segment(&self, id: &str, segment: &Value) {
        self.changes(id, Domain::Segment, segment);
    }

    /// Deletes a segment, and notifies open streams.
    pub fn deletes_segment(&self, id: &str, identifier: &str) {
        self.deletes(id, Domain::Segment, identifier);
    }

    /// Sets the evaluation results of a target without notifying open streams: by flag, an object of `kind`,
    /// `identifier` and `value`.
    ///
    /// # Panics
    /// When `evaluations` is not an object.
    pub fn sets_evaluations(&self, id: &str, target: &str, evaluations: &Value) {
        let evaluations = evaluations.as_object().expect("an object by flag").clone().into_iter().collect();
        self.with(id, |environment| drop(environment.evaluations.insert(target.to_owned(), evaluations)));
    }

    /// Replaces the targets that the admin service lists.
    pub fn sets_targets(&self, id: &str, targets: impl IntoIterator<Item = Value>) {
        self.with(id, |environment| environment.targets = targets.into_iter().collect());
    }

    /// Adds a key hash to the list, and notifies proxy keys with this environment.
    pub fn adds_key(&self, id: &str, hash: &str) {
        self.with(id, |environment| environment.lists_key(hash));
        self.notifies_proxies(id, "apiKeyAdded", hash);
    }

    /// Adds an entry to the list unchanged, such as one without `key`.
    pub fn adds_key_entry(&self, id: &str, entry: &Value) {
        self.with(id, |environment| environment.listed_keys.push(entry.clone()));
    }

    /// Removes a key hash from the list, and notifies proxy keys with this environment.
    pub fn removes_key(&self, id: &str, hash: &str) {
        self.with(id, |environment| environment.listed_keys.retain(|it| it["key"] != hash));
        self.notifies_proxies(id, "apiKeyRemoved", hash);
    }

    /// Limits the length of pages, whatever length is requested.
    pub fn limits_pages(&self, size: usize) {
        self.lock().page_limit = size;
    }

    /// Sets whether the page after the last one has no list at all, instead of an empty one.
    pub fn ends_without_list(&self, ends_without_list: bool) {
        self.lock().ends_without_list = ends_without_list;
    }

    /// Returns all requests, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    /// Returns `GET` requests whose path, without query, has this suffix.
    #[must_use]
    pub fn gets(&self, path_suffix: &str) -> Vec<Recorded> {
        self.requested(&Method::GET, path_suffix)
    }

    /// Returns `POST` requests whose path, without query, has this suffix.
    #[must_use]
    pub fn posts(&self, path_suffix: &str) -> Vec<Recorded> {
        self.requested(&Method::POST, path_suffix)
    }

    /// Returns the targets of authentication requests, in order of arrival: API key and target.
    #[must_use]
    pub fn registered_targets(&self) -> Vec<(String, Value)> {
        self.lock().registered.clone()
    }

    fn requested(&self, method: &Method, path_suffix: &str) -> Vec<Recorded> {
        let is_wanted = |it: &Recorded| {
            it.method == *method && it.path.split('?').next().is_some_and(|path| path.ends_with(path_suffix))
        };
        self.requests().into_iter().filter(is_wanted).collect()
    }

    fn changes(&self, id: &str, domain: Domain, item: &Value) {
        let mut event = None;
        self.with(id, |environment| event = Some(environment.stores(domain, item)));
        self.sends_to_all(id, event);
    }

    fn deletes(&self, id: &str, domain: Domain, identifier: &str) {
        let mut event = None;
        self.with(id, |environment| event = Some(environment.removes(domain, identifier)));
        self.sends_to_all(id, event);
    }

    fn with(&self, id: &str, change: impl FnOnce(&mut Environment)) {
        if let Some(environment) = self.lock().environments.get_mut(id) {
            change(environment);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cloud> {
        self.shared.lock()
    }
}

impl Domain {
    fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Segment => "target-segment",
        }
    }

    /// Returns the property that identifies an item.
    fn key(self) -> &'static str {
        match self {
            Self::Flag => "feature",
            Self::Segment => "identifier",
        }
    }

    fn event(self, event: &str, identifier: &str, version: i64) -> Value {
        json!({"event": event, "domain": self.name(), "identifier": identifier, "version": version})
    }
}

impl Environment {
    fn items(&mut self, domain: Domain) -> &mut Vec<Value> {
        match domain {
            Domain::Flag => &mut self.flags,
            Domain::Segment => &mut self.segments,
        }
    }

    /// Stores an item; returns the event to send.
    fn stores(&mut self, domain: Domain, item: &Value) -> Value {
        let identifier = item[domain.key()].as_str().expect("an item has an identifier").to_owned();
        let items = self.items(domain);
        let event = match items.iter_mut().find(|it| it[domain.key()] == *identifier) {
            Some(known) => {
                *known = item.clone();
                "patch"
            }
            None => {
                items.push(item.clone());
                "create"
            }
        };
        domain.event(event, &identifier, item["version"].as_i64().unwrap_or(1))
    }

    /// Removes an item; returns the event to send.
    fn removes(&mut self, domain: Domain, identifier: &str) -> Value {
        let items = self.items(domain);
        let known = items.iter().position(|it| it[domain.key()] == *identifier).map(|index| items.remove(index));
        let version = known.and_then(|it| it["version"].as_i64()).unwrap_or_default();
        domain.event("delete", identifier, version + 1)
    }

    fn lists_key(&mut self, hash: &str) {
        let name = format!("key{}", self.listed_keys.len() + 1);
        self.listed_keys.push(
            json!({"name": name, "identifier": name, "type": "Server", "apiKey": "********-0000-****", "key": hash}),
        );
    }

    fn hashes(&self) -> Vec<&str> {
        self.listed_keys.iter().filter_map(|it| it["key"].as_str()).collect()
    }
}

/// Returns a page of a list, with the properties beside it.
fn page<T>(all: &[T], index: usize, size: usize) -> (&[T], Map<String, Value>) {
    let size = size.max(1);
    let from = index.saturating_mul(size).min(all.len());
    let to = from.saturating_add(size).min(all.len());
    let about = [
        ("itemCount", all.len()),
        ("pageCount", all.len().div_ceil(size)),
        ("pageIndex", index),
        ("pageSize", size),
        ("version", 1),
    ];
    (&all[from..to], about.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
}
