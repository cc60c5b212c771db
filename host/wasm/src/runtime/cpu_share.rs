//! How much processor time each plugin may use, so that one of them does not delay everything else.
//!
//! A plugin within its share is never limited. Beyond it, its calls run one at a time, in the order in which they came; and
//! they wait until the share covers them if they are long, because a long call delays what else runs on its thread, or if all
//! plugins together exceed their share. A call that would have to wait too long fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout_at};
use yardarm_core::workers::processors;

use super::engine::TICK;

/// Processor time that can be saved up, or owed, in seconds.
const BURST: f64 = 1.0;
/// Share of one processor for a version in shadow.
const SHADOW_SHARE: f64 = 0.1;
/// Maximum number of calls of a plugin that wait for its share.
const MOST_WAITING: usize = 1_000;

/// How much processor time plugins may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuLimits {
    /// Share of one processor for each plugin.
    pub per_plugin: f64,
    /// Share of all processors for all plugins together.
    pub total: f64,
}

/// The shares of all plugins. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CpuShares(Arc<Shared>);

struct Shared {
    limits: CpuLimits,
    total: Arc<Bucket>,
    /// By name of the plugin; they outlive its generations.
    plugins: Mutex<HashMap<Arc<str>, Arc<CpuShare>>>,
}

/// The share of one plugin.
pub(crate) struct CpuShare {
    own: Bucket,
    total: Arc<Bucket>,
    turn: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
    /// Whether the last call was long enough to delay others.
    is_slow: AtomicBool,
}

/// Permission for a call. Calls beyond the share have one at a time.
pub(crate) struct Turn<'a>(Option<MutexGuard<'a, ()>>);

/// Processor time that flows in at a rate, and out with calls.
struct Bucket {
    /// Seconds per second.
    rate: f64,
    level: Mutex<Level>,
}

struct Level {
    /// Negative if more was used than there was.
    seconds: f64,
    at: Instant,
}

/// Leaves the queue when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Default for CpuLimits {
    fn default() -> Self {
        Self { per_plugin: 0.25, total: 0.5 }
    }
}

impl CpuShares {
    pub(crate) fn new(limits: CpuLimits) -> Self {
        let total = Arc::new(Bucket::new(limits.total * processors() as f64));
        Self(Arc::new(Shared { limits, total, plugins: Mutex::default() }))
    }

    /// Returns the share of a plugin.
    pub(crate) fn of(&self, name: &Arc<str>) -> Arc<CpuShare> {
        let mut plugins = self.0.plugins.lock();
        let new = || Arc::new(CpuShare::new(self.0.limits.per_plugin, Arc::clone(&self.0.total)));
        Arc::clone(plugins.entry(Arc::clone(name)).or_insert_with(new))
    }

    /// Returns the share of a version in shadow, which takes nothing from that of its plugin.
    pub(crate) fn shadow(&self) -> Arc<CpuShare> {
        Arc::new(CpuShare::new(SHADOW_SHARE.min(self.0.limits.per_plugin), Arc::clone(&self.0.total)))
    }
}

impl Turn<'_> {
    /// Returns whether the share was used up, so that the call may have waited.
    pub(crate) fn was_waited_for(&self) -> bool {
        self.0.is_some()
    }
}

impl CpuShare {
    fn new(rate: f64, total: Arc<Bucket>) -> Self {
        let own = Bucket::new(rate);
        Self { own, total, turn: Default::default(), waiting: AtomicUsize::new(0), is_slow: AtomicBool::new(false) }
    }

    /// Waits until the plugin may run, at most until `end`; returns `None` if that is too early.
    pub(crate) async fn turn(&self, now: Instant, end: Instant) -> Option<Turn<'_>> {
        if !self.is_used_up(now) {
            return Some(Turn(None));
        }
        let _waiting = Waiting::join(&self.waiting)?;
        let turn = async {
            let turn = self.turn.lock().await;
            while let Some(wait) = self.own.wait(Instant::now()).filter(|_| self.is_paced()) {
                sleep(wait).await;
            }
            Turn(Some(turn))
        };
        timeout_at(end, turn).await.ok()
    }

    /// Returns whether the plugin has used more than its share.
    pub(crate) fn is_used_up(&self, now: Instant) -> bool {
        self.own.wait(now).is_some()
    }

    /// Adds the processor time of a call.
    pub(crate) fn charge(&self, time: Duration) {
        // A call that found no share has not run, and says nothing about how long calls are.
        if !time.is_zero() {
            self.charge_creation(time);
            self.is_slow.store(time >= TICK, Ordering::Relaxed);
        }
    }

    /// Adds the processor time of creating an instance without a call, which says nothing about how long calls are.
    pub(crate) fn charge_creation(&self, time: Duration) {
        let now = Instant::now();
        self.own.charge(now, time);
        self.total.charge(now, time);
    }

    fn is_paced(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed) || self.total.wait(Instant::now()).is_some()
    }
}

