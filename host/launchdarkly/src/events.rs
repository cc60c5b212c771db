//! Forwarding of events to LaunchDarkly: grouped by headers, posted on a timer, retried once.

mod advice;
mod deferred;
mod envelope;
mod incoming;
mod limits;
mod post;
pub(crate) mod split;
pub(crate) mod spooled;
mod summary;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use yardarm_core::budget::{Account, ByTrust, Trust};
use yardarm_core::hooks::{BatchFacts, Event, Hooks};
use yardarm_core::supervisor::{self, fault_point};
use yardarm_core::{Environment, EnvironmentLabel, Lifecycle};
use yardarm_vendor::events::ordered_posts::OrderedPosts;
use yardarm_vendor::events::outbox::{INTERNAL_ERROR, Ledger, LedgerReport, Outbox, OutboxSettings, Sent};
use yardarm_vendor::events::pipeline::{EventPipeline, FilteredBatch, Sink};
use yardarm_vendor::events::spool::{Entry, SpoolLane, SpooledPost};

use self::advice::advice;
use self::envelope::event_of;
pub(crate) use self::incoming::{Busy, Diagnostic, Post};
pub(crate) use self::limits::Limits;
use self::post::{Form, Poster, QueueKey, end_to_end};
use self::split::{Split, Splitter};
use self::summary::Summaries;
use crate::config::{Config, LiveConfig};
use crate::data::FlagData;
use crate::identity::SdkKind;
use crate::upstream::HttpClients;

/// Posts with more events than this are queued off the serving threads.
const MANY_EVENTS: usize = 1000;
/// Posts of more bytes are encoded for the disk off the serving threads.
const LARGE_ENTRY: usize = 32 << 10;
/// Accepted posts whose events are being filtered, per credential. Further posts are answered 503, and SDKs retry them.
const MAX_POSTS: u32 = 4096;
/// Diagnostic posts in flight per credential, held ones included; further ones are answered 202 and dropped, because they
/// are statistics only.
const MAX_DIAGNOSTICS: usize = 32;

/// Accepts and forwards events of one environment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EventPort(Arc<Port>);

struct Port {
    label: EnvironmentLabel,
    pipeline: Arc<EventPipeline>,
    outbox: Arc<Outbox<QueueKey, Poster>>,
    summaries: Arc<Summaries>,
    ledger: Arc<Ledger>,
    hooks: Hooks,
    poster: Poster,
    posts: ByTrust<PostLimits>,
    /// Posts on disk; `None` keeps them in memory only.
    spool: Option<SpoolLanes>,
    limits: Limits,
    lifecycle: Lifecycle,
}

/// Posts on disk of one environment.
pub(crate) type SpoolLanes = ByTrust<Arc<SpoolLane>>;

/// Limits and order of the posts of one credential.
struct PostLimits {
    permits: Arc<Semaphore>,
    ordered: OrderedPosts,
    /// Memory of posts from their first byte until their events are in a queue.
    memory: Arc<Account>,
    diagnostics: Arc<Semaphore>,
    diagnostic_memory: Arc<Account>,
}

impl EventPort {
    pub(crate) fn start(
        config: &Config,
        settings: LiveConfig,
        label: EnvironmentLabel,
        (http, limits): (&HttpClients, &Limits),
        hooks: Hooks,
        (data, spool): (Environment<FlagData>, Option<SpoolLanes>),
        lifecycle: &Lifecycle,
    ) -> Self {
        let poster = Poster::new(http.events.clone(), config.events_uri.clone(), settings);
        let settings =
            OutboxSettings { capacity: config.events_capacity, flush_interval: config.events_flush_interval };
        let ledger = Arc::new(Ledger::new(label.clone(), advice));
        let outbox = Outbox::start(settings.clone(), &limits.outbox, poster.clone(), Arc::clone(&ledger), lifecycle);
        let parts = summary::SummaryParts {
            settings,
            data,
            poster: poster.clone(),
            outbox: Arc::clone(&outbox),
            ledger: Arc::clone(&ledger),
            limits: limits.clone(),
        };
        let (memory, diagnostic_memory) = (limits.post_accounts(), limits.diagnostic_accounts());
        let posts = ByTrust::from_fn(|trust| PostLimits {
            permits: Arc::new(Semaphore::new(MAX_POSTS as usize)),
            ordered: OrderedPosts::new("event intake", Arc::clone(&ledger), lifecycle),
            memory: Arc::clone(memory.get(trust)),
            diagnostics: Arc::new(Semaphore::new(MAX_DIAGNOSTICS)),
            diagnostic_memory: Arc::clone(diagnostic_memory.get(trust)),
        });
        let port = Arc::new(Port {
            label,
            pipeline: EventPipeline::start(hooks.clone(), Arc::clone(&ledger), lifecycle),
            outbox,
            summaries: Arc::new(Summaries::start(&parts, lifecycle)),
            ledger,
            hooks,
            poster,
            posts,
            spool,
            limits: limits.clone(),
            lifecycle: lifecycle.clone(),
        });
        for (trust, lane) in port.spool_lanes() {
            port.ledger.record_received(lane.deferred_events());
            let (port, lane) = (Arc::clone(&port), Arc::clone(lane));
            lifecycle.supervise("event spool", move || deferred::pass_on(Arc::clone(&port), trust, Arc::clone(&lane)));
        }
        Self(port)
    }

