//! Applies the files of one plugin: reads them, decides what they mean, and begins to stage the plugin.

use std::sync::Arc;

use tokio::time::Instant;
use yardarm_core::time::unix_ms;
use yardarm_core::{InternalError, supervisor};

use super::super::content::{self, ComponentFile, Content, Parsed};
use super::super::entry::{Entry, Hold, Identity};
use super::super::listing::Pair;
use super::super::stagings::{Failure, Outcome, Unit};
use super::Loader;
use crate::staging::Candidate;
use crate::staging::manifest::{BadManifest, Manifest};
use crate::status::Refusal;
use crate::vocabulary::{Bind, LoadError, Progress};

/// A component that is to be staged.
pub(super) struct Ready {
    pub(super) stem: Arc<str>,
    pub(super) identity: Identity,
    pub(super) bytes: Arc<[u8]>,
    pub(super) manifest: Option<Manifest>,
}

/// The meaning of a plugin's files.
pub(super) enum Meaning {
    /// The same as before.
    Same,
    /// The same as what is active.
    AsRunning(Identity),
    /// The version is in quarantine.
    Quarantined(Identity, LoadError),
    /// An operator has pinned another version.
    Pinned(Identity),
    /// The version that ran before is to be loaded first.
    Behind,
    /// The component cannot be read.
    Unreadable(LoadError),
    /// There is no component.
    Absent,
    /// The binding file cannot be used.
    BadBinding(BadManifest),
    /// There is a component without the binding file that it was required by.
    BindingGone,
    /// There is a component without a binding file, and it is not used for now.
    Alone(Hold),
    /// The component is to be staged.
    Ready(Box<Ready>),
}

impl Loader {
    /// Reads the files of a plugin and applies them, or begins to stage them; returns whether they must be looked at
    /// again, because they changed meanwhile.
    pub(super) async fn apply_files(&mut self, stem: &Arc<str>, pair: Pair, wait: bool) -> bool {
        if self.is_retired(stem, &pair) {
            self.apply_retirement(stem, pair);
            return false;
        }
        let content = match self.read(stem, pair.clone()).await {
            Ok(content) if content.is_steady => content,
            Ok(_) if wait => return true,
            Ok(_) => {
                let text = format!("the files of `{stem}` change all the time; rename finished files into place");
                self.set_obstacle(stem, &LoadError::Unreadable { text });
                return false;
            }
            Err(error) => {
                // Not marked as seen: the obstacle may disappear without a change of size and times.
                self.set_obstacle(stem, &error);
                return false;
            }
        };
        // The operator's word holds, whether or not the component can be used.
        self.take_bindings(stem, Parsed::of(&content));
        let digests = content.digests;
        let meaning = self.interpret(stem, &pair, content);
        match meaning {
            Meaning::Alone(hold @ Hold::Settling { .. }) => {
                self.entry(stem).hold = Some(hold);
                return false;
            }
            // The obstacle may disappear without a change of size and times.
            Meaning::Unreadable(_) => (),
            _ => self.entry(stem).take_files(pair, digests),
        }
        self.act(stem, meaning);
        false
    }

    /// Decides what the content of a plugin's files means.
    pub(super) fn interpret(&self, stem: &Arc<str>, pair: &Pair, content: Content) -> Meaning {
        let nothing = Entry::default();
        let entry = self.entries.get(stem).unwrap_or(&nothing);
        let Content { binding, component, digests, .. } = content;
        let (bytes, sha256) = match component {
            ComponentFile::Read(bytes, sha256) => (bytes, sha256),
            ComponentFile::Absent => {
                let is_known = entry.active.is_none() && entry.seen.wasm.is_none() && entry.digests == digests;
                return match binding {
                    Some(Err(bad)) => Meaning::BadBinding(bad),
                    _ if is_known => Meaning::Same,
                    _ => Meaning::Absent,
                };
            }
            ComponentFile::Unread => {
                return binding.and_then(Result::err).map_or(Meaning::Same, Meaning::BadBinding);
            }
            ComponentFile::Refused(error) => return Meaning::Unreadable(error),
        };
        let manifest = match binding.transpose() {
            Ok(manifest) => manifest,
            Err(bad) => return Meaning::BadBinding(bad),
        };
        let identity = (sha256, manifest.as_ref().map(|manifest| manifest.digest));
        if manifest.is_none() && entry.was_active() && !entry.required_bindings.is_empty() {
            return Meaning::BindingGone;
        }
        if entry.attempted == Some(identity) && !entry.is_due() {
            return Meaning::Same;
        }
        if entry.running == Some(identity) {
            return Meaning::AsRunning(identity);
        }
        if entry.is_pinned()
            && entry.record.as_ref().and_then(|it| it.current.as_ref()).is_some_and(|it| it.identity != identity)
        {
            return Meaning::Pinned(identity);
        }
        if let Some(quarantined) = entry.quarantined(&identity) {
            return Meaning::Quarantined(identity, quarantined.error());
        }
        let is_gradual = manifest.as_ref().is_some_and(|manifest| manifest.rollout.is_gradual());
        let ran_before = entry.record.as_ref().and_then(|it| it.current.as_ref()).filter(|it| it.identity != identity);
        if is_gradual && entry.active.is_none() && ran_before.is_some() && self.kept.is_open() {
            return Meaning::Behind;
        }
        let hold = manifest.is_none().then(|| self.hold_alone(entry, pair)).flatten();
        hold.map_or_else(
            || Meaning::Ready(Box::new(Ready { stem: Arc::clone(stem), identity, bytes, manifest })),
            Meaning::Alone,
        )
    }

