//! The state of one plugin in the loader, by file stem.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::scan::{Digests, Pair};
use crate::plugin::Plugin;
use crate::status::{Refusal, Row, RowState};
use crate::vocabulary::{Bind, Progress};

/// Delay before the same files are retried; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Digests of a component and of its binding file.
pub(super) type Identity = ([u8; 32], Option<[u8; 32]>);

/// The state of one plugin, by file stem.
#[derive(Default)]
pub(super) struct Entry {
    /// The files as last applied.
    pub(super) seen: Pair,
    /// Digests of their content.
    pub(super) digests: Digests,
    pub(super) attempted: Option<Identity>,
    pub(super) active: Option<Arc<Plugin>>,
    /// Bindings that fail closed as long as the plugin does not run.
    pub(super) required_bindings: Vec<Bind>,
    /// Name of the plugin for these bindings.
    pub(super) name: Option<Arc<str>>,
    /// Why the content read last is not used.
    pub(super) refusal: Option<Refusal>,
    /// Why the current files cannot be read.
    pub(super) obstacle: Option<Refusal>,
    pub(super) unbound: bool,
    /// When to retry the same files after a possibly transient failure, and the delay before that.
    pub(super) retry: Option<(Instant, Duration)>,
    /// Since when a version is being staged, in Unix milliseconds, and how far it is.
    pub(super) staging: Option<(u64, Progress)>,
    pub(super) since_ms: u64,
}

/// The outcome of applying one plugin's changed files.
pub(super) enum StageOutcome {
    /// The plan must be rebuilt.
    Changed,
    /// The plan is unaffected.
    Same,
    /// The files changed while they were read.
    Again,
}

impl Entry {
    /// Sets the bindings that fail closed while nothing runs; a running plugin enforces its own.
    pub(super) fn guard(&mut self, required_bindings: Vec<Bind>) -> StageOutcome {
        if self.active.is_some() || self.required_bindings == required_bindings {
            return StageOutcome::Same;
        }
        self.required_bindings = required_bindings;
        StageOutcome::Changed
    }

    /// Returns whether the same files should be retried now.
    pub(super) fn is_due(&self) -> bool {
        self.retry.is_some_and(|(at, _)| at <= Instant::now())
    }

    /// Schedules a retry of the same files, if the failure may be transient.
    pub(super) fn plan_retry(&mut self, may_pass: bool) {
        let pause = self.retry.map_or(FIRST_RETRY, |(_, pause)| (pause * 2).min(LONGEST_RETRY));
        self.retry = may_pass.then(|| (Instant::now() + pause, pause));
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.seen == Pair::default() && self.active.is_none() && self.required_bindings.is_empty()
    }

    pub(super) fn row(&self, stem: &Arc<str>) -> Row {
        let refusal = self.obstacle.as_ref().or(self.refusal.as_ref());
        let state = match (&self.active, refusal) {
            (Some(_), _) => RowState::Active,
            (None, _) if self.staging.is_some() => RowState::Staging,
            (None, Some(_)) => RowState::Refused,
            (None, None) if self.unbound => RowState::Unbound,
            (None, None) => RowState::Missing,
        };
        Row {
            stem: Arc::clone(stem),
            name: self.name.clone(),
            state,
            since_ms: self.since_ms,
            staging: self.staging.clone(),
            active: self.active.clone(),
            refusal: refusal.cloned(),
            fails_closed: self.active.is_none() && !self.required_bindings.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transient_failures_are_retried_with_growing_delays() {
        let mut entry = Entry::default();
        entry.plan_retry(false);
        assert!(!entry.is_due());
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
            entry.plan_retry(true);
            tokio::time::advance(Duration::from_secs(pause) - Duration::from_millis(10)).await;
            assert!(!entry.is_due(), "{pause}");
            tokio::time::advance(Duration::from_millis(20)).await;
            assert!(entry.is_due(), "{pause}");
        }
        entry.plan_retry(false);
        assert!(!entry.is_due());
    }
}
