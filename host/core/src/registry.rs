//! All open streams: who they are, how many, and the one way to end them from outside.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Lifecycle;
use crate::environment::EnvironmentLabel;
use crate::hooks::{Admission, Hooks, RequestFacts};

/// Open streams of the process. Cheap to clone.
#[derive(Clone)]
pub struct StreamRegistry(Arc<Shared>);

struct Shared {
    /// Most streams that may be open; further ones are answered 503.
    limit: usize,
    next_id: AtomicU64,
    open: Mutex<HashMap<u64, Arc<StreamSession>>>,
    ended: Mutex<BTreeMap<(EnvironmentLabel, &'static str, &'static str), u64>>,
    opened: Mutex<BTreeMap<(EnvironmentLabel, &'static str), u64>>,
    /// In order of deadline, because all streams of a process live equally long.
    deadlines: Mutex<VecDeque<(Instant, Weak<StreamSession>)>>,
    deadline_added: Notify,
}

/// One open stream, as others see it.
pub struct StreamSession {
    facts: RequestFacts,
    ending: AtomicU8,
    waker: AtomicWaker,
}

/// Held by whoever writes the stream; dropping it takes the stream out of the registry.
pub struct StreamGuard {
    id: u64,
    session: Arc<StreamSession>,
    streams: StreamRegistry,
    /// Whatever has to live as long as the stream and go with it.
    _attached: Option<Box<dyn Send + Sync>>,
}

/// As many streams as allowed are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many streams as allowed are open")]
pub struct TooManyStreams;

/// Which route answered, for spans and metrics; travels in the extensions of a response.
#[derive(Debug, Clone)]
pub struct RouteTag {
    /// Identifier of the route.
    pub route: &'static str,
    /// The environment, once it was found.
    pub environment: Option<EnvironmentLabel>,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// The SDK went away.
    ClientGone = 0,
    /// Its longest life is over.
    Lifetime = 1,
    /// Its credential is no longer accepted.
    CredentialWithdrawn = 2,
    /// A plugin no longer approves of it.
    ApprovalWithdrawn = 3,
    /// The process is about to end.
    Draining = 4,
    /// It cannot be told everything it has missed.
    FellBehind = 5,
    /// Changes no longer come in as they happen.
    SourceLost = 6,
    /// The client took nothing for longer than the write timeout, or no longer acknowledges what it is sent.
    Unresponsive = 7,
}

const REASONS: [EndReason; 8] = [
    EndReason::ClientGone,
    EndReason::Lifetime,
    EndReason::CredentialWithdrawn,
    EndReason::ApprovalWithdrawn,
    EndReason::Draining,
    EndReason::FellBehind,
    EndReason::SourceLost,
    EndReason::Unresponsive,
];

/// Counts for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamCounts {
    /// Environment.
    pub environment: EnvironmentLabel,
    /// Identifier of the route.
    pub route: &'static str,
    /// Open now.
    pub open: u64,
    /// Opened since start.
    pub opened: u64,
    /// Ended since start, by reason.
    pub ended: Vec<(&'static str, u64)>,
}

impl EndReason {
    /// As metrics and logs call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client-gone",
            Self::Lifetime => "lifetime",
            Self::CredentialWithdrawn => "credential-withdrawn",
            Self::ApprovalWithdrawn => "approval-withdrawn",
            Self::Draining => "draining",
            Self::FellBehind => "fell-behind",
            Self::SourceLost => "source-lost",
            Self::Unresponsive => "unresponsive",
        }
    }
}