impl Bucket {
    fn new(rate: f64) -> Self {
        Self { rate, level: Mutex::new(Level { seconds: BURST, at: Instant::now() }) }
    }

    /// Returns after how long there is processor time again; `None` if there is some.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let mut level = self.level.lock();
        level.refill(self.rate, now);
        (level.seconds <= 0.0).then(|| Duration::from_secs_f64(-level.seconds / self.rate).max(TICK))
    }

    fn charge(&self, now: Instant, time: Duration) {
        let mut level = self.level.lock();
        level.refill(self.rate, now);
        level.seconds = (level.seconds - time.as_secs_f64()).max(-BURST);
    }
}

impl Level {
    fn refill(&mut self, rate: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.seconds = (self.seconds + passed.as_secs_f64() * rate).min(BURST);
        self.at = self.at.max(now);
    }
}

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(4);
    const QUICK: Duration = Duration::from_micros(50);

    fn share() -> Arc<CpuShare> {
        CpuShares::new(CpuLimits::default()).of(&"plugin".into())
    }

    /// Makes calls one after the other for ten seconds of which each takes `time`; returns how many there were.
    async fn calls_in_ten_seconds(share: &CpuShare, time: Duration) -> u32 {
        let (began, mut calls) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(10) {
            let now = Instant::now();
            let _turn = share.turn(now, now + Duration::from_secs(5)).await.expect("a turn");
            tokio::time::advance(time).await;
            share.charge(time);
            calls += 1;
        }
        calls
    }

    #[tokio::test(start_paused = true)]
    async fn long_calls_are_paced_and_short_ones_run_one_at_a_time() {
        let paced = calls_in_ten_seconds(&share(), SLOW).await;
        // A second is saved up, and a quarter flows in.
        let expected = (1_000 + 2_500) / 4;
        assert!((expected - 50..expected + 50).contains(&paced), "{paced}");
        let share = share();
        assert!(calls_in_ten_seconds(&share, QUICK).await > 190_000, "nothing is lost on an idle machine");
        let now = Instant::now();
        let turn = share.turn(now, now + Duration::from_secs(1)).await;
        assert!(turn.is_some() && share.turn(now, now + Duration::from_secs(1)).await.is_none(), "one at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn short_calls_are_paced_once_all_plugins_together_use_too_much() {
        let shares = CpuShares::new(CpuLimits { total: 0.001, ..CpuLimits::default() });
        let share = shares.of(&"plugin".into());
        let calls = calls_in_ten_seconds(&share, QUICK).await;
        assert!(calls < 100_000, "{calls}");
        let other = shares.of(&"other".into());
        for _ in 0..1_000 {
            let now = Instant::now();
            assert!(other.turn(now, now).await.is_some(), "within its share");
            other.charge(QUICK);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_did_not_run_does_not_end_the_pace() {
        let share = share();
        share.charge(Duration::from_secs(2));
        share.charge(Duration::ZERO);
        let now = Instant::now();
        assert!(share.turn(now, now + Duration::from_secs(1)).await.is_none(), "it owes a second, which takes four");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded_in_time_and_number() {
        let share = share();
        share.charge(Duration::from_secs(2));
        let now = Instant::now();
        assert!(share.turn(now, now + Duration::from_secs(1)).await.is_none(), "it owes a second, which takes four");
        assert_eq!(share.waiting.load(Ordering::Relaxed), 0);
        share.waiting.store(MOST_WAITING, Ordering::Relaxed);
        assert!(share.turn(now, now + Duration::from_secs(60)).await.is_none());
    }
}
