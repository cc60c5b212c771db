//! Events on their way to the vendor: grouped by what they must carry, posted on a timer, retried once.

mod post;
mod summary;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use yardarm_core::hooks::{BatchFacts, Event, Hooks};
use yardarm_core::intake::{Exit, Intake, Leaving};
use yardarm_core::outbox::{Ledger, LedgerReport, Outbox, OutboxSettings, Sent};
use yardarm_core::turns::Turns;
use yardarm_core::{Environment, EnvironmentLabel, Lifecycle};

use self::post::{Form, Poster, QueueKey, end_to_end};
use self::summary::Summaries;
use super::HttpClients;
use crate::config::Config;
use crate::dataset::FlagData;
use crate::environments::{LiveConfig, SdkKind};

/// Bytes of accepted posts whose events have not been read yet, per environment. Posts beyond are answered 503,
/// which SDKs repeat.
const MAX_UNREAD_KIB: usize = 64 << 10;
/// The last schema whose events every SDK sends unsummarised (section 10.3 of the compatibility page).
const LAST_UNSUMMARISED_SCHEMA: u32 = 2;
/// What event filters are told where a post has no schema.
const NO_SCHEMA: u32 = 0;
/// Diagnostic posts under way per environment, held ones included; further ones are answered 202 and dropped, for they
/// are statistics.
const MAX_DIAGNOSTICS: usize = 32;

/// The way out for events of one environment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventPort(Arc<Port>);

struct Port {
    label: EnvironmentLabel,
    intake: Arc<Intake>,
    outbox: Arc<Outbox<QueueKey, Poster>>,
    summaries: Arc<Summaries>,
    ledger: Arc<Ledger>,
    hooks: Hooks,
    poster: Poster,
    unread: Arc<Semaphore>,
    /// Posts are read at the same time and travel in the order in which they came.
    turns: Turns,
    diagnostics: Arc<Semaphore>,
    lifecycle: Lifecycle,
}

/// One post of events by an SDK.
pub(crate) struct Post {
    pub(crate) kind: SdkKind,
    pub(crate) route: &'static str,
    /// Version of the event format.
    pub(crate) schema: u32,
    /// Whether the SDK says that it leaves the summarising to us.
    pub(crate) is_unsummarized: bool,
    /// Value of `X-LaunchDarkly-Tags`.
    pub(crate) tags: Option<Arc<str>>,
    /// Decompressed.
    pub(crate) body: Bytes,
}

/// One post of an SDK's statistics about itself.
pub(crate) struct Diagnostic {
    pub(crate) kind: SdkKind,
    pub(crate) route: &'static str,
    /// Where it goes.
    pub(crate) path: String,
    /// All that the SDK sent.
    pub(crate) headers: HeaderMap,
    /// Decompressed.
    pub(crate) body: Bytes,
}

