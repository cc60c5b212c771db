//! Rollouts: a new version runs beside the running one until it is promoted, is worse, or its files change.

use std::sync::Arc;

use super::super::entry::{Hold, Identity};
use super::super::probation::Fault;
use super::super::records::QuarantinedVersion;
use super::super::rollout::{Progress, Rollout};
use super::Loader;
use crate::plugin::Plugin;
use crate::vocabulary::{RolloutMode, RolloutPolicy};

impl Loader {
    /// Returns how a version is to be staged, given what its binding file says.
    pub(super) fn rollout_of(&self, stem: &Arc<str>, identity: Identity, policy: RolloutPolicy) -> RolloutPolicy {
        let is_beside = self.entries.get(stem).is_some_and(|entry| {
            entry.active.is_some() && entry.active_identity() != Some(identity) && entry.promoted != Some(identity)
        });
        if is_beside { policy } else { RolloutPolicy::default() }
    }

    /// Begins the rollout of a staged version; returns it if it has to replace the running one at once.
    pub(super) fn begin_rollout(&mut self, plugin: Arc<Plugin>, identity: Identity) -> Option<Arc<Plugin>> {
        if !plugin.rollout.is_gradual() {
            return Some(plugin);
        }
        let stem = Arc::clone(&plugin.stem);
        let entry = self.entry(&stem);
        let running = entry.active.clone().filter(|_| entry.active_identity() != Some(identity));
        let Some(running) = running else {
            if plugin.rollout.mode != RolloutMode::Shadow {
                return Some(plugin);
            }
            // Nothing runs any more that it could be compared with, and in shadow it has no services.
            entry.staging = None;
            self.look_again_at(&stem);
            return None;
        };
        tracing::info!(
            plugin = %plugin.name, version = %plugin.version, running = %running.version, mode = ?plugin.rollout.mode,
            "plugin version is being rolled out"
        );
        entry.rollout = Some(Rollout::new(plugin, identity, &running));
        (entry.refusal, entry.hold, entry.retry, entry.staging) = (None, None, None, None);
        self.mark_unplanned();
        None
    }

    /// Compares the versions that are being rolled out with the running ones.
    pub(super) fn judge_rollouts(&mut self) {
        let judged = self.entries.iter().filter_map(|(stem, entry)| {
            let progress = entry.rollout.as_ref()?.progress(entry.active.as_ref()?);
            (progress != Progress::Undecided).then(|| (Arc::clone(stem), progress))
        });
        for (stem, progress) in judged.collect::<Vec<_>>() {
            match progress {
                Progress::Undecided => (),
                Progress::Due => {
                    self.promote_rollout(&stem);
                }
                Progress::Failed(fault) => {
                    self.reject_rollout(&stem, &fault);
                }
            }
            self.publish();
        }
    }

    /// Has the version that is being rolled out replace the running one; returns what happens, if there is one.
    pub(super) fn promote_rollout(&mut self, stem: &Arc<str>) -> Option<String> {
        let entry = self.entry(stem);
        let rollout = entry.rollout.as_ref()?;
        let (plugin, identity) = (Arc::clone(rollout.plugin()), rollout.identity);
        let version = plugin.version.clone();
        let before = entry.active.as_ref().map(|it| it.version.clone()).unwrap_or_default();
        let is_new = entry.promoted.replace(identity) != Some(identity);
        if is_new {
            tracing::info!(file = %stem, version = %version, "plugin version is promoted");
        }
        if plugin.rollout.mode == RolloutMode::Shadow {
            if is_new {
                self.look_again_at(stem);
            }
            return Some(format!(
                "version `{version}` is being loaded and replaces `{before}`, with the usual probation"
            ));
        }
        entry.rollout = None;
        self.activate(plugin, identity);
        Some(format!("version `{version}` replaces `{before}`, with the usual probation"))
    }

    /// Ends the rollout of a version that is worse, or that an operator does not want, and puts its files in quarantine.
    pub(super) fn reject_rollout(&mut self, stem: &Arc<str>, fault: &Fault) -> Option<String> {
        let entry = self.entry(stem);
        let rollout = entry.rollout.take()?;
        let version = rollout.plugin().version.clone();
        let to = entry.active.as_ref().map(|it| it.version.clone()).unwrap_or_default();
        let quarantined = QuarantinedVersion::new(rollout.identity, &version, &to, fault);
        let error = quarantined.error();
        entry.quarantine(quarantined);
        entry.promoted = None;
        if let Some(active) = &entry.active {
            active.guest.context.counters.rollbacks.count(fault.reason());
        }
        self.save_record(stem);
        self.refuse(stem, Some(rollout.identity.0), &error);
        self.mark_unplanned();
        Some(format!("the rollout of version `{version}` is ended, `{to}` goes on"))
    }

    /// Ends a rollout whose version is not wanted any more: other files are there, or the running version is pinned.
    pub(super) fn end_rollout(&mut self, stem: &Arc<str>) {
        if let Some(rollout) = self.entry(stem).rollout.take() {
            tracing::info!(file = %stem, version = %rollout.plugin().version, "the rollout of a plugin version is ended");
            self.mark_unplanned();
        }
    }

    /// Has the files judged again if they waited for the version that ran before.
    pub(super) fn resume_rollout(&mut self, stem: &Arc<str>) {
        let entry = self.entry(stem);
        if entry.hold == Some(Hold::Rollout) {
            entry.hold = None;
            self.look_again_at(stem);
        }
    }
}
