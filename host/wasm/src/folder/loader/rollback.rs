//! Rollback: a version that is worse than the one before it is replaced by that one, and its files are put in quarantine.

use std::sync::Arc;

use tokio::time::Instant;
use yardarm_core::supervisor;

use super::super::entry::{Entry, Hold, Identity};
use super::super::orders::Impossible;
use super::super::probation::{Fault, JUDGE_INTERVAL, Verdict};
use super::super::records::QuarantinedVersion;
use super::super::stagings::Unit;
use super::Loader;
use super::apply::Ready;
use crate::status::QuarantinedStatus;
use crate::vocabulary::LoadError;

impl Loader {
    /// Returns when versions on probation have to be judged again, if there are any.
    pub(in super::super) fn judgement_due(&self) -> Option<Instant> {
        let is_any = self.entries.values().any(|entry| entry.probation.is_some() || entry.rollout.is_some());
        is_any.then(|| Instant::now() + JUDGE_INTERVAL)
    }

    /// Ends the probations of versions that have passed, and rolls those back that have failed.
    pub(in super::super) fn judge(&mut self) {
        self.judge_rollouts();
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
        let members = self.set_of(stem).map(|(_, members)| members);
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
        let identity = entry.active_identity();
        let (Some(bad), Some(identity)) = (entry.active.take(), identity) else { return };
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
    /// kept. If a newer version is being staged, that one is waited for; it comes in place of the kept one if it can be used.
    pub(super) async fn roll_back_by_order(&mut self, stem: &Arc<str>) -> Result<(bool, String), Impossible> {
        self.refuse_retired(stem)?;
        if let Some(text) = self.reject_rollout(stem, &Fault::Operator) {
            return Ok((true, format!("{text}; its files are in quarantine until they change or are cleared")));
        }
        let entry = self.entry(stem);
        let (Some(bad), Some(identity)) = (entry.active.clone(), entry.active_identity()) else {
            return Err(Impossible::NotRunning);
        };
        let version = bad.version.clone();
        let after = format!("the files of `{version}` are in quarantine until they change or are cleared");
        if let Some(probation) = &entry.probation {
            let to = probation.previous.version.clone();
            self.roll_back_with_set(stem, &Fault::Operator);
            let set = self.set_of(stem).map(|(set, _)| format!(" with the plugins of `{set}.set`")).unwrap_or_default();
            return Ok((true, format!("rolled back from version `{version}` to `{to}`{set}; {after}")));
        }
        if entry.quarantined(&identity).is_some() {
            return Ok((false, format!("version `{version}` is being rolled back already")));
        }
        let previous = entry.record.as_ref().and_then(|record| record.previous.clone());
        let previous = previous.ok_or(Impossible::NothingToReturnTo)?;
        let to = previous.version.clone();
        let is_staging = entry.staging.is_some();
        if !is_staging && !self.stage_kept(stem, previous.identity).await
            || is_staging && !self.has_kept(previous.identity).await
        {
            return Err(Impossible::NotKept { version: to });
        }
        let quarantined = QuarantinedVersion::new(identity, &version, &to, &Fault::Operator);
        let error = quarantined.error();
        bad.guest.context.counters.rollbacks.count(Fault::Operator.reason());
        let entry = self.entry(stem);
        entry.quarantine(quarantined);
        if !is_staging {
            entry.attempted = Some(identity);
        }
        self.save_record(stem);
        self.refuse(stem, Some(identity.0), &error);
        let when = match is_staging {
            true => format!("`{to}` returns unless the newer files that are being loaded can be used"),
            false => format!("`{to}` is being loaded and takes its place"),
        };
        Ok((true, format!("rolling back from version `{version}`: {when}; {after}")))
    }

    /// Has the files of a plugin judged again, and what is remembered of it written.
    pub(super) fn look_again_at(&mut self, stem: &Arc<str>) {
        self.entry(stem).reconsider();
        self.reconsider_set_of(stem);
        self.save_record(stem);
        self.is_scan_due = true;
    }

    /// Begins to stage kept versions: of plugins that do not run, and whose files must not be used; and of plugins that were
    /// rolled back by an order while another version was being staged, or before a restart.
    pub(super) async fn restore_kept(&mut self) {
        let can_wait = |entry: &Entry| entry.rollout.is_some() && !self.kept.is_open();
        let is_free = |entry: &Entry| entry.staging.is_none() && !entry.is_retired() && !can_wait(entry);
        let due = self.entries.iter().filter(|(_, entry)| is_free(entry));
        let due = due.filter_map(|(stem, entry)| Some((Arc::clone(stem), entry.version_to_restore()?)));
        for (stem, identity) in due.collect::<Vec<_>>() {
            let attempted = self.entry(&stem).attempted;
            if !self.stage_kept(&stem, identity).await {
                self.give_up_kept(&stem, identity);
            }
            // The files of the folder have been judged, unless they wait for this version.
            let entry = self.entry(&stem);
            if entry.hold.is_none() || entry.hold == Some(Hold::Pinned) {
                entry.attempted = attempted;
            }
        }
    }

    /// Forgets a version that cannot be restored.
    pub(super) fn give_up_kept(&mut self, stem: &Arc<str>, identity: Identity) {
        let Some(record) = &mut self.entry(stem).record else { return };
        for version in [&mut record.current, &mut record.previous] {
            if version.as_ref().is_some_and(|version| version.identity == identity) {
                *version = None;
            }
        }
        tracing::error!(file = %stem, "the version of before cannot be restored");
        self.resume_rollout(stem);
    }

    async fn has_kept(&mut self, identity: Identity) -> bool {
        let kept = self.kept.clone();
        let load = supervisor::blocking("plugin folder reader", move || kept.load(identity)).await;
        load.is_ok_and(|loaded| loaded.is_some())
    }

    /// Begins to stage a kept version; returns whether its files are there.
    async fn stage_kept(&mut self, stem: &Arc<str>, identity: Identity) -> bool {
        let kept = self.kept.clone();
        let load = supervisor::blocking("plugin folder reader", move || kept.load(identity)).await;
        let Some((bytes, manifest)) = load.ok().flatten() else { return false };
        self.cancel_staging(stem);
        self.entry(stem).promoted = Some(identity);
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
        let newer = self.entries.values().filter_map(|entry| entry.rollout.as_ref()).map(|it| it.identity);
        let needed: Vec<Identity> = versions.map(|version| version.identity).chain(newer).collect();
        let kept = self.kept.clone();
        let _ = supervisor::blocking("plugin folder reader", move || kept.tidy(&needed)).await;
    }
}

impl QuarantinedVersion {
    pub(super) fn new(identity: Identity, version: &str, to: &str, fault: &Fault) -> Self {
        Self { identity, version: version.to_owned(), to: to.to_owned(), reason: fault.to_string() }
    }

    /// Returns the version as the status shows it.
    pub(in super::super) fn status(&self) -> QuarantinedStatus {
        let Self { identity: (sha256, _), version, to, reason } = self.clone();
        QuarantinedStatus { version, sha256: hex::encode(sha256), to, reason }
    }

    /// Returns why the version is not used.
    pub(super) fn error(&self) -> LoadError {
        let Self { version, to, reason, .. } = self.clone();
        LoadError::RolledBack { version: version.into(), to: to.into(), reason: reason.into() }
    }
}
