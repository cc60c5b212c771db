//! A version that is being rolled out beside the running one, in shadow or for some of the callers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::time::unix_ms;

use super::entry::Identity;
use super::probation::{Fault, fault_of};
use crate::plan::Newer;
use crate::plugin::Plugin;
use crate::status::RolloutView;

/// A rollout in progress.
pub(super) struct Rollout {
    pub(super) newer: Arc<Newer>,
    pub(super) identity: Identity,
    began: Instant,
    since_ms: u64,
}

/// What a rollout has shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Progress {
    /// It goes on.
    Undecided,
    /// The version is to replace the running one.
    Due,
    /// The version is worse than the running one.
    Failed(Fault),
}

impl Rollout {
    /// Begins the rollout of a version beside `running`.
    pub(super) fn new(plugin: Arc<Plugin>, identity: Identity, running: &Plugin) -> Self {
        let newer = Arc::new(Newer::new(plugin, running));
        Self { newer, identity, began: Instant::now(), since_ms: unix_ms() }
    }

    pub(super) fn plugin(&self) -> &Arc<Plugin> {
        &self.newer.plugin
    }

    /// Compares the version with the running one.
    pub(super) fn progress(&self, running: &Plugin) -> Progress {
        if let Some(fault) = fault_of(self.plugin(), running) {
            return Progress::Failed(fault);
        }
        let is_over = self.left().is_some_and(|left| left.is_zero());
        // A version in shadow whose replies differ needs an operator's judgement.
        let is_same = self.newer.shadow().map(|it| it.report()).is_none_or(|it| it.compared > 0 && it.different == 0);
        if is_over && is_same { Progress::Due } else { Progress::Undecided }
    }

    /// Returns the time until the version is promoted by itself, if it ever is.
    fn left(&self) -> Option<Duration> {
        self.plugin().rollout.promote_after.map(|after| after.saturating_sub(self.began.elapsed()))
    }

    pub(super) fn view(&self) -> RolloutView {
        let left = self.left().map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        RolloutView { newer: Arc::clone(&self.newer), since_ms: self.since_ms, promotion_in_ms: left }
    }
}