    /// Memory for posts of such callers.
    pub(crate) fn post_account(&self, kind: SdkKind) -> &Arc<Account> {
        &self.0.posts.get(kind.trust()).memory
    }

    /// Memory for diagnostic posts of such callers.
    pub(crate) fn diagnostic_account(&self, kind: SdkKind) -> &Arc<Account> {
        &self.0.posts.get(kind.trust()).diagnostic_memory
    }

    /// A splitter for a post of such a caller; `None` if there is no memory.
    pub(crate) fn splitter(&self, kind: SdkKind) -> Option<Splitter> {
        Splitter::new(self.post_account(kind), self.0.hooks.of(&self.0.label).event_filter.is_some())
    }

    /// Counts a post that was refused because too much is in flight.
    pub(crate) fn refuse_post(&self) {
        self.0.ledger.record_refused_post();
    }

    /// Counts a diagnostic post that was dropped because too much is in flight.
    pub(crate) fn lose_diagnostic(&self) {
        self.0.ledger.record_received(1);
        self.0.ledger.record_dropped("too-many-diagnostics", 1);
    }

    /// Accepts a post; it is filtered and sent after the response. With a spool, it is on disk before the response.
    pub(crate) async fn accept(&self, post: Post) -> Result<(), Busy> {
        let trust = post.kind.trust();
        let Ok(place) = Arc::clone(&self.0.posts.get(trust).permits).try_acquire_owned() else {
            self.refuse_post();
            return Err(Busy);
        };
        let lane = self.0.spool.as_ref().map(|it| it.get(trust)).filter(|_| !post.split.events.is_empty());
        let on_disk = match lane {
            Some(lane) => self.0.write(lane, trust, spooled::entry(&post)).await,
            None => None,
        };
        let ledger = &self.0.ledger;
        ledger.record_received(post.split.events.len() + post.split.lost.values().sum::<usize>());
        for (reason, count) in &post.split.lost {
            ledger.record_dropped(reason, *count);
        }
        match (lane, on_disk) {
            // Behind those that wait already, or until upstream takes what is in memory.
            (Some(lane), Some(on_disk)) if lane.has_deferred() || !self.0.outbox.has_room(trust) => lane.defer(on_disk),
            (_, on_disk) => self.0.process(post, place, on_disk),
        }
        Ok(())
    }

    /// Forwards a diagnostic post at once, with the headers of the SDK. It passes the event filter as a batch of one,
    /// because a filter must see everything that is forwarded.
    pub(crate) fn diagnostic(&self, diagnostic: Diagnostic) {
        let port = Arc::clone(&self.0);
        let diagnostics = &port.posts.get(diagnostic.kind.trust()).diagnostics;
        let Ok(place) = Arc::clone(diagnostics).try_acquire_owned() else {
            self.lose_diagnostic();
            return;
        };
        port.ledger.record_received(1);
        self.0.lifecycle.spawn_graceful("diagnostic", async move { port.pass_on(diagnostic, place).await });
    }

    /// Sends all waiting events and returns when each is delivered or dropped.
    pub(crate) async fn flush(&self) {
        // Posts that are still being filtered come first: all their permits must be free.
        self.0.spool_lanes().for_each(|(_, lane)| lane.close());
        for trust in Trust::ALL {
            let _ = self.0.posts.get(trust).permits.acquire_many(MAX_POSTS).await;
        }
        self.0.pipeline.close();
        for (key, batch, acks) in self.0.summaries.take().await {
            self.0.outbox.dispatch(key, batch, acks);
        }
        self.0.outbox.flush().await;
    }

    /// Bytes of posts on disk.
    pub(crate) fn on_disk_bytes(&self) -> u64 {
        self.0.spool_lanes().map(|(_, lane)| lane.bytes()).sum()
    }

    /// Counts of events.
    pub(crate) fn report(&self) -> LedgerReport {
        self.0.ledger.report()
    }
}

impl Port {
    /// The posts on disk, by kind of credential; none without a spool.
    fn spool_lanes(&self) -> impl Iterator<Item = (Trust, &Arc<SpoolLane>)> {
        Trust::ALL.into_iter().filter_map(|trust| Some((trust, self.spool.as_ref()?.get(trust))))
    }

