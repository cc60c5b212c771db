//! How the calls of one generation ended and how long they ran, from which a new version is judged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Hook;

/// Steps of the histogram per doubling of the time.
const STEPS: usize = 4;
/// Binary logarithm of the shortest distinguished time in nanoseconds.
const SHORTEST: u32 = 10;
/// Number of steps: the longest distinguished time is more than a minute.
const BUCKETS: usize = 27 * STEPS;

/// The evidence about all hooks of one generation. Calls that say nothing about the plugin are not in it.
#[derive(Debug, Default)]
pub(crate) struct Evidence([HookEvidence; Hook::ALL.len()]);

/// The evidence about one hook.
#[derive(Debug)]
pub(crate) struct HookEvidence {
    good: AtomicU64,
    failed: AtomicU64,
    trapped: AtomicU64,
    /// Calls by processor time.
    times: [AtomicU64; BUCKETS],
}

/// What is known of the calls of one hook at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// Those of the failed calls that trapped.
    pub(crate) trapped: u64,
    /// Processor time that 99 % of the calls do not exceed, rounded down by up to a quarter.
    pub(crate) usual_time: Duration,
}

/// How a call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Good,
    Failed,
    Trapped,
}

impl Evidence {
    pub(crate) fn hook(&self, hook: Hook) -> &HookEvidence {
        &self.0[hook.index()]
    }
}

impl Default for HookEvidence {
    fn default() -> Self {
        let [good, failed, trapped] = Default::default();
        Self { good, failed, trapped, times: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl HookEvidence {
    /// Adds a call that ran for `time`.
    pub(crate) fn add(&self, ending: Ending, time: Duration) {
        match ending {
            Ending::Good => &self.good,
            Ending::Failed => &self.failed,
            Ending::Trapped => &self.trapped,
        }
        .fetch_add(1, Ordering::Relaxed);
        self.times[bucket(time)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn tally(&self) -> Tally {
        let [good, failed, trapped] = [&self.good, &self.failed, &self.trapped].map(|it| it.load(Ordering::Relaxed));
        let failed = failed + trapped;
        Tally { calls: good + failed, failed, trapped, usual_time: self.usual_time() }
    }

    fn usual_time(&self) -> Duration {
        let times: Vec<u64> = self.times.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        let mut left = times.iter().sum::<u64>().div_ceil(100);
        for (index, count) in times.iter().enumerate().rev() {
            left = left.saturating_sub(*count);
            if left == 0 && *count > 0 {
                return lower_bound(index);
            }
        }
        Duration::ZERO
    }
}

fn bucket(time: Duration) -> usize {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1 << SHORTEST);
    let doublings = nanos.ilog2();
    let step = (nanos >> (doublings - STEPS.ilog2())) as usize % STEPS;
    ((doublings - SHORTEST) as usize * STEPS + step).min(BUCKETS - 1)
}

fn lower_bound(bucket: usize) -> Duration {
    let base = 1 << (SHORTEST as usize + bucket / STEPS);
    Duration::from_nanos(base + base / STEPS as u64 * (bucket % STEPS) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down_by_less_than_a_quarter() {
        for nanos in [1_024, 1_279, 1_280, 48_000, 4_400_000, 999_999_999, 60_000_000_000] {
            let time = Duration::from_nanos(nanos);
            let rounded = lower_bound(bucket(time));
            assert!(rounded <= time && rounded.mul_f64(1.26) > time, "{time:?} {rounded:?}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn one_call_of_a_hundred_does_not_make_the_usual_time() {
        let evidence = HookEvidence::default();
        for _ in 0..198 {
            evidence.add(Ending::Good, Duration::from_micros(20));
        }
        evidence.add(Ending::Trapped, Duration::from_millis(4));
        let tally = evidence.tally();
        assert_eq!((tally.calls, tally.failed, tally.trapped), (199, 1, 1));
        assert!(tally.usual_time < Duration::from_millis(4));
        evidence.add(Ending::Failed, Duration::from_millis(4));
        assert!(evidence.tally().usual_time > Duration::from_millis(3), "two of two hundred");
    }
}