    /// Returns why a component without a binding file is not used, or not yet.
    fn hold_alone(&self, entry: &Entry, pair: &Pair) -> Option<Hold> {
        if !self.settings.auto_bind {
            return Some(Hold::Unbound);
        }
        let settle = self.settings.settle_time;
        let is_bound_already = entry.active.as_ref().is_some_and(|plugin| plugin.automatic);
        let has_settled = !self.is_scanned && pair.component_age().is_some_and(|age| age >= settle);
        let now = Instant::now();
        let until = entry.settles_at().unwrap_or(now + settle);
        (!is_bound_already && !has_settled && until > now).then_some(Hold::Settling { until })
    }

    fn act(&mut self, stem: &Arc<str>, meaning: Meaning) {
        let unit = Unit::Plugin(Arc::clone(stem));
        match meaning {
            Meaning::Same => (),
            Meaning::Unreadable(error) => self.set_obstacle(stem, &error),
            Meaning::AsRunning(identity) => {
                self.cancel_staging(stem);
                self.end_rollout(stem);
                let entry = self.entry(stem);
                (entry.attempted, entry.refusal, entry.hold, entry.retry) = (Some(identity), None, None, None);
            }
            Meaning::Quarantined(identity, error) => {
                self.cancel_staging(stem);
                self.refuse(stem, Some(identity.0), &error);
                let entry = self.entry(stem);
                (entry.attempted, entry.retry) = (Some(identity), None);
            }
            Meaning::Pinned(identity) => {
                self.cancel_staging(stem);
                let entry = self.entry(stem);
                (entry.attempted, entry.refusal, entry.retry) = (Some(identity), None, None);
                entry.hold = Some(Hold::Pinned);
            }
            Meaning::Behind => {
                self.cancel_staging(stem);
                let entry = self.entry(stem);
                (entry.attempted, entry.refusal, entry.retry) = (None, None, None);
                entry.hold = Some(Hold::Rollout);
            }
            Meaning::Absent => {
                self.cancel_staging(stem);
                self.apply_absence(stem);
            }
            Meaning::BadBinding(bad) => {
                // What is being staged has the last binding file that could be parsed.
                let is_absent = self.entry(stem).seen.wasm.is_none();
                if is_absent {
                    self.cancel_staging(stem);
                    self.take_out_of_service(stem);
                }
                self.refuse(
                    stem,
                    None,
                    &LoadError::ManifestInvalid { file: format!("{stem}.toml"), faults: bad.faults },
                );
                self.entry(stem).attempted = None;
            }
            Meaning::BindingGone => {
                self.cancel_staging(stem);
                self.refuse(stem, None, &LoadError::BindingMissing { stem: stem.to_string() });
                self.entry(stem).attempted = None;
            }
            Meaning::Alone(hold) => {
                tracing::info!(file = %stem, "plugin has no binding file and is not called");
                self.cancel_staging(stem);
                self.take_out_of_service(stem);
                let entry = self.entry(stem);
                entry.refusal = None;
                entry.hold = Some(hold);
            }
            Meaning::Ready(ready) => {
                if self.cancel_staging(stem) {
                    tracing::info!(code = "S01", file = %stem, "plugin superseded by newer files while it was staged");
                }
                self.stage(unit, vec![*ready]);
            }
        }
    }

    /// Begins to stage components, which become active together.
    pub(super) fn stage(&mut self, unit: Unit, components: Vec<Ready>) {
        let mut candidates = Vec::new();
        for Ready { stem, identity, bytes, manifest } in components {
            self.versions += 1;
            let policy = manifest.as_ref().map(|manifest| manifest.rollout).unwrap_or_default();
            let rollout = self.rollout_of(&stem, identity, policy);
            let same_code = self.plugins().find(|plugin| plugin.sha256 == identity.0);
            let compiled = same_code.map(|plugin| plugin.guest.pre.component().clone());
            let generation = self.versions;
            let entry = self.entry(&stem);
            if entry.attempted.replace(identity) != Some(identity) {
                entry.retry = None;
            }
            if entry.hold != Some(Hold::Rollout) {
                entry.hold = None;
            }
            let progress = Progress::default();
            entry.staging = Some((unix_ms(), progress.clone()));
            let candidate =
                Candidate { stem, bytes, sha256: identity.0, manifest, generation, rollout, compiled, progress };
            candidates.push((candidate, identity));
        }
        let (stager, known, kept) = (self.stager.clone(), self.counters.clone(), self.kept.clone());
        let staging = async move {
            let mut plugins = Vec::new();
            for (candidate, identity) in candidates {
                let (stem, sha256) = (Arc::clone(&candidate.stem), candidate.sha256);
                let (bytes, manifest) = (Arc::clone(&candidate.bytes), candidate.manifest.clone());
                let counters = |name: &str| known.find(name).unwrap_or_default();
                // A file that makes the host panic must not prevent others from being loaded.
                let staged = supervisor::catch(Box::pin(stager.stage(candidate, counters))).await;
                let failed = |error: InternalError| LoadError::InitFailed { what: "loading", error: error.to_string() };
                match staged.map_err(failed).and_then(|staged| staged) {
                    Ok(plugin) => {
                        let kept = kept.clone();
                        let save = move || kept.save(&sha256, &bytes, manifest.as_ref());
                        // A version whose files are not kept runs all the same.
                        let _ = supervisor::blocking("plugin folder reader", save).await;
                        plugins.push((plugin, identity));
                    }
                    Err(error) => return Outcome::Err(Box::new(Failure { stem, sha256, error })),
                }
            }
            Ok(plugins)
        };
        self.stagings.start(unit, staging);
    }

