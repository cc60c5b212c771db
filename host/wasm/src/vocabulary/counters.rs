//! Counters of one plugin, kept across its generations, and those of each generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;

use super::last_errors::LastErrors;
use super::{Hook, LastError, LogGate, Outcome, RollbackMeter};

/// Upper bounds of the histogram of call times, in seconds.
pub const CALL_SECONDS: [f64; 19] =
    [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1, 5e-1, 1.0];

/// The counters of all plugins, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllCounters(Arc<Mutex<BTreeMap<Arc<str>, Arc<PluginCounters>>>>);

/// All counters of one plugin that outlive its generations.
#[derive(Debug)]
pub(crate) struct PluginCounters {
    pub(crate) calls: HookMeters,
    errors: [LastErrors; Hook::ALL.len()],
    pub(crate) instances: InstanceMeter,
    /// Limits the guest's log lines.
    pub(crate) log: LogGate,
    /// Limits the host's reports about the plugin.
    pub(crate) reports: LogGate,
    /// Nanoseconds for which calls ran on a processor.
    processor_nanos: AtomicU64,
    pub(crate) rollbacks: RollbackMeter,
    /// Rejected observations for metrics of the guest.
    guest_metrics_refused: AtomicU64,
    /// Changes of flag data that the plugin did not receive.
    changes_left_out: AtomicU64,
    /// Operations on stored values that the database did not answer.
    kv_unavailable: AtomicU64,
}

/// Counters of the calls of all hooks: of a plugin, or of one of its generations.
#[derive(Debug, Default)]
pub(crate) struct HookMeters([HookMeter; Hook::ALL.len()]);

/// Counters of the calls of one hook.
#[derive(Debug, Default)]
pub(crate) struct HookMeter {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    buckets: [AtomicU64; CALL_SECONDS.len() + 1],
    nanos: AtomicU64,
    /// Nanoseconds that calls waited for an instance.
    waited_nanos: AtomicU64,
}

/// Counters of the instances of one plugin.
#[derive(Debug, Default)]
pub(crate) struct InstanceMeter {
    created: AtomicU64,
    gone: AtomicU64,
    peak_memory: AtomicU64,
}

/// Metrics of the calls of one hook.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HookMetrics {
    /// Name of the hook.
    pub hook: Hook,
    /// Number of calls by outcome: the decision, whether the reply has edits, or the class of the failure.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Number of calls that brought no usable reply.
    pub failed: u64,
    /// Number of calls up to each bound of [`CALL_SECONDS`], and one more for all beyond; not cumulative.
    pub buckets: Vec<u64>,
    /// Sum of call times.
    pub seconds: f64,
    /// Sum of the times that calls waited for an instance.
    pub waited_seconds: f64,
}

/// Metrics of the instances of one plugin.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct InstanceMetrics {
    /// Created since the process started.
    pub created: u64,
    /// Alive now.
    pub alive: u64,
    /// Largest linear memory of any instance after a call or at its end, in bytes.
    pub peak_memory_bytes: u64,
}

impl Default for PluginCounters {
    fn default() -> Self {
        Self {
            calls: HookMeters::default(),
            errors: Default::default(),
            instances: InstanceMeter::default(),
            log: LogGate::for_guest(),
            reports: LogGate::for_reports(),
            processor_nanos: AtomicU64::new(0),
            rollbacks: RollbackMeter::default(),
            guest_metrics_refused: AtomicU64::new(0),
            changes_left_out: AtomicU64::new(0),
            kv_unavailable: AtomicU64::new(0),
        }
    }
}

impl AllCounters {
    /// Returns the counters of a plugin, if it was active before.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<PluginCounters>> {
        self.0.lock().get(name).cloned()
    }

    /// Returns the counters of a plugin, which begin now if it has none.
    pub(crate) fn of(&self, name: &Arc<str>) -> Arc<PluginCounters> {
        Arc::clone(self.0.lock().entry(Arc::clone(name)).or_default())
    }

    /// Sets the counters of a plugin.
    pub(crate) fn insert(&self, name: &Arc<str>, counters: &Arc<PluginCounters>) {
        self.0.lock().insert(Arc::clone(name), Arc::clone(counters));
    }

    /// Returns all counters, sorted by name.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, Arc<PluginCounters>)> {
        self.0.lock().iter().map(|(name, counters)| (Arc::clone(name), Arc::clone(counters))).collect()
    }
}

