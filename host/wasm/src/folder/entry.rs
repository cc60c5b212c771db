//! The state of one plugin in the loader, by file stem.

mod row;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::time::unix_ms;

use super::content::Digests;
use super::kept::KeptVersion;
use super::listing::Pair;
use super::probation::Probation;
use super::records::{PluginRecord, QuarantinedVersion};
use super::rollout::Rollout;
use crate::plan::Running;
use crate::plugin::Plugin;
use crate::status::Refusal;
use crate::vocabulary::{Bind, Policy, Progress, Required};

/// Delay before the same files are retried; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Maximum number of versions of a plugin that are in quarantine.
const MOST_QUARANTINED: usize = 8;

/// Digests of a component and of its binding file.
pub(super) type Identity = ([u8; 32], Option<[u8; 32]>);

/// The state of one plugin, by file stem.
#[derive(Default)]
pub(super) struct Entry {
    /// The files as last applied.
    pub(super) seen: Pair,
    /// Digests of their content.
    pub(super) digests: Digests,
    /// What was staged last.
    pub(super) attempted: Option<Identity>,
    pub(super) active: Option<Arc<Plugin>>,
    /// What is active.
    pub(super) running: Option<Identity>,
    /// Whether what is active has to prove itself.
    pub(super) probation: Option<Probation>,
    /// A newer version that runs beside what is active.
    pub(super) rollout: Option<Rollout>,
    /// A version that is to replace what is active at once, although its binding file says otherwise.
    pub(super) promoted: Option<Identity>,
    /// The required bindings of the binding file that was parsed last.
    pub(super) required_bindings: Vec<Bind>,
    /// Whether the plugin was in the folder when the gateway started, with required bindings.
    pub(super) since_start: bool,
    /// What is remembered across restarts.
    pub(super) record: Option<PluginRecord>,
    /// Name of the plugin for these bindings.
    pub(super) name: Option<Arc<str>>,
    /// Why the content read last is not used.
    pub(super) refusal: Option<Refusal>,
    /// Why the current files cannot be read.
    pub(super) obstacle: Option<Refusal>,
    pub(super) hold: Option<Hold>,
    /// When to retry the same files after a possibly transient failure, and the delay before that.
    pub(super) retry: Option<(Instant, Duration)>,
    /// Since when a version is being staged, in Unix milliseconds, and how far it is.
    pub(super) staging: Option<(u64, Progress)>,
    pub(super) since_ms: u64,
    /// Delays readiness at the start until the plugin is active.
    pub(super) latch: Option<ReadyLatch>,
}

/// Why files without faults are not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hold {
    /// There is no binding file, and automatic binding is disabled.
    Unbound,
    /// There is no binding file yet; without one, the component is bound automatically at this time.
    Settling { until: Instant },
    /// Not all files of this set are there.
    Set(Arc<str>),
    /// An operator has pinned another version.
    Pinned,
    /// The version that ran before is loaded first, because this one is to be rolled out beside it.
    Rollout,
}

impl Entry {
    /// Returns the bindings that fail closed because the plugin does not run.
    pub(super) fn guards(&self) -> impl Iterator<Item = &Bind> {
        let is_guarded = self.active.is_none() && !self.is_retired();
        let is_established = self.since_start || self.was_active();
        let is_in_force = move |bind: &&Bind| match bind.required {
            Required::No => false,
            Required::Yes => is_guarded && is_established,
            Required::Always => is_guarded,
        };
        self.required_bindings.iter().filter(is_in_force)
    }

    pub(super) fn fails_closed(&self) -> bool {
        self.guards().next().is_some()
    }

