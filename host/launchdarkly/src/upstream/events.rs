//! Events on their way to the vendor: grouped by what they must carry, posted on a timer, retried once.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;
use yardarm_core::hooks::{BatchFacts, Event, HookFuture, Hooks};
use yardarm_core::intake::Intake;
use yardarm_core::outbox::{Delivery, Ledger, LedgerReport, Outbox, OutboxSettings, Sent};
use yardarm_core::{Backoff, EnvironmentLabel, Lifecycle};

use super::HttpClients;
use crate::config::{Config, EnvironmentConfig};
use crate::environments::SdkKind;

/// Bytes of accepted posts whose events have not been read yet, per environment. Posts beyond are answered 503,
/// which SDKs repeat.
const MAX_UNREAD_KIB: usize = 64 << 10;
/// Diagnostic posts under way per environment; further ones are answered 202 and dropped, for they are statistics.
const MAX_DIAGNOSTICS: usize = 32;
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The way out for events of one environment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventPort(Arc<Port>);

struct Port {
    label: EnvironmentLabel,
    intake: Arc<Intake>,
    outbox: Arc<Outbox<QueueKey, Poster>>,
    ledger: Arc<Ledger>,
    hooks: Hooks,
    poster: Poster,
    unread: Arc<Semaphore>,
    diagnostics: Arc<Semaphore>,
    lifecycle: Lifecycle,
}

/// One post of events by an SDK.
pub(crate) struct Post {
    pub(crate) kind: SdkKind,
    pub(crate) route: &'static str,
    /// Version of the event format.
    pub(crate) schema: u32,
    /// Value of `X-LaunchDarkly-Tags`.
    pub(crate) tags: Option<Arc<str>>,
    /// Decompressed.
    pub(crate) body: Bytes,
}

/// Too much is waiting to be read.
#[derive(Debug)]
pub(crate) struct Busy;

/// Events with the same key travel in one post.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct QueueKey {
    kind: SdkKind,
    schema: u32,
    tags: Option<Arc<str>>,
}

/// A post ready to be sent; a retry sends the same bytes under the same identifier.
struct Payload {
    id: String,
    body: Bytes,
}

#[derive(Clone)]
struct Poster(Arc<PosterInner>);

struct PosterInner {
    client: reqwest::Client,
    base: String,
    environment: EnvironmentConfig,
    /// Kinds of callers whose credential upstream refused, and until when nothing is sent for them.
    off: Mutex<HashMap<SdkKind, Off>>,
}

struct Off {
    until: Instant,
    backoff: Backoff,
}

/// The two properties that plugins are told without the grant to read bodies.
#[derive(Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default, rename = "creationDate")]
    creation_date: Option<f64>,
}

impl EventPort {
    pub(crate) fn start(
        config: &Config,
        environment: &EnvironmentConfig,
        label: EnvironmentLabel,
        http: &HttpClients,
        hooks: Hooks,
        lifecycle: &Lifecycle,
    ) -> Self {
        let poster = Poster(Arc::new(PosterInner {
            client: http.requests.clone(),
            base: config.events_uri.clone(),
            environment: environment.clone(),
            off: Mutex::default(),
        }));
        let settings =
            OutboxSettings { capacity: config.events_capacity, flush_interval: config.events_flush_interval };
        let ledger = Arc::new(Ledger::default());
        Self(Arc::new(Port {
            label,
            intake: Intake::start(hooks.clone(), Arc::clone(&ledger), lifecycle),
            outbox: Outbox::start(settings, poster.clone(), Arc::clone(&ledger), lifecycle),
            ledger,
            hooks,
            poster,
            unread: Arc::new(Semaphore::new(MAX_UNREAD_KIB)),
            diagnostics: Arc::new(Semaphore::new(MAX_DIAGNOSTICS)),
            lifecycle: lifecycle.clone(),
        }))
    }

