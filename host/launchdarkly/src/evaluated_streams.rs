//! Streams of evaluated flags, like those of LaunchDarkly's own service: `put`, `patch` and `delete` in place of `ping`, or
//! objects of the second version of the delivery protocol (V017).
//!
//! Clients with equal [`EvaluationRequest`]s form one [`Group`], which is evaluated once per change and rendered once,
//! unless plugins read facts about the request, in which they may differ. A
//! group is a small data set of its own, whose full rendering is the `put`. Its task ([`worker`]) waits for changes of the
//! environment, evaluates the [`affected`] flags, builds new [`results`] and the [`delta`] from the previous ones. Streams
//! read it like any other source, so nothing is evaluated where sockets are written.

mod affected;
mod delta;
mod results;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use yardarm_core::budget::ByTrust;
use yardarm_core::change_log::{Cursor, LogLimits, UpdateSource, Version};
use yardarm_core::hooks::{HookFailure, Hooks, RequestFacts};
use yardarm_core::registry::{EndReason, StreamRegistry};
use yardarm_core::sse::Frame;
use yardarm_core::{Environment, EnvironmentLabel, Evaluators, Lifecycle, environment_with};

use self::affected::AffectedBetween;
use self::delta::Announced;
use self::worker::GroupWorker;
use crate::config::PLUGIN_RETRY;
use crate::data::FlagData;
use crate::evaluation::EvaluationRequest;
use crate::store::EnvironmentStore;

/// Groups of an environment that are evaluated at once; the others queue. A change affects all groups, and requests must
/// not wait behind a long queue of tasks or for an instance of a plugin.
const MAX_EVALUATING: usize = 4;

/// The groups of one environment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EvaluatedStreams(Arc<SharedGroups>);

struct SharedGroups {
    label: EnvironmentLabel,
    data: Environment<FlagData>,
    /// The store for memberships in Big Segments.
    store: Option<Arc<EnvironmentStore>>,
    hooks: Hooks,
    lifecycle: Lifecycle,
    /// Bounded by the number of streams: a group removes itself when its last stream ends.
    groups: Mutex<HashMap<[u8; 32], Weak<Group>>>,
    affected: AffectedBetween,
    permits: Semaphore,
    evaluators: ByTrust<Evaluators>,
    /// All open streams.
    registry: StreamRegistry,
    /// The plan for which streams of results were ended last, and when.
    ended: Mutex<Option<(u64, Instant)>>,
    /// Set while plugins fail, so that the failure is logged once and not once per group.
    is_failing: AtomicBool,
}

/// Streams that are sent the same events. Owned by these streams only.
struct Group {
    source: Arc<dyn UpdateSource>,
    fingerprint: [u8; 32],
    streams: Arc<SharedGroups>,
    /// Ends the task of the group.
    lifecycle: Lifecycle,
}

impl EvaluatedStreams {
    /// Without groups; their tasks end with `lifecycle`.
    pub(crate) fn new(
        label: EnvironmentLabel,
        data: Environment<FlagData>,
        store: Option<Arc<EnvironmentStore>>,
        (hooks, registry): (Hooks, StreamRegistry),
        evaluators: &ByTrust<Evaluators>,
        lifecycle: Lifecycle,
    ) -> Self {
        Self(Arc::new(SharedGroups {
            label,
            data,
            store,
            hooks,
            lifecycle,
            groups: Mutex::default(),
            affected: AffectedBetween::default(),
            permits: Semaphore::new(MAX_EVALUATING),
            evaluators: ByTrust::from_fn(|trust| evaluators.get(trust).for_tasks()),
            registry,
            ended: Mutex::default(),
            is_failing: AtomicBool::new(false),
        }))
    }

    /// The source for a stream of a client with `evaluation_request`.
    pub(crate) fn join(&self, mut evaluation_request: EvaluationRequest) -> Arc<dyn UpdateSource> {
        let mut fingerprint = evaluation_request.fingerprint();
        let is_shared =
            !self.0.hooks.of(&self.0.label).evaluation_transform.as_ref().is_some_and(|it| it.reads_requests());
        if is_shared {
            // Plugins receive nothing in which the clients of a group may differ.
            let RequestFacts { environment, route, sdk, .. } = &*evaluation_request.request.facts;
            evaluation_request.request = RequestFacts::new(environment.clone(), route, sdk).into();
        } else {
            let id = evaluation_request.request.facts.id.to_string();
            fingerprint = Sha256::new().chain_update(fingerprint).chain_update(id).finalize().into();
        }
        let mut groups = self.0.groups();
        if let Some(group) = groups.get(&fingerprint).and_then(Weak::upgrade) {
            return group;
        }
        let group = Arc::new(Group::start(fingerprint, evaluation_request, is_shared, &self.0));
        groups.insert(fingerprint, Arc::downgrade(&group));
        group
    }

    /// The number of groups.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.groups().len()
    }
}

impl SharedGroups {
    fn groups(&self) -> MutexGuard<'_, HashMap<[u8; 32], Weak<Group>>> {
        self.groups.lock()
    }

    /// Ends the streams of results of the environment. Clients connect again, and do not share results any more.
    ///
    /// Called by every group that is outdated, and again by those whose streams were registered later: all streams are gone
    /// through once per plan, and at most once per [`PLUGIN_RETRY`].
    fn end_all(&self) {
        let (generation, now) = (self.hooks.pin().generation(), Instant::now());
        {
            let mut ended = self.ended.lock();
            if ended.is_some_and(|(of, at)| of == generation && now.duration_since(at) < PLUGIN_RETRY) {
                return;
            }
            *ended = Some((generation, now));
        }
        let is_result_stream =
            |route: &str| matches!(route, "client.stream" | "client.stream.objects" | "mobile.stream");
        let ended = self.registry.end_where(EndReason::ResultsDiffer, |facts| {
            facts.environment == self.label && is_result_stream(facts.route)
        });
        if ended > 0 {
            tracing::info!(ended, "streams of results ended, because plugins have changed what they depend on");
        }
    }

    fn plugins_failed(&self, failure: &HookFailure) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%failure, "evaluation plugin failed, evaluated streams keep what they were sent");
        }
    }

    fn plugins_decided(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("evaluation plugins work again");
        }
    }
}

impl Group {
    fn start(
        fingerprint: [u8; 32],
        evaluation_request: EvaluationRequest,
        is_shared: bool,
        streams: &Arc<SharedGroups>,
    ) -> Self {
        let (writer, environment) = environment_with::<Announced>(LogLimits::SMALL);
        let lifecycle = streams.lifecycle.child();
        let source = environment.update_source();
        let worker = GroupWorker::new(Arc::clone(streams), evaluation_request, is_shared, writer, environment);
        lifecycle.supervise("evaluated stream", worker);
        Self { source, fingerprint, streams: Arc::clone(streams), lifecycle }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.lifecycle.token().cancel();
        let mut groups = self.streams.groups();
        // Another group may have been inserted already.
        if groups.get(&self.fingerprint).is_some_and(|it| it.strong_count() == 0) {
            groups.remove(&self.fingerprint);
        }
    }
}

impl UpdateSource for Group {
    fn next(&self, cursor: &mut Cursor) -> Option<Frame> {
        self.source.next(cursor)
    }

    fn versions(&self) -> watch::Receiver<Version> {
        self.source.versions()
    }

    fn lag(&self, cursor: &Cursor) -> u64 {
        self.source.lag(cursor)
    }
}

#[cfg(test)]
mod tests;