    /// Returns whether the plugin has been active, in this process or an earlier one, and is not forgotten.
    pub(super) fn was_active(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.was_active)
    }

    /// Returns whether the plugin is retired, by a tombstone or by an operator.
    pub(super) fn is_retired(&self) -> bool {
        self.seen.is_retired || self.is_retired_by_operator()
    }

    pub(super) fn is_retired_by_operator(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.retired_ms.is_some())
    }

    /// Returns when a component without a binding file is bound automatically, if that is still to come.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        match self.hold {
            Some(Hold::Settling { until }) => Some(until),
            _ => None,
        }
    }

    /// Takes files as applied.
    pub(super) fn take_files(&mut self, files: Pair, digests: Digests) {
        (self.seen, self.digests, self.obstacle) = (files, digests, None);
    }

    /// Takes what a staged plugin brings with it. If it replaces another version, it is on probation for `probation`.
    pub(super) fn activate(&mut self, plugin: Arc<Plugin>, identity: Identity, probation: Duration) {
        // A version that has not passed is replaced, and not returned to.
        let is_unproven = self.probation.is_some();
        let former = match self.probation.take() {
            Some(probation) => Some((probation.previous, probation.previous_identity)),
            None => self.active.take().zip(self.running),
        };
        let former = former.filter(|(_, former)| *former != identity && self.quarantined(former).is_none());
        let is_pinned = self.record.as_ref().is_some_and(|record| record.is_pinned);
        if !probation.is_zero() && !is_pinned {
            self.probation = former.map(|(previous, of)| Probation::new(previous, of, probation));
        }
        let current = self.record.as_ref().and_then(|record| record.current.as_ref());
        if current.is_none_or(|current| current.identity != identity) {
            self.rollout = None;
        }
        self.promoted = None;
        self.take(plugin, identity, is_unproven);
        if self.attempted == Some(identity) {
            self.refusal = None;
        }
        self.retry = None;
        self.hold = None;
        self.staging = None;
        self.since_ms = unix_ms();
    }

    /// Takes a version that ran before in place of the running one.
    pub(super) fn return_to(&mut self, plugin: Arc<Plugin>, identity: Identity) {
        self.take(plugin, identity, true);
        self.since_ms = unix_ms();
    }

    /// Makes a version the running one. Its predecessor can be returned to, unless that `is_unproven`.
    fn take(&mut self, plugin: Arc<Plugin>, identity: Identity, is_unproven: bool) {
        self.name = Some(Arc::clone(&plugin.name));
        let mut record = self.record.take().unwrap_or_default();
        record.name = Some(Arc::clone(&plugin.name));
        record.was_active = true;
        record.required_bindings.clone_from(&self.required_bindings);
        record.retired_ms = None;
        let replaced = record.current.replace(KeptVersion::of(&plugin, identity));
        let is_barred = |version: &KeptVersion| {
            is_unproven
                || version.identity == identity
                || record.quarantined.iter().any(|it| it.identity == version.identity)
        };
        if let Some(replaced) = replaced.filter(|version| !is_barred(version)) {
            record.previous = Some(replaced);
        } else if record.previous.as_ref().is_some_and(|previous| previous.identity == identity) {
            record.previous = None;
        }
        self.record = Some(record);
        (self.active, self.running) = (Some(plugin), Some(identity));
    }

    /// Puts a version in quarantine.
    pub(super) fn quarantine(&mut self, version: QuarantinedVersion) {
        let quarantined = &mut self.record.get_or_insert_default().quarantined;
        quarantined.retain(|known| known.identity != version.identity);
        if quarantined.len() >= MOST_QUARANTINED {
            quarantined.remove(0);
        }
        quarantined.push(version);
    }

    /// Returns the entry of a version in the quarantine, if it is there.
    pub(super) fn quarantined(&self, identity: &Identity) -> Option<&QuarantinedVersion> {
        self.record.as_ref()?.quarantined.iter().find(|known| known.identity == *identity)
    }

    /// Returns the content of what is active, also while it is loaded again because something else than its files has changed.
    pub(super) fn active_identity(&self) -> Option<Identity> {
        let recorded = || Some(self.record.as_ref()?.current.as_ref()?.identity);
        self.active.as_ref().and_then(|_| self.running.or_else(recorded))
    }

    /// Returns the version that has to be loaded from its kept files: the one of before if no version runs and the files in
    /// the folder must not be used, or if the running one is in quarantine.
    pub(super) fn version_to_restore(&self) -> Option<Identity> {
        let record = self.record.as_ref()?;
        let is_barred = matches!(self.hold, Some(Hold::Pinned | Hold::Rollout))
            || self.rollout.is_some()
            || self.refusal.as_ref().is_some_and(|it| it.class == "rolled-back");
        let is_good = |version: &&KeptVersion| self.quarantined(&version.identity).is_none();
        let previous = record.previous.as_ref().filter(is_good);
        let version = match (self.running, &record.current) {
            (Some(running), _) => previous.filter(|_| self.quarantined(&running).is_some()),
            (None, Some(current)) if is_barred => {
                if is_good(&current) {
                    Some(current)
                } else {
                    previous
                }
            }
            (None, _) => None,
        };
        version.map(|version| version.identity)
    }

    /// Returns what runs, with what is being rolled out.
    pub(super) fn running(&self) -> Option<Running<'_>> {
        let newer = self.rollout.as_ref().map(|rollout| &*rollout.newer);
        self.active.as_ref().map(|plugin| Running { plugin, newer })
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.is_pinned && record.current.is_some())
    }

    /// Takes the plugin out of service; returns whether it was in service.
    pub(super) fn deactivate(&mut self) -> bool {
        self.attempted = None;
        self.running = None;
        self.probation = None;
        (self.rollout, self.promoted) = (None, None);
        self.retry = None;
        self.hold = None;
        self.staging = None;
        self.since_ms = unix_ms();
        self.active.take().is_some()
    }

    /// Stops delaying readiness once the plugin is active or not required, or once its files are known to be unusable and
    /// requests are served without it, as with an event filter that holds events. `is_scanned` is whether the files are
    /// known.
    pub(super) fn release_latch(&mut self, is_scanned: bool) {
        let is_absent = is_scanned && self.seen.wasm.is_none();
        let is_decided = self.staging.is_none()
            && (self.refusal.is_some() || self.obstacle.is_some() || is_absent && self.hold.is_none());
        let rejects = |bind: &Bind| matches!(bind.on_failure, Policy::Closed | Policy::LastGood);
        if self.latch.is_some() && !self.guards().any(|bind| !is_decided || rejects(bind)) {
            self.latch = None;
        }
    }

    /// Has the files read and judged again at the next scan.
    pub(super) fn reconsider(&mut self) {
        self.seen = Pair { is_retired: self.seen.is_retired, ..Pair::default() };
        self.attempted = None;
    }

    /// Returns whether the same files should be retried now.
    pub(super) fn is_due(&self) -> bool {
        self.staging.is_none() && self.retry.is_some_and(|(at, _)| at <= Instant::now())
    }

    /// Schedules a retry of the same files, if the failure may be transient.
    pub(super) fn plan_retry(&mut self, may_pass: bool) {
        let pause = self.retry.map_or(FIRST_RETRY, |(_, pause)| (pause * 2).min(LONGEST_RETRY));
        self.retry = may_pass.then(|| (Instant::now() + pause, pause));
    }

    /// Returns whether nothing is left of the plugin that has to be known.
    pub(super) fn is_nothing(&self) -> bool {
        self.seen == Pair::default() && self.active.is_none() && !self.fails_closed() && !self.is_retired()
    }
}

