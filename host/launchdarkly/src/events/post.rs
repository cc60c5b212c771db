//! Posts of events: headers, destination, and how responses are handled.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use uuid::Uuid;
use yardarm_core::budget::{ByTrust, Trust};
use yardarm_core::hooks::HookFuture;
use yardarm_core::{Backoff, Secret};
use yardarm_vendor::events::outbox::{self, Delivery, Sent};
use yardarm_vendor::upstream::{LogThrottle, SendError};

use super::limits::Limits;
use crate::config::LiveConfig;
use crate::identity::SdkKind;

/// Diagnostic posts of more bytes are compressed off the serving threads.
const LARGE_DIAGNOSTIC: usize = 32 << 10;
/// Bytes of events that are compressed at a time. The encoder clears its whole buffer, of this size, for each write.
const WRITE: usize = 32 << 10;
/// Schema of summarised events.
const SUMMARY_SCHEMA: u32 = 4;
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How events are forwarded (L197, L199).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// As received.
    Verbatim,
    /// Summarised here, because the SDK cannot do it.
    Summarised,
}

/// Events with the same key travel in one post.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct QueueKey {
    pub(super) kind: SdkKind,
    pub(super) form: Form,
    /// Version of the received event format.
    pub(super) schema: u32,
    pub(super) tags: Option<Arc<str>>,
}

impl outbox::QueueKey for QueueKey {
    fn trust(&self) -> Trust {
        self.kind.trust()
    }

    fn heap_bytes(&self) -> usize {
        self.tags.as_ref().map_or(0, |it| it.len())
    }
}

/// A post ready to be sent; a retry sends the same bytes under the same identifier.
pub(super) struct Payload {
    id: String,
    body: Bytes,
}

#[derive(Clone)]
pub(super) struct Poster(Arc<PosterInner>);

struct PosterInner {
    clients: ByTrust<reqwest::Client>,
    base: String,
    settings: LiveConfig,
    /// Publishers that upstream rejected, and until when nothing is sent for them.
    off: Mutex<HashMap<Publisher, Off>>,
    /// Log lines about redirects that are not followed.
    redirects: LogThrottle,
    /// `Date` of the last response to a delivered post, in Unix milliseconds; 0 before the first.
    upstream_ms: AtomicU64,
}

/// The unit that upstream accepts or rejects (L181 to L189).
type Publisher = (SdkKind, Form);

struct Off {
    /// The rejected credential. Another credential is tried at once.
    credential: Option<Secret>,
    until: Instant,
    backoff: Backoff,
}

impl Delivery<QueueKey> for Poster {
    type Prepared = Payload;

    fn prepare(&self, _: &QueueKey, events: Vec<Bytes>) -> Payload {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let mut writer = BufWriter::with_capacity(WRITE, encoder);
        let parts = std::iter::once(&b"["[..])
            .chain(
                events
                    .iter()
                    .enumerate()
                    .flat_map(|(index, event)| [if index == 0 { &b""[..] } else { &b","[..] }, &event[..]]),
            )
            .chain(std::iter::once(&b"]"[..]));
        for part in parts {
            writer.write_all(part).expect("a vector takes every write");
        }
        let encoder = writer.into_inner().expect("a vector takes every write");
        let body = encoder.finish().expect("a vector takes every write").into();
        Payload { id: Uuid::new_v4().to_string(), body }
    }

    fn send<'a>(&'a self, key: &'a QueueKey, payload: &'a Payload) -> HookFuture<'a, Sent> {
        Box::pin(self.post(key, payload))
    }
}

impl Poster {
    /// Posts to the service at `base`, with the current credentials of the environment.
    pub(super) fn new(clients: ByTrust<reqwest::Client>, base: String, settings: LiveConfig) -> Self {
        let upstream_ms = AtomicU64::new(0);
        let redirects = LogThrottle::new(Duration::from_secs(60));
        Self(Arc::new(PosterInner { clients, base, settings, off: Mutex::default(), redirects, upstream_ms }))
    }

    /// The time of the events service at the last delivered post, in Unix milliseconds; 0 before the first.
    pub(super) fn upstream_ms(&self) -> u64 {
        self.0.upstream_ms.load(Ordering::Relaxed)
    }

    async fn post(&self, key: &QueueKey, payload: &Payload) -> Sent {
        let publisher = (key.kind, key.form);
        let config = self.0.settings.get();
        let credentials = &config.credentials;
        let (path, credential) = match key.kind {
            SdkKind::Server => ("/bulk".to_owned(), Some(credentials.sdk_key().secret())),
            SdkKind::Mobile => ("/mobile".to_owned(), credentials.mobile_key().map(|it| it.secret())),
            SdkKind::Browser => {
                let id = credentials.env_id().map_or("", |it| it.as_str());
                (format!("/events/bulk/{id}"), None)
            }
        };
        if self.is_off(publisher, credential) {
            return Sent::Refused("publisher-off");
        }
        let schema = match key.form {
            Form::Verbatim => key.schema,
            Form::Summarised => SUMMARY_SCHEMA,
        };
        let mut request = self
            .request(key.kind, &path)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .header("x-launchdarkly-event-schema", schema)
            .header("x-launchdarkly-payload-id", &payload.id)
            .body(payload.body.clone());
        if let Some(credential) = credential {
            request = request.header(AUTHORIZATION, credential.expose());
        }
        if let Some(tags) = &key.tags {
            request = request.header("x-launchdarkly-tags", &**tags);
        }
        let answer = yardarm_vendor::upstream::send(request).await;
        if let Err(SendError::Redirect(error)) = &answer
            && let Some(suppressed) = self.0.redirects.next_line()
        {
            tracing::warn!(%error, suppressed, "events cannot be posted");
        }
        let date = answer.as_ref().ok().and_then(|it| date_ms(it.headers()));
        let outcome = judge(answer.map(|it| it.status()));
        match outcome {
            Sent::Refused("rejected") => self.switch_off(publisher, credential),
            Sent::Delivered => {
                self.switch_on(publisher);
                date.into_iter().for_each(|it| self.0.upstream_ms.store(it, Ordering::Relaxed));
            }
            Sent::Refused(_) | Sent::Later(_) => (),
        }
        outcome
    }

