//! Rollback: a version that is worse than the one before it is replaced by that one, and its files are put in quarantine.

use std::sync::Arc;

use tokio::time::Instant;
use yardarm_core::supervisor;

use super::super::entry::{Entry, Hold, Identity};
use super::super::probation::{Fault, JUDGE_INTERVAL, Verdict};
use super::super::records::QuarantinedVersion;
use super::super::retire::NothingToReturnTo;
use super::super::set::SetEntry;
use super::super::stagings::Unit;
use super::Loader;
use super::apply::Ready;
use crate::vocabulary::LoadError;

impl Loader {
    /// Returns when versions on probation have to be judged again, if there are any.
    pub(in super::super) fn judgement_due(&self) -> Option<Instant> {
        let is_any = self.entries.values().any(|entry| entry.probation.is_some());
        is_any.then(|| Instant::now() + JUDGE_INTERVAL)
    }

    /// Ends the probations of versions that have passed, and rolls those back that have failed.
    pub(in super::super) fn judge(&mut self) {
        let judged = self.entries.iter().filter_map(|(stem, entry)| {
            let verdict = entry.probation.as_ref()?.verdict(entry.active.as_ref()?);
            (verdict != Verdict::Undecided).then(|| (Arc::clone(stem), verdict))
        });
        for (stem, verdict) in judged.collect::<Vec<_>>() {
            if let Verdict::Failed(fault) = verdict {
                self.roll_back_with_set(&stem, &fault);
            } else {
                self.entry(&stem).probation = None;
                tracing::info!(file = %stem, "plugin version has passed its probation");
            }
            self.publish();
        }
    }

    /// Rolls a plugin back, and with it the plugins of its set that replaced others at the same time.
    fn roll_back_with_set(&mut self, stem: &Arc<str>, fault: &Fault) {
        let members = self.sets.values().find(|set| set.contains(stem)).map(SetEntry::members);
        self.roll_back(stem, fault);
        for member in members.into_iter().flatten().filter(|member| member != stem) {
            self.roll_back(&member, &Fault::Set { because: Arc::clone(stem) });
        }
    }

    /// Puts the version before in the place of one on probation, with the next plan. Calls in progress end on the plan that
    /// they have.
    fn roll_back(&mut self, stem: &Arc<str>, fault: &Fault) {
        let entry = self.entry(stem);
        let Some(probation) = entry.probation.take() else { return };
        let (Some(bad), Some(identity)) = (entry.active.take(), entry.running) else { return };
        let quarantined = QuarantinedVersion::new(identity, &bad.version, &probation.previous.version, fault);
        let error = quarantined.error();
        entry.quarantine(quarantined);
        entry.return_to(probation.previous, probation.previous_identity);
        bad.guest.context.counters.rollbacks.count(fault.reason());
        self.save_record(stem);
        self.refuse(stem, Some(identity.0), &error);
        self.mark_unplanned();
    }

    /// Rolls a plugin back by order of an operator: to the version before that is still warm, or to the one whose files are
    /// kept.
    pub(super) async fn roll_back_by_order(&mut self, stem: &Arc<str>) -> Result<(), NothingToReturnTo> {
        let entry = self.entry(stem);
        if entry.probation.is_some() {
            self.roll_back_with_set(stem, &Fault::Operator);
            return Ok(());
        }
        let previous = entry.record.as_ref().and_then(|record| record.previous.clone());
        let (Some(previous), Some(bad), Some(identity)) = (previous, entry.active.clone(), entry.running) else {
            return Err(NothingToReturnTo);
        };
        let quarantined = QuarantinedVersion::new(identity, &bad.version, &previous.version, &Fault::Operator);
        let error = quarantined.error();
        if !self.stage_kept(stem, previous.identity).await {
            return Err(NothingToReturnTo);
        }
        bad.guest.context.counters.rollbacks.count(Fault::Operator.reason());
        let entry = self.entry(stem);
        entry.quarantine(quarantined);
        entry.attempted = Some(identity);
        self.save_record(stem);
        self.refuse(stem, Some(identity.0), &error);
        Ok(())
    }