#[cfg(test)]
mod tests {
    use yardarm_core::readiness::Readiness;

    use super::*;
    use crate::vocabulary::{Hook, LoadError};

    fn bound(required: Required) -> Entry {
        let bind = Bind { required, ..Bind::automatic(Hook::RequestAuth) };
        Entry { required_bindings: vec![bind], ..Entry::default() }
    }

    #[test]
    fn a_required_plugin_fails_closed_from_the_start_or_once_it_was_active() {
        let record = PluginRecord { was_active: true, ..PluginRecord::default() };
        let retired = PluginRecord { retired_ms: Some(1), ..record.clone() };
        for (required, new, at_start, active_before) in [
            (Required::No, false, false, false),
            (Required::Yes, false, true, true),
            (Required::Always, true, true, true),
        ] {
            assert_eq!(bound(required).fails_closed(), new, "{required:?}");
            assert_eq!(Entry { since_start: true, ..bound(required) }.fails_closed(), at_start, "{required:?}");
            let entry = Entry { record: Some(record.clone()), ..bound(required) };
            assert_eq!(entry.fails_closed(), active_before, "{required:?}");
            assert!(!Entry { record: Some(retired.clone()), ..bound(required) }.fails_closed());
            let seen = Pair { is_retired: true, ..Pair::default() };
            assert!(!Entry { seen, since_start: true, ..bound(required) }.fails_closed());
        }
    }

    #[test]
    fn readiness_waits_for_what_would_reject_requests() {
        let readiness = Readiness::default();
        let required = |hook| Bind { required: Required::Yes, ..Bind::automatic(hook) };
        let refused = || Some(Refusal::new(&LoadError::NoHook, None));
        for (hook, waits_when_refused) in
            [(Hook::RequestAuth, true), (Hook::EventFilter, false), (Hook::PayloadTransform, true)]
        {
            let latch = Some(readiness.latch("a plugin"));
            let mut entry =
                Entry { required_bindings: vec![required(hook)], since_start: true, latch, ..Entry::default() };
            entry.release_latch(false);
            assert!(entry.latch.is_some(), "{hook}: not known yet");
            (entry.refusal, entry.staging) = (refused(), Some((1, Progress::default())));
            entry.release_latch(true);
            assert!(entry.latch.is_some(), "{hook}: other files are being staged");
            entry.staging = None;
            entry.release_latch(true);
            assert_eq!(entry.latch.is_some(), waits_when_refused, "{hook}");
            entry.required_bindings.clear();
            entry.release_latch(true);
            assert!(entry.latch.is_none(), "{hook}: not required");
        }
    }

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