    /// Sends a diagnostic post at once, with one retry; a failure does not disable the publisher.
    pub(super) async fn forward_diagnostic(
        &self,
        limits: &Limits,
        kind: SdkKind,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Sent {
        let body = if body.len() < LARGE_DIAGNOSTIC {
            compressed(&body)
        } else {
            match limits.offload(kind.trust(), move || compressed(&body)).await {
                Some(body) => body,
                None => return Sent::Refused("internal-error"),
            }
        };
        let send = || async {
            let request = self.request(kind, path).headers(headers.clone());
            judge(yardarm_vendor::upstream::send(request.body(body.clone())).await.map(|response| response.status()))
        };
        let mut sent = send().await;
        if matches!(sent, Sent::Later(_)) {
            tokio::time::sleep(RETRY_DELAY).await;
            sent = send().await;
        }
        sent
    }

    /// A request on behalf of such an SDK, with the client of the runtime that sends it.
    fn request(&self, kind: SdkKind, path: &str) -> reqwest::RequestBuilder {
        self.0.clients.get(kind.trust()).post(format!("{}{path}", self.0.base))
    }

    fn is_off(&self, publisher: Publisher, credential: Option<&Secret>) -> bool {
        let is_same = |off: &Off| off.credential.as_ref() == credential;
        self.lock().get(&publisher).is_some_and(|off| is_same(off) && Instant::now() < off.until)
    }

    /// The reference never retries; here a rejected credential is retried with long backoff.
    fn switch_off(&self, publisher: Publisher, credential: Option<&Secret>) {
        let mut all = self.lock();
        let new = || Off {
            credential: credential.cloned(),
            until: Instant::now(),
            backoff: Backoff::literal(Duration::from_secs(300), Duration::from_secs(3600)),
        };
        let off = all.entry(publisher).or_insert_with(new);
        if off.credential.as_ref() != credential {
            *off = new();
        }
        let delay = off.backoff.next_delay();
        off.until = Instant::now() + delay;
        tracing::warn!(
            sdk = publisher.0.as_str(),
            seconds = delay.as_secs(),
            "events rejected upstream, dropping them for a while"
        );
    }

    fn switch_on(&self, publisher: Publisher) {
        self.lock().remove(&publisher);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Publisher, Off>> {
        self.0.off.lock()
    }
}

fn compressed(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("a vector takes every write");
    encoder.finish().expect("a vector takes every write").into()
}

/// L181 to L189: which responses are retried and which disable a publisher.
fn judge(status: Result<StatusCode, SendError>) -> Sent {
    match status {
        Err(SendError::Network(_)) => Sent::Later("upstream-unreachable"),
        // A redirect that would change the method or the host is not followed, so the post is not delivered.
        Err(SendError::Redirect(_)) => Sent::Later("upstream-error"),
        Ok(status) if status.is_success() => Sent::Delivered,
        Ok(status) => match status.as_u16() {
            413 => Sent::Refused("too-large"),
            400 | 408 | 429 => Sent::Later("upstream-error"),
            // About this post only: its headers, its length, its content. The vendor's relay disables the publisher.
            405 | 406 | 409 | 411..=428 | 431 => Sent::Refused("refused"),
            400..=499 => Sent::Refused("rejected"),
            _ => Sent::Later("upstream-error"),
        },
    }
}

/// The time of a response, in Unix milliseconds.
fn date_ms(headers: &HeaderMap) -> Option<u64> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    u64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// All headers of the SDK without hop-by-hop and recomputed ones.
pub(super) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
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
    fn statuses_are_handled_like_in_the_reference() {
        for (status, sent) in [
            (202, Sent::Delivered),
            (400, Sent::Later("upstream-error")),
            (401, Sent::Refused("rejected")),
            (404, Sent::Refused("rejected")),
            (408, Sent::Later("upstream-error")),
            (403, Sent::Refused("rejected")),
            (410, Sent::Refused("rejected")),
            (413, Sent::Refused("too-large")),
            (414, Sent::Refused("refused")),
            (422, Sent::Refused("refused")),
            (431, Sent::Refused("refused")),
            (429, Sent::Later("upstream-error")),
            (302, Sent::Later("upstream-error")),
            (503, Sent::Later("upstream-error")),
        ] {
            assert_eq!(judge(Ok(StatusCode::from_u16(status).unwrap())), sent, "{status}");
        }
    }
}
