//! The registry of open streams: their facts, their counts, and the means to end them from outside.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Lifecycle;
use crate::hooks::{Admission, AdmittedRequest, Hooks, RequestFacts};
use crate::label::EnvironmentLabel;
use crate::sdk_release::SdkRelease;

/// Open streams of the process. Cheap to clone.
#[derive(Clone)]
pub struct StreamRegistry(Arc<Shared>);

struct Shared {
    /// Maximum number of open streams; further ones are answered 503.
    limit: usize,
    next_id: AtomicU64,
    open: Mutex<HashMap<u64, Arc<StreamSession>>>,
    ended: Mutex<BTreeMap<(EnvironmentLabel, &'static str, &'static str), u64>>,
    opened: Mutex<BTreeMap<(EnvironmentLabel, &'static str), u64>>,
    /// Ordered by deadline, because all streams of a process have the same lifetime.
    deadlines: Mutex<VecDeque<(Instant, Weak<StreamSession>)>>,
    deadline_added: Notify,
}

/// One open stream, as seen from outside.
pub struct StreamSession {
    request: AdmittedRequest,
    ending: AtomicU8,
    waker: AtomicWaker,
}

/// Held by the task that writes the stream; dropping it removes the stream from the registry.
pub struct StreamGuard {
    id: u64,
    session: Arc<StreamSession>,
    streams: StreamRegistry,
    /// A value that lives as long as the stream.
    _attached: Option<Box<dyn Send + Sync>>,
}

/// The maximum number of streams is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the maximum number of streams is open")]
pub struct TooManyStreams;

/// The route that answered, for spans and metrics; stored in the extensions of a response.
#[derive(Debug, Clone)]
pub struct RouteTag {
    /// Identifier of the route.
    pub route: &'static str,
    /// Template of its path.
    pub path: &'static str,
    /// The environment, once it was found.
    pub environment: Option<EnvironmentLabel>,
    /// The SDK of the caller, if it is a known one.
    pub sdk: Option<SdkRelease>,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// The client closed the connection.
    ClientGone = 0,
    /// Its maximum lifetime is over.
    Lifetime = 1,
    /// Its credential is no longer accepted.
    CredentialWithdrawn = 2,
    /// A plugin no longer admits it.
    ApprovalWithdrawn = 3,
    /// The process is shutting down.
    Draining = 4,
    /// The changes that it missed can no longer be sent.
    FellBehind = 5,
    /// Changes are no longer received as they happen.
    SourceLost = 6,
    /// The client read nothing for longer than the write timeout, or no longer acknowledges data.
    Unresponsive = 7,
    /// Plugins read or add other facts about the request now, on which results depend.
    ResultsDiffer = 8,
}

const REASONS: [EndReason; 9] = [
    EndReason::ClientGone,
    EndReason::Lifetime,
    EndReason::CredentialWithdrawn,
    EndReason::ApprovalWithdrawn,
    EndReason::Draining,
    EndReason::FellBehind,
    EndReason::SourceLost,
    EndReason::Unresponsive,
    EndReason::ResultsDiffer,
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
    /// Opened since the start.
    pub opened: u64,
    /// Ended since the start, by reason.
    pub ended: Vec<(&'static str, u64)>,
}

impl EndReason {
    /// Returns the name in metrics and logs.
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
            Self::ResultsDiffer => "results-differ",
        }
    }
}

