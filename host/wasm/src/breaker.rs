//! A circuit breaker per hook of a plugin.
//!
//! Opens after several consecutive failures, or when too many calls of the last seconds failed. While open, the failure
//! policy applies without a call; after a pause that doubles each time, single calls probe whether the plugin works
//! again.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

/// Consecutive failures that open the breaker.
const IN_A_ROW: u32 = 5;
/// Share of failed calls, in percent, above which the breaker opens.
const PERCENT: u32 = 20;
/// Minimum number of calls in the window for the share to apply.
const LEAST_CALLS: u32 = 50;
/// Length of the window in seconds, one slot each.
const WINDOW: usize = 10;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Guards one hook of one generation of a plugin.
#[derive(Debug)]
pub(crate) struct Breaker(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    state: State,
    in_a_row: u32,
    slots: [Slot; WINDOW],
    start: Instant,
    pause: Duration,
    opened: u64,
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: Instant },
    Probing,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    calls: u32,
    failures: u32,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Calls are admitted.
    Closed,
    /// Calls are not admitted.
    Open,
    /// One call probes whether the plugin works again.
    HalfOpen,
}

/// How a call counts for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerSignal {
    Success,
    Failure,
    /// The call is no evidence about the plugin, such as one whose caller went away.
    Neither,
}

/// Permission for one call. Its outcome must be recorded; otherwise it counts as [`BreakerSignal::Neither`].
pub(crate) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    probe: bool,
    recorded: bool,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner {
            state: State::Closed,
            in_a_row: 0,
            slots: [Slot::default(); WINDOW],
            start: Instant::now(),
            pause: FIRST_PAUSE,
            opened: 0,
        }))
    }

    /// Admits one call, unless the breaker is open.
    pub(crate) fn admit(&self) -> Option<BreakerPermit<'_>> {
        let mut inner = self.lock();
        let probe = match inner.state {
            State::Closed => false,
            State::Open { until } if Instant::now() >= until => {
                inner.state = State::Probing;
                true
            }
            State::Open { .. } | State::Probing => return None,
        };
        Some(BreakerPermit { breaker: self, probe, recorded: false })
    }

    /// Returns the current state, and how often the breaker has opened.
    pub(crate) fn state(&self) -> (BreakerState, u64) {
        let inner = self.lock();
        let state = match inner.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing => BreakerState::HalfOpen,
        };
        (state, inner.opened)
    }

    fn record(&self, probe: bool, signal: BreakerSignal, now: Instant) {
        let mut inner = self.lock();
        if probe {
            match signal {
                BreakerSignal::Success => inner.close(),
                BreakerSignal::Failure => {
                    inner.pause = (inner.pause * 2).min(LONGEST_PAUSE);
                    inner.open(now);
                }
                // The probe was inconclusive: the next call probes.
                BreakerSignal::Neither => inner.state = State::Open { until: now },
            }
        } else if matches!(inner.state, State::Closed) && signal != BreakerSignal::Neither && inner.count(signal, now) {
            inner.open(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }
}

impl Inner {
    /// Counts a call; returns whether the breaker should open.
    fn count(&mut self, signal: BreakerSignal, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.start).as_secs();
        let slot = &mut self.slots[usize::try_from(second).unwrap_or(0) % WINDOW];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot.calls += 1;
        if signal == BreakerSignal::Success {
            self.in_a_row = 0;
            return false;
        }
        slot.failures += 1;
        self.in_a_row += 1;
        let oldest = (second + 1).saturating_sub(WINDOW as u64);
        let recent = self.slots.iter().filter(|slot| slot.second >= oldest);
        let (calls, failures) = recent.fold((0, 0), |sum, slot| (sum.0 + slot.calls, sum.1 + slot.failures));
        self.in_a_row >= IN_A_ROW || (calls >= LEAST_CALLS && failures * 100 > calls * PERCENT)
    }

    fn open(&mut self, now: Instant) {
        // Jitter, so that plugins that failed together do not probe together.
        let pause = self.pause.mul_f64(rand::random_range(0.9..1.1));
        self.state = State::Open { until: now + pause };
        self.opened += 1;
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.in_a_row = 0;
        self.slots = [Slot::default(); WINDOW];
        self.pause = FIRST_PAUSE;
    }
}

impl BreakerPermit<'_> {
    /// Records the outcome of the call.
    pub(crate) fn record(mut self, signal: BreakerSignal, now: Instant) {
        self.recorded = true;
        self.breaker.record(self.probe, signal, now);
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if !self.recorded {
            self.breaker.record(self.probe, BreakerSignal::Neither, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(breaker: &Breaker, signal: BreakerSignal) -> bool {
        let permit = breaker.admit();
        let admitted = permit.is_some();
        if let Some(permit) = permit {
            permit.record(signal, Instant::now());
        }
        admitted
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it() {
        let breaker = Breaker::new();
        for _ in 0..4 {
            call(&breaker, BreakerSignal::Failure);
        }
        call(&breaker, BreakerSignal::Success);
        for _ in 0..4 {
            assert!(call(&breaker, BreakerSignal::Failure));
        }
        assert_eq!(breaker.state(), (BreakerState::Closed, 0));
        call(&breaker, BreakerSignal::Failure);
        assert_eq!(breaker.state(), (BreakerState::Open, 1));
        assert!(!call(&breaker, BreakerSignal::Success));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_failures_opens_it_within_the_window_only() {
        let breaker = Breaker::new();
        for n in 0..200_u32 {
            tokio::time::advance(Duration::from_millis(150)).await;
            assert!(call(&breaker, if n % 6 == 5 { BreakerSignal::Failure } else { BreakerSignal::Success }), "{n}");
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        for _ in 0..33 {
            call(&breaker, BreakerSignal::Success);
            call(&breaker, BreakerSignal::Failure);
        }
        assert_eq!(breaker.state().0, BreakerState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_and_one_call_probes() {
        let breaker = Breaker::new();
        for _ in 0..5 {
            call(&breaker, BreakerSignal::Failure);
        }
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            tokio::time::advance(Duration::from_secs(pause).mul_f64(0.89)).await;
            assert!(!call(&breaker, BreakerSignal::Success), "too early after {pause} s");
            tokio::time::advance(Duration::from_secs(pause).mul_f64(0.22)).await;
            let probe = breaker.admit().expect("a probe after the pause");
            assert_eq!(breaker.state().0, BreakerState::HalfOpen);
            assert!(breaker.admit().is_none(), "one probe at a time");
            probe.record(BreakerSignal::Failure, Instant::now());
        }
        tokio::time::advance(Duration::from_secs(70)).await;
        assert!(call(&breaker, BreakerSignal::Success));
        assert_eq!(breaker.state().0, BreakerState::Closed);
        for _ in 0..4 {
            assert!(call(&breaker, BreakerSignal::Failure));
        }
        assert_eq!(breaker.state().0, BreakerState::Closed, "counting starts anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_went_away_leaves_room_for_the_next() {
        let breaker = Breaker::new();
        for _ in 0..5 {
            call(&breaker, BreakerSignal::Failure);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(breaker.admit());
        assert!(call(&breaker, BreakerSignal::Success));
        assert_eq!(breaker.state().0, BreakerState::Closed);
    }
}