    /// Handles a missing component. Required bindings fail closed until it is back, its binding file no longer requires
    /// it, or it is retired: removing a file must not open access.
    pub(super) fn apply_absence(&mut self, stem: &Arc<str>) {
        self.take_out_of_service(stem);
        self.change_guards(stem, |entry| {
            entry.refusal = None;
            if entry.seen.toml.is_none() && !entry.was_active() {
                entry.required_bindings.clear();
            }
        });
        if self.entry(stem).fails_closed() {
            tracing::error!(
                file = %stem,
                "required plugin is missing and its hooks fail closed; restore it, or retire it with an empty file \
                 `{stem}.retired`"
            );
        } else {
            tracing::info!(file = %stem, "no component to load");
        }
    }

    pub(super) fn take_out_of_service(&mut self, stem: &Arc<str>) {
        if self.entry(stem).deactivate() {
            self.mark_unplanned();
        }
    }

    /// Changes what guards depend on, and has the plan rebuilt if they change with it.
    pub(super) fn change_guards(&mut self, stem: &Arc<str>, change: impl FnOnce(&mut Entry)) {
        let entry = self.entry(stem);
        let before: Vec<Bind> = entry.guards().cloned().collect();
        change(entry);
        if !entry.guards().eq(&before) {
            self.mark_unplanned();
        }
    }

    /// Takes over what a parsed binding file says, if there is one.
    pub(super) fn take_bindings(&mut self, stem: &Arc<str>, parsed: Option<Parsed>) {
        let Some(Parsed { name, required_bindings }) = parsed else { return };
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
        if entry.name.is_none() || entry.active.is_none() && name.is_some() {
            entry.name = name;
        }
        if entry.required_bindings == required_bindings {
            return;
        }
        self.change_guards(stem, |entry| entry.required_bindings = required_bindings);
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
        if let Some(record) = entry.record.as_mut().filter(|record| record.was_active) {
            record.required_bindings.clone_from(&entry.required_bindings);
            self.records.put(stem, record);
        }
    }

    pub(super) async fn read(&mut self, stem: &Arc<str>, pair: Pair) -> Result<Content, LoadError> {
        let (dir, stem, trust) = (self.settings.dir.clone(), Arc::clone(stem), self.settings.trust);
        let read = move || content::read(&dir, &stem, &pair, trust);
        let read = supervisor::blocking("plugin folder reader", read).await;
        read.unwrap_or_else(|error| Err(LoadError::Unreadable { text: error.to_string() }))
    }

    /// Records why files cannot be read; a running plugin keeps running.
    pub(super) fn set_obstacle(&mut self, stem: &Arc<str>, error: &LoadError) {
        let entry = self.entry(stem);
        let refusal = Refusal::new(error, None);
        if entry.obstacle.as_ref().is_some_and(|old| old.text == refusal.text) {
            return;
        }
        log_refusal(stem, error, entry.active.is_some());
        entry.obstacle = Some(refusal);
        self.refusals += 1;
    }

    /// Records why a file is not used; a running plugin keeps running.
    pub(super) fn refuse(&mut self, stem: &Arc<str>, sha256: Option<[u8; 32]>, error: &LoadError) {
        let refusal = Refusal::new(error, sha256);
        let entry = self.entry(stem);
        entry.hold = None;
        if entry.refusal.as_ref().is_some_and(|old| old.text == refusal.text && old.sha256 == refusal.sha256) {
            return;
        }
        if let LoadError::DuplicateName { name, .. } = error
            && entry.active.is_none()
        {
            entry.name = Some(name.as_str().into());
        }
        log_refusal(stem, error, entry.active.is_some());
        entry.refusal = Some(refusal);
        self.refusals += 1;
    }
}

fn log_refusal(stem: &str, error: &LoadError, keeps_running: bool) {
    let (code, class) = (error.code(), error.class());
    let is_alarming = matches!(code, "L11" | "S02") || matches!(error, LoadError::UnsafeFolder { .. });
    if is_alarming {
        tracing::error!(file = %stem, code, class, keeps_running, %error, "plugin refused");
    } else {
        tracing::warn!(file = %stem, code, class, keeps_running, %error, "plugin refused");
    }
}