    /// Takes a post over; reading, filtering and sending happen behind the answer.
    pub(crate) fn accept(&self, post: Post) -> Result<(), Busy> {
        let kib = u32::try_from(post.body.len() / 1024 + 1).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.0.unread).try_acquire_many_owned(kib).map_err(|_| Busy)?;
        let port = Arc::clone(&self.0);
        // Not dropped on shutdown: what was answered 202 gets its chance within the drain time.
        self.0.lifecycle.spawn_graceful("event intake", async move {
            port.take_in(post).await;
            drop(place);
        });
        Ok(())
    }

    /// Forwards a diagnostic post at once, with the headers of the SDK.
    pub(crate) fn diagnostic(&self, path: String, headers: &HeaderMap, body: Bytes) {
        let Ok(place) = Arc::clone(&self.0.diagnostics).try_acquire_owned() else {
            tracing::warn!(environment = %self.0.label, "diagnostic dropped, too many are under way");
            return;
        };
        let headers = end_to_end(headers);
        let port = Arc::clone(&self.0);
        self.0.lifecycle.spawn_graceful("diagnostic", async move {
            port.poster.forward_diagnostic(&path, headers, body).await;
            drop(place);
        });
    }

    /// Sends what waits, and waits until it has arrived or is lost.
    pub(crate) async fn flush(&self) {
        // Posts that are still being read come first: all their places must be free.
        let _ = self.0.unread.acquire_many(u32::try_from(MAX_UNREAD_KIB).unwrap_or(u32::MAX)).await;
        self.0.intake.close();
        self.0.outbox.flush().await;
    }

    /// Where events stand.
    pub(crate) fn report(&self) -> LedgerReport {
        self.0.ledger.report()
    }
}

impl Port {
    async fn take_in(self: Arc<Self>, post: Post) {
        let events = match read_events(&post.body, self.hooks.of(&self.label).event_filter.is_some()) {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(environment = %self.label, %error, "event post is not a JSON array and was dropped");
                self.ledger.receive(1);
                self.ledger.lose("malformed", 1);
                return;
            }
        };
        if events.is_empty() {
            return;
        }
        self.ledger.receive(events.len());
        let facts = BatchFacts {
            environment: self.label.clone(),
            route: post.route,
            sdk: post.kind.as_str(),
            schema: post.schema,
        };
        let key = QueueKey { kind: post.kind, schema: post.schema, tags: post.tags };
        let outbox = Arc::clone(&self.outbox);
        self.intake.pass(facts, events, Box::new(move |events| outbox.push(&key, events))).await;
    }
}

/// Splits a post into events without copying them. Kind and time are read only if somebody asks.
fn read_events(body: &Bytes, with_envelopes: bool) -> Result<Vec<Event>, serde_json::Error> {
    let raw: Option<Vec<&RawValue>> = serde_json::from_slice(body)?;
    let event = |raw: &RawValue| {
        let envelope: Envelope =
            if with_envelopes { serde_json::from_str(raw.get()).unwrap_or_default() } else { Envelope::default() };
        Event {
            kind: envelope.kind.unwrap_or_default(),
            // A negative or absurd time saturates; plugins see it as a hint.
            at_ms: envelope.creation_date.unwrap_or_default() as u64,
            body: body.slice_ref(raw.get().as_bytes()),
        }
    };
    Ok(raw.unwrap_or_default().into_iter().map(event).collect())
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_events(body: Bytes) {
    let _ = read_events(&body, true);
}

impl Delivery<QueueKey> for Poster {
    type Prepared = Payload;

    fn prepare(&self, _: &QueueKey, events: Vec<Bytes>) -> Payload {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let parts = std::iter::once(&b"["[..])
            .chain(
                events
                    .iter()
                    .enumerate()
                    .flat_map(|(index, event)| [if index == 0 { &b""[..] } else { &b","[..] }, &event[..]]),
            )
            .chain(std::iter::once(&b"]"[..]));
        for part in parts {
            encoder.write_all(part).expect("a vector takes every write");
        }
        let body = encoder.finish().expect("a vector takes every write").into();
        Payload { id: Uuid::new_v4().to_string(), body }
    }

    fn send<'a>(&'a self, key: &'a QueueKey, payload: &'a Payload) -> HookFuture<'a, Sent> {
        Box::pin(self.post(key, payload))
    }
}

impl Poster {
    async fn post(&self, key: &QueueKey, payload: &Payload) -> Sent {
        if self.is_off(key.kind) {
            return Sent::Refused("publisher-off");
        }
        let environment = &self.0.environment;
        let (path, credential) = match key.kind {
            SdkKind::Server => ("/bulk".to_owned(), Some(environment.sdk_key.expose())),
            SdkKind::Mobile => ("/mobile".to_owned(), environment.mobile_key.as_ref().map(|it| it.expose())),
            SdkKind::Browser => {
                let id = environment.env_id.as_ref().map_or("", |it| it.as_str());
                (format!("/events/bulk/{id}"), None)
            }
        };
        let mut request = self
            .0
            .client
            .post(format!("{}{path}", self.0.base))
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .header("x-launchdarkly-event-schema", key.schema)
            .header("x-launchdarkly-payload-id", &payload.id)
            .body(payload.body.clone());
        if let Some(credential) = credential {
            request = request.header(AUTHORIZATION, credential);
        }
        if let Some(tags) = &key.tags {
            request = request.header("x-launchdarkly-tags", &**tags);
        }
        let status = request.send().await.map(|response| response.status());
        let outcome = judge(status);
        match outcome {
            Sent::Refused("rejected") => self.switch_off(key.kind),
            Sent::Delivered => self.switch_on(key.kind),
            Sent::Refused(_) | Sent::Later(_) => (),
        }
        outcome
    }

