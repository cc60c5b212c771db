//! What every environment has: a label, its data, the state of its connection, and its recent changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::status::Status;
use yardarm_core::{Dataset, Environment, EnvironmentLabel, Lifecycle};

use crate::report::{EnvironmentReport, RecentChanges};

/// The part of an environment that does not depend on the vendor. Vendors embed it and add their own fields.
pub struct EnvironmentBase<D: Dataset> {
    /// Name in logs, metrics and bindings.
    pub label: EnvironmentLabel,
    /// The served data.
    pub data: Environment<D>,
    /// State of the connection to upstream.
    pub status: Status,
    recent: RecentChanges,
    is_behind: AtomicBool,
}

impl<D: Dataset> EnvironmentBase<D> {
    /// Creates the base of an environment.
    #[must_use]
    pub fn new(label: EnvironmentLabel, data: Environment<D>, status: Status) -> Self {
        Self { label, data, status, recent: RecentChanges::default(), is_behind: AtomicBool::new(false) }
    }

    /// Adds a change to the recent ones that operators see.
    pub fn remember(&self, text: String) {
        self.recent.remember(self.data.snapshot().map_or(0, |it| it.seq()), text);
    }

    /// Whether what is served lacks a change from upstream, because a payload plugin failed.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Notes whether what is served lacks a change from upstream.
    pub fn set_behind(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }

    /// Returns the report for operators, without what is the vendor's: counts of items, events, stores.
    #[must_use]
    pub fn report(&self, phase: &'static str) -> EnvironmentReport {
        EnvironmentReport {
            is_behind: self.is_behind(),
            sequence: self.data.snapshot().map_or(0, |it| it.seq()),
            recent_changes: self.recent.all(),
            ..EnvironmentReport::of(&self.label, phase, &self.status)
        }
    }
}

/// How long a full rendering is kept after its last use, at least; twice as long at most.
const RENDERINGS_KEPT: Duration = Duration::from_secs(10);

/// Starts the task that keeps the streams of an environment open, by a heartbeat for all of them in each `interval`, and
/// frees full renderings that no stream needs any more.
pub fn send_heartbeats<D: Dataset>(data: &Environment<D>, interval: Duration, lifecycle: &Lifecycle) {
    let data = data.clone();
    lifecycle.supervise("heartbeat", move || {
        let data = data.clone();
        async move {
            let mut heartbeats = tokio::time::interval(interval);
            let mut releases = tokio::time::interval(RENDERINGS_KEPT);
            releases.set_missed_tick_behavior(MissedTickBehavior::Delay);
            heartbeats.tick().await;
            loop {
                tokio::select! {
                    _ = heartbeats.tick() => data.heartbeat(),
                    _ = releases.tick() => data.release_unused(),
                }
            }
        }
    });
}

/// Starts the task that releases `latch` once an environment has data.
pub fn hold_readiness<D: Dataset>(base: &EnvironmentBase<D>, latch: ReadyLatch, lifecycle: &Lifecycle) {
    let (data, latch) = (base.data.clone(), Arc::new(latch));
    lifecycle.supervise("first data", move || {
        let (data, mut versions, latch) = (data.clone(), data.update_source().versions(), Arc::clone(&latch));
        async move {
            while !data.has_data() {
                if versions.changed().await.is_err() {
                    return;
                }
            }
            latch.release();
        }
    });
}