    /// Writes a post to the disk; a large one is encoded off the serving threads. `None` if it is in memory only.
    async fn write(&self, lane: &Arc<SpoolLane>, trust: Trust, entry: Entry) -> Option<SpooledPost> {
        let post = if entry.size() < LARGE_ENTRY {
            lane.put(&entry)
        } else {
            let putting = Arc::clone(lane);
            self.limits.offload(trust, move || putting.put(&entry)).await.flatten()
        };
        lane.written(post?).await
    }

    /// Has a post filtered and forwarded, in order with others. Its events are pending in the ledger.
    fn process(self: &Arc<Self>, post: Post, place: OwnedSemaphorePermit, on_disk: Option<SpooledPost>) {
        let (trust, count) = (post.kind.trust(), post.split.events.len());
        let (filtering, port) = (Arc::clone(self), Arc::clone(self));
        let filter = async move { filtering.filter(post, on_disk).await };
        let forward = async move |filtered: FilteredBatch| {
            if filtered.count() > MANY_EVENTS {
                let _ = port.limits.offload(trust, move || filtered.forward()).await;
            } else {
                filtered.forward();
            }
        };
        self.posts.get(trust).ordered.accept(count, place, filter, forward);
    }

    async fn pass_on(self: Arc<Self>, diagnostic: Diagnostic, place: OwnedSemaphorePermit) {
        let Diagnostic { kind, request, path, headers, body, charge } = diagnostic;
        let headers = end_to_end(&headers);
        let event = match self.hooks.of(&self.label).event_filter.is_some() {
            // No filter reads it, so it need not be JSON.
            false => Event { kind: None, at_ms: None, body },
            // A filter would fail on a body that is not an object on every retry, and block the batches behind it.
            true => match split::object(&body) {
                Some(body) => event_of(body, true),
                None => {
                    self.ledger.record_dropped("malformed", 1);
                    return;
                }
            },
        };
        let facts = BatchFacts { request, schema: None, read: written_event };
        let port = Arc::clone(&self);
        let sink: Sink = Box::new(move |bodies| {
            let sender = Arc::clone(&port);
            port.limits.outbox.spawn_sender(kind.trust(), &port.lifecycle, "diagnostic", async move {
                for body in bodies {
                    let sent = sender.poster.forward_diagnostic(&sender.limits, kind, &path, headers.clone(), body);
                    match supervisor::catch(sent).await {
                        Ok(Sent::Delivered) => sender.ledger.record_delivered(1),
                        Ok(Sent::Later(reason) | Sent::Refused(reason)) => sender.ledger.record_dropped(reason, 1),
                        Err(_) => sender.ledger.record_dropped(INTERNAL_ERROR, 1),
                    }
                }
                drop((place, charge));
            });
        });
        if let Some(filtered) = self.pipeline.pass(facts, vec![event], sink).await {
            filtered.forward();
        }
    }

    /// Filters a post and returns the events to forward now. Its memory is charged until its events are queued.
    async fn filter(&self, post: Post, on_disk: Option<SpooledPost>) -> Option<FilteredBatch> {
        fault_point("event reader");
        let form = post.form();
        let Post { kind, request, schema, tags, split, .. } = post;
        let Split { mut events, has_envelopes, charge, .. } = split;
        if self.hooks.of(&self.label).event_filter.is_some() {
            if !has_envelopes {
                // The filter was bound while the post was being read.
                events = events.into_iter().map(|it| event_of(it.body, true)).collect();
            }
            self.drop_non_objects(&mut events);
        }
        if events.is_empty() {
            return None;
        }
        let facts = BatchFacts { request, schema: Some(schema), read: written_event };
        let key = QueueKey { kind, form, schema, tags };
        let sink: Sink = match form {
            Form::Verbatim => {
                let outbox = Arc::clone(&self.outbox);
                Box::new(move |events| match on_disk {
                    Some(post) => outbox.push_spooled(&key, events, charge, &post),
                    None => outbox.push(&key, events, Some(charge)),
                })
            }
            Form::Summarised => {
                let summaries = Arc::clone(&self.summaries);
                Box::new(move |events| summaries.push(key, events, charge, on_disk))
            }
        };
        self.pipeline.pass(facts, events, sink).await
    }

    /// Drops elements that are not JSON objects. They are not events, every client can post them, and a filter would fail
    /// on them on every retry.
    fn drop_non_objects(&self, events: &mut Vec<Event>) {
        let received = events.len();
        events.retain(|event| event.body.starts_with(b"{"));
        self.ledger.record_dropped("malformed", received - events.len());
    }
}

/// The event with this text, which a plugin has written.
fn written_event(body: Bytes) -> Event {
    event_of(body, true)
}

#[cfg(fuzzing)]
pub(crate) fn fuzz_summary(event: &str) {
    if serde_json::from_str::<&serde_json::value::RawValue>(event).is_ok() {
        summary::fuzz(bytes::Bytes::copy_from_slice(event.as_bytes()));
    }
}