    async fn forward_diagnostic(&self, path: &str, headers: HeaderMap, body: Bytes) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).expect("a vector takes every write");
        let body = Bytes::from(encoder.finish().expect("a vector takes every write"));
        let send = || async {
            let request = self.0.client.post(format!("{}{path}", self.0.base)).headers(headers.clone());
            judge(request.body(body.clone()).send().await.map(|response| response.status()))
        };
        if matches!(send().await, Sent::Later(_)) {
            tokio::time::sleep(RETRY_DELAY).await;
            if send().await != Sent::Delivered {
                tracing::warn!(environment = %self.0.environment.name, "diagnostic could not be forwarded");
            }
        }
    }

    fn is_off(&self, kind: SdkKind) -> bool {
        self.lock().get(&kind).is_some_and(|off| Instant::now() < off.until)
    }

    /// The reference never tries again; here the credential gets another chance, seldom.
    fn switch_off(&self, kind: SdkKind) {
        let mut all = self.lock();
        let off = all.entry(kind).or_insert_with(|| Off {
            until: Instant::now(),
            backoff: Backoff::literal(Duration::from_secs(300), Duration::from_secs(3600)),
        });
        let delay = off.backoff.next_delay();
        off.until = Instant::now() + delay;
        tracing::warn!(environment = %self.0.environment.name, sdk = kind.as_str(), seconds = delay.as_secs(), "events rejected upstream, dropping them for a while");
    }

    fn switch_on(&self, kind: SdkKind) {
        self.lock().remove(&kind);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SdkKind, Off>> {
        self.0.off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Section 10.4 of the compatibility page: what is worth a retry and what switches a publisher off.
fn judge(status: Result<StatusCode, reqwest::Error>) -> Sent {
    match status {
        Err(_) => Sent::Later("upstream-unreachable"),
        Ok(status) if status.is_success() => Sent::Delivered,
        Ok(status) => match status.as_u16() {
            413 => Sent::Refused("too-large"),
            400 | 408 | 429 => Sent::Later("upstream-error"),
            400..=499 => Sent::Refused("rejected"),
            _ => Sent::Later("upstream-error"),
        },
    }
}

/// All headers of the SDK but those that belong to one connection or are recomputed.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let own = [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, CONTENT_ENCODING, CONTENT_TYPE];
    let other =
        ["keep-alive", "te", "trailer", "upgrade", "proxy-authorization", "proxy-connection", "accept-encoding"];
    let is_kept = |name: &HeaderName| !own.contains(name) && !other.contains(&name.as_str());
    let mut kept: HeaderMap =
        headers.iter().filter(|(name, _)| is_kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    kept.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    kept.insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_split_without_copying() {
        let body = Bytes::from_static(br#" [ {"kind":"custom","creationDate":1.5,"z":1.0} , 7 ] "#);
        let events = read_events(&body, true).unwrap();
        assert_eq!((events[0].kind.as_str(), events[0].at_ms), ("custom", 1));
        assert_eq!(events[0].body, r#"{"kind":"custom","creationDate":1.5,"z":1.0}"#);
        assert_eq!((events[1].kind.as_str(), &events[1].body[..]), ("", &b"7"[..]));
        assert!(body.as_ptr_range().contains(&events[0].body.as_ptr()));
    }

    #[test]
    fn what_is_no_array_is_refused_and_null_is_empty() {
        for (body, count) in [("null", Some(0)), ("[]", Some(0)), ("{}", None), ("", None), ("[1", None)] {
            let events = read_events(&Bytes::from_static(body.as_bytes()), false).ok().map(|it| it.len());
            assert_eq!(events, count, "{body}");
        }
    }

    #[test]
    fn statuses_are_judged_like_the_reference_does() {
        for (status, sent) in [
            (202, Sent::Delivered),
            (400, Sent::Later("upstream-error")),
            (401, Sent::Refused("rejected")),
            (404, Sent::Refused("rejected")),
            (408, Sent::Later("upstream-error")),
            (413, Sent::Refused("too-large")),
            (429, Sent::Later("upstream-error")),
            (302, Sent::Later("upstream-error")),
            (503, Sent::Later("upstream-error")),
        ] {
            assert_eq!(judge(Ok(StatusCode::from_u16(status).unwrap())), sent, "{status}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_post_makes_it_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = read_events(&Bytes::from(body), true);
        }
    }
}