    /// Releases the versions of a plugin from quarantine. Its files are loaded as if they were new.
    pub(super) fn clear(&mut self, stem: &Arc<str>) {
        let entry = self.entry(stem);
        let Some(record) = entry.record.as_mut().filter(|record| !record.quarantined.is_empty()) else { return };
        tracing::info!(file = %stem, "plugin released from quarantine by an operator");
        record.quarantined.clear();
        entry.refusal = None;
        self.look_again_at(stem);
    }

    /// Pins a plugin to the version that runs, or unpins it: other content of its files, and failures, do not replace it.
    pub(super) fn pin(&mut self, stem: &Arc<str>, is_pinned: bool) {
        let entry = self.entry(stem);
        let record = entry.record.get_or_insert_default();
        if record.is_pinned == is_pinned {
            return;
        }
        tracing::info!(file = %stem, is_pinned, "plugin pinned or unpinned by an operator");
        record.is_pinned = is_pinned;
        if is_pinned {
            entry.probation = None;
        }
        self.look_again_at(stem);
    }

    fn look_again_at(&mut self, stem: &Arc<str>) {
        self.entry(stem).reconsider();
        self.reconsider_set_of(stem);
        self.save_record(stem);
        self.is_scan_due = true;
    }

    /// Begins to stage the kept versions of plugins that do not run, and whose files must not be used.
    pub(super) async fn restore_kept(&mut self) {
        let is_barred = |entry: &Entry| {
            entry.hold == Some(Hold::Pinned) || entry.refusal.as_ref().is_some_and(|it| it.class == "rolled-back")
        };
        let barred = self.entries.iter().filter(|(_, entry)| {
            entry.active.is_none() && entry.staging.is_none() && !entry.is_retired() && is_barred(entry)
        });
        let barred: Vec<(Arc<str>, Identity)> = barred
            .filter_map(|(stem, entry)| Some((Arc::clone(stem), entry.record.as_ref()?.current.as_ref()?.identity)))
            .collect();
        for (stem, identity) in barred {
            let attempted = self.entry(&stem).attempted;
            if !self.stage_kept(&stem, identity).await {
                tracing::error!(file = %stem, "the version of before cannot be restored, so the plugin does not run");
                if let Some(record) = &mut self.entry(&stem).record {
                    record.current = None;
                }
            }
            // The files of the folder have been judged.
            self.entry(&stem).attempted = attempted;
        }
    }

    /// Begins to stage a kept version; returns whether its files are there.
    async fn stage_kept(&mut self, stem: &Arc<str>, identity: Identity) -> bool {
        let kept = self.kept.clone();
        let load = supervisor::blocking("plugin folder reader", move || kept.load(identity)).await;
        let Some((bytes, manifest)) = load.ok().flatten() else { return false };
        self.cancel_staging(stem);
        let ready = Ready { stem: Arc::clone(stem), identity, bytes, manifest };
        self.stage(Unit::Plugin(Arc::clone(stem)), vec![ready]);
        true
    }

    pub(super) fn save_record(&mut self, stem: &Arc<str>) {
        if let Some(record) = self.entries.get(stem).and_then(|entry| entry.record.as_ref()) {
            self.records.put(stem, record);
        }
    }

    /// Removes kept files that no version needs any more.
    pub(super) async fn tidy_kept(&mut self) {
        if !self.stagings.is_empty() {
            // The files of a version are kept before it is active.
            return;
        }
        let records = self.entries.values().filter_map(|entry| entry.record.as_ref());
        let versions = records.flat_map(|record| [&record.current, &record.previous]).flatten();
        let needed: Vec<Identity> = versions.map(|version| version.identity).collect();
        let kept = self.kept.clone();
        let _ = supervisor::blocking("plugin folder reader", move || kept.tidy(&needed)).await;
    }
}

impl QuarantinedVersion {
    fn new(identity: Identity, version: &str, to: &str, fault: &Fault) -> Self {
        Self { identity, version: version.to_owned(), to: to.to_owned(), reason: fault.to_string() }
    }

    /// Returns why the version is not used.
    pub(super) fn error(&self) -> LoadError {
        let Self { version, to, reason, .. } = self.clone();
        LoadError::RolledBack { version: version.into(), to: to.into(), reason: reason.into() }
    }
}
