//! What the loader knows of one plugin, by file stem.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::scan::{Digests, Pair};
use crate::plugin::Plugin;
use crate::status::{Refusal, Row, RowState};
use crate::vocabulary::Bind;

/// Pause before the same files are tried again; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Digests of a component and of its binding file.
pub(super) type Identity = ([u8; 32], Option<[u8; 32]>);

/// One plugin, by file stem.
#[derive(Default)]
pub(super) struct Entry {
    /// The files as they were taken up.
    pub(super) seen: Pair,
    /// What they contained.
    pub(super) digests: Digests,
    pub(super) attempted: Option<Identity>,
    pub(super) active: Option<Arc<Plugin>>,
    /// What fails closed as long as nothing runs.
    pub(super) required_bindings: Vec<Bind>,
    /// Name for the guards.
    pub(super) name: Option<Arc<str>>,
    /// Why what was read last is not used.
    pub(super) refusal: Option<Refusal>,
    /// Why the present files cannot be read.
    pub(super) obstacle: Option<Refusal>,
    pub(super) unbound: bool,
    /// When to try the same files again, after a failure that may pass, and the pause before that.
    pub(super) retry: Option<(Instant, Duration)>,
    pub(super) staging_since_ms: Option<u64>,
    pub(super) since_ms: u64,
}

/// What became of one plugin's changed files.
pub(super) enum StageOutcome {
    /// The plan must change.
    Changed,
    /// The plan can stay.
    Same,
    /// The files changed while they were read.
    Again,
}

impl Entry {
    /// What must fail closed if nothing runs; what runs guards itself.
    pub(super) fn guard(&mut self, required_bindings: Vec<Bind>) -> StageOutcome {
        if self.active.is_some() || self.required_bindings == required_bindings {
            return StageOutcome::Same;
        }
        self.required_bindings = required_bindings;
        StageOutcome::Changed
    }

    /// Whether the same files should be tried again now.
    pub(super) fn is_due(&self) -> bool {
        self.retry.is_some_and(|(at, _)| at <= Instant::now())
    }

    /// Tries the same files again later, if the failure was one of the machine or of the moment.
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
            (None, _) if self.staging_since_ms.is_some() => RowState::Staging,
            (None, Some(_)) => RowState::Refused,
            (None, None) if self.unbound => RowState::Unbound,
            (None, None) => RowState::Missing,
        };
        Row {
            stem: Arc::clone(stem),
            name: self.name.clone(),
            state,
            since_ms: self.since_ms,
            staging_since_ms: self.staging_since_ms,
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
    async fn what_may_pass_is_tried_again_ever_less_often() {
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
