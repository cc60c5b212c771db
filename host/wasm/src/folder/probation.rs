//! The probation of a version that replaced a running one: the version before it stays warm, and returns if the new one
//! is worse.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::entry::Identity;
use crate::plugin::Plugin;
use crate::status::ProbationStatus;
use crate::vocabulary::{Hook, RollbackReason, Tally};

/// Number of calls of each bound hook after which a version has passed.
const ENOUGH_CALLS: u64 = 1_000;
/// Share of failed calls that every version may have.
const TOLERATED: f64 = 0.01;
/// How many times the share of its predecessor a version may have.
const WORSE: f64 = 3.0;
/// Minimum number of failed calls for a judgement.
const LEAST_FAILURES: u64 = 3;
/// Number of calls from which a share of failures, or a usual time, says something.
const LEAST_CALLS: u64 = 100;
/// Log-likelihood ratio at which failures are no coincidence: at half the limit, one version of fifty is judged wrongly.
const CERTAINTY: f64 = 4.0;
/// How many times the processor time of its predecessor a version may take.
const SLOWER: u32 = 5;
/// Interval at which versions are judged.
pub(super) const JUDGE_INTERVAL: Duration = Duration::from_millis(100);

/// A probation in progress.
pub(super) struct Probation {
    pub(super) previous: Arc<Plugin>,
    pub(super) previous_identity: Identity,
    began: Instant,
    window: Duration,
}

/// What a probation has shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Undecided,
    Passed,
    Failed(Fault),
}

/// What is wrong with a version.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    Failures {
        hook: Hook,
        seen: Tally,
        limit: f64,
    },
    Slow {
        hook: Hook,
        time: Duration,
        before: Duration,
        deadline: Duration,
    },
    /// Another plugin of its set was rolled back.
    Set {
        because: Arc<str>,
    },
    Operator,
}

impl Probation {
    pub(super) fn new(previous: Arc<Plugin>, previous_identity: Identity, window: Duration) -> Self {
        Self { previous, previous_identity, began: Instant::now(), window }
    }

    /// Judges the version that is on probation.
    pub(super) fn verdict(&self, plugin: &Plugin) -> Verdict {
        if let Some(fault) = fault_of(plugin, &self.previous) {
            return Verdict::Failed(fault);
        }
        let mut has_enough = true;
        for binding in &plugin.bindings {
            has_enough &= plugin.guest.context.evidence.hook(binding.bind.hook).tally().calls >= ENOUGH_CALLS;
        }
        let is_over = has_enough || self.began.elapsed() >= self.window;
        if is_over { Verdict::Passed } else { Verdict::Undecided }
    }

    pub(super) fn status(&self, plugin: &Plugin) -> ProbationStatus {
        let calls = |hook| plugin.guest.context.evidence.hook(hook).tally().calls;
        let fewest = plugin.bindings.iter().map(|binding| calls(binding.bind.hook)).min().unwrap_or_default();
        let left = self.window.saturating_sub(self.began.elapsed());
        ProbationStatus {
            remaining_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            remaining_calls: ENOUGH_CALLS.saturating_sub(fewest),
            previous_version: self.previous.version.clone(),
            previous_generation: self.previous.generation,
            previous_sha256: hex::encode(self.previous.sha256),
        }
    }
}

/// Returns what makes a version worse than the one before it.
pub(super) fn fault_of(plugin: &Plugin, before: &Plugin) -> Option<Fault> {
    plugin.bindings.iter().find_map(|binding| {
        let hook = binding.bind.hook;
        let [now, before] = [plugin, before].map(|it| it.guest.context.evidence.hook(hook).tally());
        fault(hook, now, before, binding.bind.deadline)
    })
}

fn fault(hook: Hook, now: Tally, before: Tally, deadline: Duration) -> Option<Fault> {
    let limit = TOLERATED.max(WORSE * failed_share(before));
    if are_too_many(now, limit) {
        return Some(Fault::Failures { hook, seen: now, limit });
    }
    let (time, usual) = (now.usual_time, before.usual_time);
    let is_comparable = now.calls >= LEAST_CALLS && before.calls >= LEAST_CALLS;
    let is_slow = is_comparable && time > usual * SLOWER && time > deadline / 2;
    is_slow.then_some(Fault::Slow { hook, time, before: usual, deadline })
}

