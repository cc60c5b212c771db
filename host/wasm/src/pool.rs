//! Live instances of one plugin at one position of a chain: bounded, used for one call at a time, retired by age.
//!
//! An instance serves only one environment, so that the guest's state cannot leak into another.

mod spare;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use utoipa::ToSchema;
use yardarm_core::EnvironmentLabel;
use yardarm_core::workers::processors;

use self::spare::Spare;
use crate::runtime::guest::{Instance, MOST_CALLS};
use crate::vocabulary::Hook;

/// Age at which an instance is replaced.
const LONGEST_LIFE: Duration = Duration::from_secs(600);

/// Concurrent calls and idle instances.
pub(crate) struct Pool {
    slots: Arc<Semaphore>,
    limit: usize,
    /// Most recently used last. Together with those in use never more than `limit`: creating an instance drops an old
    /// one.
    idle: Mutex<Vec<(EnvironmentLabel, Instance)>>,
    /// For a binding whose calls each have an instance of their own.
    pub(crate) spare: Spare,
    retired: AtomicU64,
}

/// Permission for one concurrent call.
pub(crate) struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The status of a pool.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct PoolStatus {
    /// Maximum number of concurrent calls; further ones wait, within their deadline.
    pub limit: usize,
    /// Calls in progress.
    pub busy: usize,
    /// Instances that are ready for a call.
    pub idle: usize,
    /// Instances replaced because of age, memory or an abnormal end.
    pub retired: u64,
}

impl Pool {
    /// Creates an empty pool for up to `limit` concurrent calls.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            idle: Mutex::new(Vec::new()),
            spare: Spare::default(),
            retired: AtomicU64::new(0),
        }
    }

    /// Returns the maximum number of concurrent calls of one hook of a plugin.
    pub(crate) fn usual_limit(hook: Hook) -> usize {
        match hook {
            Hook::RequestAuth | Hook::RouteResolver | Hook::ContextEnrichment | Hook::EvaluationTransform => {
                2 * processors()
            }
            Hook::EventFilter => processors(),
            Hook::PayloadTransform => 2,
            Hook::Background | Hook::ChangeListener => 1,
        }
    }

    /// Returns a slot if one is free.
    pub(crate) fn try_slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots).try_acquire_owned().ok().map(Slot)
    }

    /// Waits for a slot.
    pub(crate) async fn slot(&self) -> Slot {
        Slot(Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed"))
    }

    /// Takes the most recently used idle instance of this environment. If there is none, makes room for a new one.
    pub(crate) fn take(&self, environment: &EnvironmentLabel, now: Instant) -> Option<Instance> {
        let mut old = Vec::new();
        let mut idle = self.lock();
        if idle.is_empty() {
            return None;
        }
        while let Some(first) = idle.first()
            && now.saturating_duration_since(first.1.born) > LONGEST_LIFE
        {
            old.push(idle.remove(0));
        }
        let found = idle.iter().rposition(|(owner, _)| owner == environment).map(|index| idle.remove(index).1);
        if found.is_none() && idle.len() + self.busy() > self.limit && !idle.is_empty() {
            old.push(idle.remove(0));
        }
        drop(idle);
        // Dropping an instance takes microseconds, so it is done without the lock.
        drop(old);
        found
    }

    /// Keeps an instance for later calls.
    pub(crate) fn put(&self, environment: &EnvironmentLabel, instance: Instance) {
        let guest = instance.store.data();
        guest.plugin.counters.instances.measure(guest.memory.used);
        let mut idle = self.lock();
        let old = (idle.len() >= self.limit).then(|| idle.remove(0));
        idle.push((environment.clone(), instance));
        drop(idle);
        drop(old);
    }

    /// Returns whether an instance has to be retired.
    pub(crate) fn is_worn(&self, instance: &Instance, memory_mb: u32, now: Instant) -> bool {
        let limit = (memory_mb as usize) << 20;
        let birth = instance.memory_at_birth;
        // Half of the memory that is left after the start, so that a guest with a large initial memory is not replaced
        // after each call.
        let full = (limit / 2).max(birth + limit.saturating_sub(birth) / 2);
        let memory = instance.store.data().memory.used;
        instance.calls >= MOST_CALLS || memory > full || now.saturating_duration_since(instance.born) > LONGEST_LIFE
    }

    pub(crate) fn count_retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn status(&self) -> PoolStatus {
        PoolStatus {
            limit: self.limit,
            busy: self.busy(),
            idle: self.lock().len() + usize::from(self.spare.is_waiting()),
            retired: self.retired.load(Ordering::Relaxed),
        }
    }

    fn busy(&self) -> usize {
        self.limit - self.slots.available_permits()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(EnvironmentLabel, Instance)>> {
        self.idle.lock()
    }
}