impl PluginCounters {
    /// Returns the last errors of one hook.
    pub(crate) fn errors(&self, hook: Hook) -> &LastErrors {
        &self.errors[hook.index()]
    }

    /// Returns the last errors of all hooks, for each hook the newest first.
    pub(crate) fn last_errors(&self) -> Vec<LastError> {
        Hook::ALL.into_iter().flat_map(|hook| self.errors(hook).read(hook)).collect()
    }

    pub(crate) fn count_processor_time(&self, time: Duration) {
        self.processor_nanos.fetch_add(nanos(time), Ordering::Relaxed);
    }

    /// Returns for how long calls ran on a processor.
    pub(crate) fn processor_time(&self) -> Duration {
        Duration::from_nanos(get(&self.processor_nanos))
    }

    /// Counts changes of flag data that the plugin did not receive.
    pub(crate) fn count_left_out(&self, changes: u32) {
        self.changes_left_out.fetch_add(changes.into(), Ordering::Relaxed);
    }

    pub(crate) fn changes_left_out(&self) -> u64 {
        self.changes_left_out.load(Ordering::Relaxed)
    }

    pub(crate) fn count_kv_unavailable(&self) {
        self.kv_unavailable.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of operations on stored values that the database did not answer.
    pub(crate) fn kv_unavailable(&self) -> u64 {
        get(&self.kv_unavailable)
    }

    pub(crate) fn count_refused_guest_metric(&self) {
        self.guest_metrics_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of rejected observations for metrics of the guest.
    pub(crate) fn guest_metrics_refused(&self) -> u64 {
        get(&self.guest_metrics_refused)
    }
}

impl HookMeters {
    /// Returns the counters of one hook.
    pub(crate) fn hook(&self, hook: Hook) -> &HookMeter {
        &self.0[hook.index()]
    }

    /// Returns the metrics of hooks that were called at least once.
    pub(crate) fn called_hooks(&self) -> Vec<HookMetrics> {
        let all = Hook::ALL.into_iter().map(|hook| self.hook(hook).read(hook));
        all.filter(|metrics| metrics.outcomes.iter().any(|(_, count)| *count > 0)).collect()
    }
}

impl HookMeter {
    /// Counts a call.
    pub(crate) fn record(&self, outcome: Outcome, took: Duration) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = CALL_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos(took), Ordering::Relaxed);
    }

    /// Adds the time that a call waited for an instance.
    pub(crate) fn waited(&self, time: Duration) {
        self.waited_nanos.fetch_add(nanos(time), Ordering::Relaxed);
    }

    fn read(&self, hook: Hook) -> HookMetrics {
        let count = |outcome: &Outcome| get(&self.outcomes[*outcome as usize]);
        HookMetrics {
            hook,
            outcomes: Outcome::ALL.iter().map(|it| (it.name(), count(it))).collect(),
            failed: Outcome::ALL.iter().filter(|it| it.is_failure()).map(count).sum(),
            buckets: self.buckets.iter().map(get).collect(),
            seconds: Duration::from_nanos(get(&self.nanos)).as_secs_f64(),
            waited_seconds: Duration::from_nanos(get(&self.waited_nanos)).as_secs_f64(),
        }
    }
}

impl InstanceMeter {
    pub(crate) fn created(&self) {
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn gone(&self, memory: usize) {
        self.gone.fetch_add(1, Ordering::Relaxed);
        self.measure(memory);
    }

    /// Takes note of the memory of an instance after a call.
    pub(crate) fn measure(&self, memory: usize) {
        self.peak_memory.fetch_max(memory as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> InstanceMetrics {
        let (gone, created) = (get(&self.gone), get(&self.created));
        InstanceMetrics { created, alive: created.saturating_sub(gone), peak_memory_bytes: get(&self.peak_memory) }
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_land_in_their_bucket() {
        let meter = HookMeter::default();
        meter.record(Outcome::Allow, Duration::from_nanos(800));
        meter.record(Outcome::Allow, Duration::from_micros(2));
        meter.record(Outcome::Deadline, Duration::from_secs(7));
        let read = meter.read(Hook::RequestAuth);
        assert_eq!((read.buckets[0], read.buckets[1]), (1, 1));
        assert_eq!(read.buckets.last(), Some(&1));
        assert!(read.outcomes.contains(&("allow", 2)) && read.outcomes.contains(&("deadline", 1)));
        assert_eq!(read.failed, 1);
    }
}