/// Too much is waiting to be read.
#[derive(Debug)]
pub(crate) struct Busy;

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
        settings: LiveConfig,
        label: EnvironmentLabel,
        http: &HttpClients,
        hooks: Hooks,
        data: Environment<FlagData>,
        lifecycle: &Lifecycle,
    ) -> Self {
        let poster = Poster::new(http.requests.clone(), config.events_uri.clone(), label.clone(), settings);
        let settings =
            OutboxSettings { capacity: config.events_capacity, flush_interval: config.events_flush_interval };
        let ledger = Arc::new(Ledger::default());
        let outbox = Outbox::start(settings.clone(), poster.clone(), Arc::clone(&ledger), lifecycle);
        let parts = summary::Parts {
            label: label.clone(),
            settings,
            data,
            poster: poster.clone(),
            outbox: Arc::clone(&outbox),
            ledger: Arc::clone(&ledger),
        };
        Self(Arc::new(Port {
            label,
            intake: Intake::start(hooks.clone(), Arc::clone(&ledger), lifecycle),
            outbox,
            summaries: Arc::new(Summaries::start(parts, lifecycle)),
            ledger,
            hooks,
            poster,
            unread: Arc::new(Semaphore::new(MAX_UNREAD_KIB)),
            turns: Turns::default(),
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
        let mut turn = self.0.turns.next();
        self.0.lifecycle.spawn_graceful("event intake", async move {
            let leaving = port.take_in(post).await;
            turn.comes().await;
            if let Some(leaving) = leaving {
                leaving.go();
            }
            drop((turn, place));
        });
        Ok(())
    }

    /// Forwards a diagnostic post at once, with the headers of the SDK. It is a batch of one for the event filter:
    /// whoever binds one expects that nothing leaves without being seen.
    pub(crate) fn diagnostic(&self, diagnostic: Diagnostic) {
        let port = Arc::clone(&self.0);
        port.ledger.receive(1);
        let Ok(place) = Arc::clone(&port.diagnostics).try_acquire_owned() else {
            tracing::warn!(environment = %port.label, "diagnostic dropped, too many are under way");
            port.ledger.lose("too-many-diagnostics", 1);
            return;
        };
        self.0.lifecycle.spawn_graceful("diagnostic", async move { port.pass_on(diagnostic, place).await });
    }

    /// Sends what waits, and waits until it has arrived or is lost.
    pub(crate) async fn flush(&self) {
        // Posts that are still being read come first: all their places must be free.
        let _ = self.0.unread.acquire_many(u32::try_from(MAX_UNREAD_KIB).unwrap_or(u32::MAX)).await;
        self.0.intake.close();
        let summaries = self.0.summaries.take().await;
        let deliveries = summaries.into_iter().map(|(key, batch)| self.0.outbox.deliver(key, batch));
        // The queues and the summaries at the same time, for the time may be short.
        tokio::join!(self.0.outbox.flush(), futures_util::future::join_all(deliveries));
    }

    /// Where events stand.
    pub(crate) fn report(&self) -> LedgerReport {
        self.0.ledger.report()
    }
}

impl Port {
    async fn pass_on(self: Arc<Self>, diagnostic: Diagnostic, place: OwnedSemaphorePermit) {
        let Diagnostic { kind, route, path, headers, body } = diagnostic;
        let headers = end_to_end(&headers);
        let event = match self.hooks.of(&self.label).event_filter.is_some() {
            // Nobody looks at it, and it need not even be JSON.
            false => Event { kind: String::new(), at_ms: 0, body },
            true => match serde_json::from_slice::<&RawValue>(&body) {
                Ok(raw) if raw.get().starts_with('{') => event_of(raw, &body, true),
                // A filter would fail over and over, and what waits behind this one with it.
                _ => {
                    tracing::warn!(environment = %self.label, "diagnostic that is no JSON object was dropped");
                    self.ledger.lose("malformed", 1);
                    return;
                }
            },
        };
        let facts = BatchFacts { environment: self.label.clone(), route, sdk: kind.as_str(), schema: NO_SCHEMA };
        let port = Arc::clone(&self);
        let exit: Exit = Box::new(move |bodies| {
            let sender = Arc::clone(&port);
            port.lifecycle.spawn_graceful("diagnostic", async move {
                for body in bodies {
                    match sender.poster.forward_diagnostic(&path, headers.clone(), body).await {
                        Sent::Delivered => sender.ledger.deliver(1),
                        Sent::Later(reason) | Sent::Refused(reason) => sender.ledger.lose(reason, 1),
                    }
                }
                drop(place);
            });
        });
        if let Some(leaving) = self.intake.pass(facts, vec![event], exit).await {
            leaving.go();
        }
    }

    /// Reads and filters a post; what may leave now is for the caller to let out.
    async fn take_in(&self, post: Post) -> Option<Leaving> {
        let is_filtered = self.hooks.of(&self.label).event_filter.is_some();
        let events = match read_events(&post.body, is_filtered) {
            Ok(events) if is_filtered => self.without_strangers(events),
            Ok(events) => {
                self.ledger.receive(events.len());
                events
            }
            Err(error) => {
                tracing::warn!(environment = %self.label, %error, "event post is not a JSON array and was dropped");
                self.ledger.receive(1);
                self.ledger.lose("malformed", 1);
                return None;
            }
        };
        if events.is_empty() {
            return None;
        }
        let facts = BatchFacts {
            environment: self.label.clone(),
            route: post.route,
            sdk: post.kind.as_str(),
            schema: post.schema,
        };
        let form = post.form();
        let key = QueueKey { kind: post.kind, form, schema: post.schema, tags: post.tags };
        let exit: Exit = match form {
            Form::Verbatim => {
                let outbox = Arc::clone(&self.outbox);
                Box::new(move |events| outbox.push(&key, events))
            }
            Form::Summarised => {
                let summaries = Arc::clone(&self.summaries);
                Box::new(move |events| summaries.push(key, events))
            }
        };
        self.intake.pass(facts, events, exit).await
    }
}

impl Port {
    /// Only what is a JSON object is shown to a filter. The rest is no event, everybody can post it, and a filter would
    /// fail over it again and again.
    fn without_strangers(&self, mut events: Vec<Event>) -> Vec<Event> {
        let received = events.len();
        self.ledger.receive(received);
        events.retain(|event| event.body.starts_with(b"{"));
        let lost = received - events.len();
        if lost > 0 {
            tracing::warn!(environment = %self.label, lost, "events that are no JSON objects were dropped");
            self.ledger.lose("malformed", lost);
        }
        events
    }
}

impl Post {
    fn form(&self) -> Form {
        if self.is_unsummarized || self.schema <= LAST_UNSUMMARISED_SCHEMA { Form::Summarised } else { Form::Verbatim }
    }
}

/// Splits a post into events without copying them. Kind and time are read only if somebody asks.
fn read_events(body: &Bytes, with_envelopes: bool) -> Result<Vec<Event>, serde_json::Error> {
    let raw: Option<Vec<&RawValue>> = serde_json::from_slice(body)?;
    Ok(raw.unwrap_or_default().into_iter().map(|raw| event_of(raw, body, with_envelopes)).collect())
}

/// The event that `raw`, a part of `body`, is.
fn event_of(raw: &RawValue, body: &Bytes, with_envelope: bool) -> Event {
    let envelope: Envelope =
        if with_envelope { serde_json::from_str(raw.get()).unwrap_or_default() } else { Envelope::default() };
    Event {
        kind: envelope.kind.unwrap_or_default(),
        // A negative or absurd time saturates; plugins see it as a hint.
        at_ms: envelope.creation_date.unwrap_or_default() as u64,
        body: body.slice_ref(raw.get().as_bytes()),
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_events(body: Bytes) {
    let _ = read_events(&body, true);
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_summary(event: &str) {
    if serde_json::from_str::<&RawValue>(event).is_ok() {
        summary::fuzz(Bytes::copy_from_slice(event.as_bytes()));
    }
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

    proptest::proptest! {
        #[test]
        fn no_post_makes_it_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = read_events(&Bytes::from(body), true);
        }
    }
}