impl StreamRegistry {
    /// Creates an empty registry of at most `limit` streams.
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
    pub fn open(&self, request: AdmittedRequest, lifetime: Option<Duration>) -> Result<StreamGuard, TooManyStreams> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let key = (request.facts.environment.clone(), request.facts.route);
        let session = Arc::new(StreamSession { request, ending: AtomicU8::new(0), waker: AtomicWaker::new() });
        {
            let mut open = self.0.open.lock();
            if open.len() >= self.0.limit {
                return Err(TooManyStreams);
            }
            open.insert(id, Arc::clone(&session));
        }
        *self.0.opened.lock().entry(key).or_default() += 1;
        if let Some(lifetime) = lifetime {
            self.0.deadlines.lock().push_back((Instant::now() + lifetime, Arc::downgrade(&session)));
            self.0.deadline_added.notify_one();
        }
        Ok(StreamGuard { id, session, streams: self.clone(), _attached: None })
    }

    /// Returns the number of open streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.open.lock().len()
    }

    /// Returns whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the streams for which `choose` returns true; returns their number.
    pub fn end_where(&self, reason: EndReason, choose: impl Fn(&RequestFacts) -> bool) -> usize {
        let chosen: Vec<_> =
            self.0.open.lock().values().filter(|session| choose(&session.request.facts)).cloned().collect();
        for session in &chosen {
            session.end(reason);
        }
        chosen.len()
    }

    /// Ends all streams, evenly spread over `window`, so that clients do not reconnect elsewhere all at once.
    pub async fn drain(&self, window: Duration) {
        let sessions: Vec<_> = self.0.open.lock().values().cloned().collect();
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

    /// Calls `visit` for each open stream. The registry is not locked meanwhile.
    pub fn for_each(&self, mut visit: impl FnMut(&RequestFacts)) {
        let sessions: Vec<_> = self.0.open.lock().values().cloned().collect();
        sessions.iter().for_each(|it| visit(&it.request.facts));
    }

    /// Returns counts for metrics, by environment and route.
    #[must_use]
    pub fn counts(&self) -> Vec<StreamCounts> {
        let mut open: HashMap<(EnvironmentLabel, &'static str), u64> = HashMap::new();
        for session in self.0.open.lock().values() {
            *open.entry((session.request.facts.environment.clone(), session.request.facts.route)).or_default() += 1;
        }
        let ended = self.0.ended.lock().clone();
        self.0
            .opened
            .lock()
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

    /// Starts the tasks that end streams at the end of their lifetime and authorize them again after a change of the
    /// plan.
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
            let next = self.0.deadlines.lock().front().map(|(deadline, _)| *deadline);
            let Some(deadline) = next else {
                self.0.deadline_added.notified().await;
                continue;
            };
            tokio::time::sleep_until(deadline).await;
            let now = Instant::now();
            loop {
                let due = {
                    let mut deadlines = self.0.deadlines.lock();
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

    /// Authorizes open streams again, spread over `window`, whenever the chain that admitted them changes. If a plugin
    /// fails, the stream stays open: a failure of the gateway does not end streams.
    async fn recheck_after_changes(self, hooks: Hooks, window: Duration) {
        let mut changes = hooks.changed();
        let mut chains: HashMap<EnvironmentLabel, u64> = HashMap::new();
        loop {
            let plan = hooks.pin();
            let sessions: Vec<_> = self.0.open.lock().values().cloned().collect();
            let mut due = Vec::new();
            let mut seen: HashMap<EnvironmentLabel, bool> = HashMap::new();
            for session in sessions {
                let label = session.request.facts.environment.clone();
                let has_changed = *seen.entry(label.clone()).or_insert_with(|| {
                    let identity = plan.environment(&label).request_auth.as_ref().map_or(0, |it| it.identity());
                    chains.insert(label.clone(), identity).unwrap_or(0) != identity
                });
                // Without a chain nothing admits a request that was left to request plugins.
                if has_changed || session.request.facts.is_delegated {
                    due.push(session);
                }
            }
            let count = u32::try_from(due.len()).unwrap_or(u32::MAX).max(1);
            let start = Instant::now();
            for (index, session) in (1_u32..).zip(due) {
                tokio::time::sleep_until(start + window.mul_f64(f64::from(index) / f64::from(count))).await;
                // The newest chain decides, in case the plan has changed again meanwhile.
                let chain = hooks.of(&session.request.facts.environment).request_auth.clone();
                let facts = &session.request.facts;
                let is_admitted = match chain {
                    None => !facts.is_delegated,
                    Some(chain) => match chain.authenticate(facts).await {
                        Ok(Admission::Denied(denial)) => {
                            let (environment, reason) = (&facts.environment, denial.reason.as_deref());
                            tracing::info!(%environment, plugin = %denial.plugin, reason, "stream is no longer admitted");
                            false
                        }
                        Ok(Admission::Allowed { .. }) | Err(_) => true,
                    },
                };
                if !is_admitted {
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
    /// Ends the stream; the first reason is kept.
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
    /// Returns the facts of the request that opened the stream.
    #[must_use]
    pub fn facts(&self) -> &RequestFacts {
        &self.session.request.facts
    }

    /// Keeps a value until the stream ends.
    #[must_use]
    pub fn attach(mut self, attached: impl Send + Sync + 'static) -> Self {
        self._attached = Some(Box::new(attached));
        self
    }

    /// Returns why the stream has to end, if it has to.
    #[must_use]
    pub fn ending(&self) -> Option<EndReason> {
        self.session.reason()
    }

    /// Returns the stream's session, to end it from outside.
    #[must_use]
    pub fn session(&self) -> &Arc<StreamSession> {
        &self.session
    }

    /// Ends the stream.
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
        shared.open.lock().remove(&self.id);
        let reason = self.session.reason().unwrap_or(EndReason::ClientGone);
        let key = (self.session.request.facts.environment.clone(), self.session.request.facts.route, reason.as_str());
        *shared.ended.lock().entry(key).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;