impl StreamRegistry {
    /// No streams yet, and never more than `limit`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            next_id: AtomicU64::new(0),
            open: Mutex::default(),
            ended: Mutex::default(),
            opened: Mutex::default(),
            deadlines: Mutex::default(),
            deadline_added: Notify::new(),
        }))
    }

    /// Registers a stream that was admitted.
    ///
    /// # Errors
    /// When too many are open.
    pub fn open(&self, facts: RequestFacts, lifetime: Option<Duration>) -> Result<StreamGuard, TooManyStreams> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let key = (facts.environment.clone(), facts.route);
        let session = Arc::new(StreamSession { facts, ending: AtomicU8::new(0), waker: AtomicWaker::new() });
        {
            let mut open = lock(&self.0.open);
            if open.len() >= self.0.limit {
                return Err(TooManyStreams);
            }
            open.insert(id, Arc::clone(&session));
        }
        *lock(&self.0.opened).entry(key).or_default() += 1;
        if let Some(lifetime) = lifetime {
            lock(&self.0.deadlines).push_back((Instant::now() + lifetime, Arc::downgrade(&session)));
            self.0.deadline_added.notify_one();
        }
        Ok(StreamGuard { id, session, streams: self.clone(), _attached: None })
    }

    /// Streams open now.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.0.open).len()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the streams that `choose` picks; says how many.
    pub fn end_where(&self, reason: EndReason, choose: impl Fn(&RequestFacts) -> bool) -> usize {
        let chosen: Vec<_> = lock(&self.0.open).values().filter(|session| choose(&session.facts)).cloned().collect();
        for session in &chosen {
            session.end(reason);
        }
        chosen.len()
    }

    /// Ends all streams, evenly spread over `window`, so that their reconnects do not arrive at once elsewhere.
    pub async fn drain(&self, window: Duration) {
        let sessions: Vec<_> = lock(&self.0.open).values().cloned().collect();
        let Ok(count) = u32::try_from(sessions.len()) else { return };
        if count == 0 {
            return;
        }
        let start = Instant::now();
        for (index, session) in (1_u32..).zip(sessions) {
            tokio::time::sleep_until(start + window.mul_f64(f64::from(index) / f64::from(count))).await;
            session.end(EndReason::Draining);
        }
    }

    /// Counts for metrics, by environment and route.
    #[must_use]
    pub fn counts(&self) -> Vec<StreamCounts> {
        let mut open: HashMap<(EnvironmentLabel, &'static str), u64> = HashMap::new();
        for session in lock(&self.0.open).values() {
            *open.entry((session.facts.environment.clone(), session.facts.route)).or_default() += 1;
        }
        let ended = lock(&self.0.ended).clone();
        lock(&self.0.opened)
            .iter()
            .map(|(key, opened)| StreamCounts {
                environment: key.0.clone(),
                route: key.1,
                open: open.get(key).copied().unwrap_or(0),
                opened: *opened,
                ended: REASONS
                    .iter()
                    .map(|reason| {
                        let key = (key.0.clone(), key.1, reason.as_str());
                        (reason.as_str(), ended.get(&key).copied().unwrap_or(0))
                    })
                    .collect(),
            })
            .collect()
    }

    /// Starts the tasks that end streams at the end of their life and ask plugins again after a change of plan.
    pub fn watch(&self, hooks: &Hooks, recheck_window: Duration, lifecycle: &Lifecycle) {
        let streams = self.clone();
        lifecycle.supervise("stream lifetimes", move || streams.clone().end_at_deadlines());
        let (streams, hooks) = (self.clone(), hooks.clone());
        lifecycle.supervise("stream approvals", move || {
            streams.clone().recheck_after_changes(hooks.clone(), recheck_window)
        });
    }

    async fn end_at_deadlines(self) {
        loop {
            let next = lock(&self.0.deadlines).front().map(|(deadline, _)| *deadline);
            let Some(deadline) = next else {
                self.0.deadline_added.notified().await;
                continue;
            };
            tokio::time::sleep_until(deadline).await;
            let now = Instant::now();
            loop {
                let due = {
                    let mut deadlines = lock(&self.0.deadlines);
                    if deadlines.front().is_none_or(|(deadline, _)| *deadline > now) {
                        None
                    } else {
                        deadlines.pop_front()
                    }
                };
                let Some((_, session)) = due else { break };
                if let Some(session) = session.upgrade() {
                    session.end(EndReason::Lifetime);
                }
            }
        }
    }

    /// A stream was admitted by one plan. When the chain that admitted it changes, the new one is asked about it,
    /// spread over `window`. A plugin that cannot decide leaves the stream as it is: a fault of ours ends nothing.
    async fn recheck_after_changes(self, hooks: Hooks, window: Duration) {
        let mut changes = hooks.changed();
        let mut chains: HashMap<EnvironmentLabel, u64> = HashMap::new();
        loop {
            let plan = hooks.pin();
            let sessions: Vec<_> = lock(&self.0.open).values().cloned().collect();
            let mut due = Vec::new();
            let mut seen: HashMap<EnvironmentLabel, bool> = HashMap::new();
            for session in sessions {
                let label = session.facts.environment.clone();
                let has_changed = *seen.entry(label.clone()).or_insert_with(|| {
                    let identity = plan.environment(&label).request_auth.as_ref().map_or(0, |it| it.identity());
                    chains.insert(label.clone(), identity).unwrap_or(0) != identity
                });
                if has_changed {
                    due.push(session);
                }
            }
            let count = u32::try_from(due.len()).unwrap_or(u32::MAX).max(1);
            let start = Instant::now();
            for (index, session) in (1_u32..).zip(due) {
                tokio::time::sleep_until(start + window.mul_f64(f64::from(index) / f64::from(count))).await;
                // The newest chain decides, should the plan have changed again meanwhile.
                let chain = hooks.of(&session.facts.environment).request_auth.clone();
                if let Some(chain) = chain
                    && let Ok(Admission::Denied { plugin, .. }) = chain.authenticate(&session.facts).await
                {
                    tracing::info!(environment = %session.facts.environment, %plugin, "approval of a stream withdrawn");
                    session.end(EndReason::ApprovalWithdrawn);
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl StreamSession {
    /// Makes the stream end; the first reason stands.
    pub fn end(&self, reason: EndReason) {
        // 0 means "still open", so reasons are stored plus one.
        let _ = self.ending.compare_exchange(0, reason as u8 + 1, Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake();
    }

    fn reason(&self) -> Option<EndReason> {
        match self.ending.load(Ordering::Acquire) {
            0 => None,
            stored => REASONS.get(usize::from(stored - 1)).copied(),
        }
    }
}

impl StreamGuard {
    /// What was known of the request that opened the stream.
    #[must_use]
    pub fn facts(&self) -> &RequestFacts {
        &self.session.facts
    }

    /// Keeps something until the stream ends.
    #[must_use]
    pub fn attach(mut self, attached: impl Send + Sync + 'static) -> Self {
        self._attached = Some(Box::new(attached));
        self
    }

    /// Whether the stream has to end, and why.
    #[must_use]
    pub fn ending(&self) -> Option<EndReason> {
        self.session.reason()
    }

    /// The stream as the registry knows it, to end it from outside.
    #[must_use]
    pub fn session(&self) -> &Arc<StreamSession> {
        &self.session
    }

    /// Makes the stream end.
    pub(crate) fn end(&self, reason: EndReason) {
        self.session.end(reason);
    }

    /// Ready once the stream has to end.
    pub fn poll_ending(&self, context: &mut Context<'_>) -> Poll<EndReason> {
        self.session.waker.register(context.waker());
        self.session.reason().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let shared = &self.streams.0;
        lock(&shared.open).remove(&self.id);
        let reason = self.session.reason().unwrap_or(EndReason::ClientGone);
        let key = (self.session.facts.environment.clone(), self.session.facts.route, reason.as_str());
        *lock(&shared.ended).entry(key).or_default() += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