fn failed_share(tally: Tally) -> f64 {
    if tally.calls < LEAST_CALLS { 0.0 } else { tally.failed as f64 / tally.calls as f64 }
}

/// Returns whether the share of failed calls is above `limit`, by a sequential test of twice the limit against half of it:
/// few calls suffice if all of them fail, and a share below the limit is kept however many calls there are.
fn are_too_many(seen: Tally, limit: f64) -> bool {
    let (low, high) = (limit / 2.0, (limit * 2.0).min(0.95));
    if seen.failed < LEAST_FAILURES || low >= high {
        return false;
    }
    let good = (seen.calls - seen.failed) as f64;
    let evidence = seen.failed as f64 * (high / low).ln() + good * ((1.0 - high) / (1.0 - low)).ln();
    evidence >= CERTAINTY
}

impl Fault {
    pub(super) fn reason(&self) -> RollbackReason {
        match self {
            Self::Failures { seen, .. } if seen.trapped >= LEAST_FAILURES => RollbackReason::Traps,
            Self::Failures { .. } => RollbackReason::Errors,
            Self::Slow { .. } => RollbackReason::Slow,
            Self::Set { .. } => RollbackReason::Set,
            Self::Operator => RollbackReason::Operator,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { hook, seen: Tally { calls, failed, trapped, .. }, limit } => {
                let percent = limit * 100.0;
                write!(f, "{failed} of {calls} calls of `{hook}` failed ({trapped} trapped), {percent:.1} % may")
            }
            Self::Slow { hook, time, before, deadline } => write!(
                f,
                "calls of `{hook}` take up to {time:.1?} of processor time instead of {before:.1?}, of a deadline of \
                 {deadline:?}"
            ),
            Self::Set { because } => write!(f, "`{because}` of the same set was rolled back"),
            Self::Operator => f.write_str("an operator has ordered it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges after each call, of which each `every`th fails; returns after how many it is decided.
    fn decided_after(every: u64, before: Tally) -> Option<u64> {
        (1..=1_000).find(|calls| {
            let seen = Tally { calls: *calls, failed: calls / every, ..Tally::default() };
            fault(Hook::RequestAuth, seen, before, Duration::from_millis(5)).is_some()
        })
    }

    #[test]
    fn half_a_percent_of_failures_is_kept_and_more_returns_within_a_thousand_calls() {
        let new = Tally::default();
        assert_eq!(decided_after(200, new), None);
        assert!(decided_after(50, new).is_some_and(|calls| calls <= 500), "{:?}", decided_after(50, new));
        assert!(decided_after(10, new).is_some_and(|calls| calls <= 50));
        assert_eq!(decided_after(1, new), Some(3));
    }

    #[test]
    fn a_version_may_fail_three_times_as_often_as_its_predecessor() {
        let before = Tally { calls: 1_000, failed: 20, ..Tally::default() };
        assert_eq!(decided_after(25, before), None, "4 % after 2 %");
        assert!(decided_after(5, before).is_some(), "20 % after 2 %");
        let broken = Tally { calls: 1_000, failed: 900, ..Tally::default() };
        assert_eq!(decided_after(1, broken), None, "nothing is worse");
        let few = Tally { calls: 2, failed: 1, ..Tally::default() };
        assert_eq!(decided_after(1, few), Some(3), "one of two says nothing");
    }

    #[test]
    fn a_version_is_slow_if_it_is_slower_and_near_its_deadline() {
        let tally = |micros| Tally { calls: 100, usual_time: Duration::from_micros(micros), ..Tally::default() };
        let is_slow = |now: Tally, before: Tally| {
            fault(Hook::RequestAuth, now, before, Duration::from_millis(5))
                .is_some_and(|it| it.reason() == RollbackReason::Slow)
        };
        assert!(is_slow(tally(2_600), tally(500)));
        assert!(!is_slow(tally(2_400), tally(50)), "below half of the deadline");
        assert!(!is_slow(tally(2_600), tally(600)), "not five times as slow");
        assert!(!is_slow(tally(2_600), Tally { calls: 99, ..tally(500) }), "unknown before");
    }
}
