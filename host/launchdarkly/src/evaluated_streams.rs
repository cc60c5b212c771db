//! Streams of evaluated flags, as LaunchDarkly's own service has them: `put`, `patch` and `delete` in place of `ping`.
//!
//! Clients that ask the same [`Question`] form one [`Group`], which is evaluated once per change and rendered once. A group
//! is a small data set of its own, whose full rendering is the `put`; its task ([`follow`]) waits for changes of the
//! environment, evaluates what they can [touch](touched), makes a new [`View`] and finds the [`Step`] that brings clients
//! from the view before to this one. Streams read it like any other source, so nothing is evaluated where sockets
//! are written.

mod affected;
mod delta;
mod results;
mod worker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Semaphore, watch};
use yardarm_core::budget::ByTrust;
use yardarm_core::change_log::{Cursor, LogLimits, UpdateSource, Version};
use yardarm_core::hooks::{HookFailure, Hooks};
use yardarm_core::sse::Frame;
use yardarm_core::{Environment, EnvironmentLabel, Evaluators, Lifecycle, environment_with};

use self::affected::AffectedBetween;
use self::delta::Announced;
use self::worker::GroupWorker;
use crate::data::FlagData;
use crate::evaluation::EvaluationRequest;
use crate::store::EnvironmentStore;

/// How many groups of an environment are evaluated at once; the others queue. A change concerns all of them, and requests
/// must find neither a long queue of tasks before them nor all instances of a plugin taken.
const TURNS: usize = 4;

/// The groups of one environment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EvaluatedStreams(Arc<Shared>);

struct Shared {
    label: EnvironmentLabel,
    data: Environment<FlagData>,
    /// Where members of Big Segments are.
    store: Option<Arc<EnvironmentStore>>,
    hooks: Hooks,
    lifecycle: Lifecycle,
    /// Bounded by the number of streams: a group takes itself out when its last stream ends.
    groups: Mutex<HashMap<[u8; 32], Weak<Group>>>,
    affected: AffectedBetween,
    permits: Semaphore,
    evaluators: ByTrust<Evaluators>,
    /// Set while plugins fail, so that an operator reads it once and not once per group.
    is_failing: AtomicBool,
}

/// Streams that are sent the same. Held by each of them and by nobody else.
struct Group {
    source: Arc<dyn UpdateSource>,
    fingerprint: [u8; 32],
    streams: Arc<Shared>,
    /// Ends the task that follows the environment.
    lifecycle: Lifecycle,
}

impl EvaluatedStreams {
    /// No groups yet; those to come live no longer than `lifecycle`.
    pub(crate) fn new(
        label: EnvironmentLabel,
        data: Environment<FlagData>,
        store: Option<Arc<EnvironmentStore>>,
        hooks: Hooks,
        evaluators: &ByTrust<Evaluators>,
        lifecycle: Lifecycle,
    ) -> Self {
        Self(Arc::new(Shared {
            label,
            data,
            store,
            hooks,
            lifecycle,
            groups: Mutex::default(),
            affected: AffectedBetween::default(),
            permits: Semaphore::new(TURNS),
            evaluators: ByTrust::from_fn(|trust| evaluators.get(trust).for_tasks()),
            is_failing: AtomicBool::new(false),
        }))
    }

    /// What a stream reads whose client asks `evaluation_request`.
    pub(crate) fn join(&self, evaluation_request: EvaluationRequest) -> Arc<dyn UpdateSource> {
        let fingerprint = evaluation_request.fingerprint();
        let mut groups = self.0.groups();
        if let Some(group) = groups.get(&fingerprint).and_then(Weak::upgrade) {
            return group;
        }
        let group = Arc::new(Group::start(fingerprint, evaluation_request, &self.0));
        groups.insert(fingerprint, Arc::downgrade(&group));
        group
    }

    /// How many different questions are asked.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.groups().len()
    }
}

impl Shared {
    fn groups(&self) -> MutexGuard<'_, HashMap<[u8; 32], Weak<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plugins_failed(&self, failure: &HookFailure) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::error!(environment = %self.label, %failure, "evaluation plugin failed, evaluated streams keep what they were sent");
        }
    }

    fn plugins_decided(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!(environment = %self.label, "evaluation plugins decide again");
        }
    }
}

impl Group {
    fn start(fingerprint: [u8; 32], evaluation_request: EvaluationRequest, streams: &Arc<Shared>) -> Self {
        let (writer, environment) = environment_with::<Announced>(LogLimits::SMALL);
        let lifecycle = streams.lifecycle.child();
        let source = environment.update_source();
        let worker = GroupWorker::new(Arc::clone(streams), evaluation_request, writer, environment);
        lifecycle.supervise("evaluated stream", worker);
        Self { source, fingerprint, streams: Arc::clone(streams), lifecycle }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.lifecycle.token().cancel();
        let mut groups = self.streams.groups();
        // Another one may have taken the place already.
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
