//! Applies the files of one plugin: reads them, stages the plugin, and updates its status.

use std::sync::Arc;

use yardarm_core::time::unix_ms;
use yardarm_core::{InternalError, supervisor};

use super::super::entry::{Entry, StageOutcome};
use super::super::scan::{self, ComponentFile, Content, Pair};
use super::Loader;
use crate::plugin::Plugin;
use crate::staging::Candidate;
use crate::staging::manifest::{BadManifest, Manifest};
use crate::status::Refusal;
use crate::vocabulary::{LoadError, Progress, only_required};

impl Loader {
    /// Reads the files of a plugin and applies them.
    pub(super) async fn apply_files(&mut self, stem: &Arc<str>, pair: Pair, wait: bool) -> StageOutcome {
        let content = match self.read(stem, pair.clone()).await {
            Ok(content) => content,
            Err(error) => {
                // Not marked as seen: the obstacle may disappear without a change of size and times.
                self.set_obstacle(stem, &error);
                return StageOutcome::Same;
            }
        };
        if !content.is_steady {
            if wait {
                return StageOutcome::Again;
            }
            let text = format!("the files of `{stem}` change all the time; rename finished files into place");
            self.set_obstacle(stem, &LoadError::Unreadable { text });
            return StageOutcome::Same;
        }
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
        let digests = content.digests;
        if let ComponentFile::Refused(error) = &content.component {
            let required_bindings = match content.binding {
                Some(Ok(manifest)) => only_required(manifest.binds),
                _ => Vec::new(),
            };
            let taken_up = entry.guard(required_bindings);
            self.set_obstacle(stem, error);
            return taken_up;
        }
        entry.obstacle = None;
        let before = std::mem::replace(&mut entry.digests, digests);
        let had_component = entry.seen.wasm.is_some();
        entry.seen = pair;
        match content.component {
            // This absence was applied before.
            ComponentFile::Absent if !had_component && before == digests && entry.active.is_none() => {
                StageOutcome::Same
            }
            ComponentFile::Absent => self.apply_absence(stem, content.binding),
            ComponentFile::Read(bytes, sha256) => match content.binding.transpose() {
                Ok(manifest) => self.apply_component(stem, bytes, sha256, manifest).await,
                Err(bad) => self.apply_bad_binding(stem, bad),
            },
            ComponentFile::Unread | ComponentFile::Refused(_) => match content.binding {
                Some(Err(bad)) => self.apply_bad_binding(stem, bad),
                _ => StageOutcome::Same,
            },
        }
    }

    /// Handles a binding file that cannot be used. A running plugin keeps running; if none runs, the bindings that the
    /// file marks as required fail closed.
    fn apply_bad_binding(&mut self, stem: &Arc<str>, bad: BadManifest) -> StageOutcome {
        let file = format!("{stem}.toml");
        self.refuse(stem, None, &LoadError::ManifestInvalid { file, faults: bad.faults });
        let entry = self.entry(stem);
        entry.attempted = None;
        entry.guard(bad.required_bindings)
    }

    async fn apply_component(
        &mut self,
        stem: &Arc<str>,
        bytes: Arc<[u8]>,
        sha256: [u8; 32],
        manifest: Option<Manifest>,
    ) -> StageOutcome {
        let identity = (sha256, manifest.as_ref().map(|manifest| manifest.digest));
        let auto_bind = self.settings.auto_bind;
        let entry = self.entry(stem);
        if entry.attempted == Some(identity) && !entry.is_due() {
            return StageOutcome::Same;
        }
        if entry.attempted.replace(identity) != Some(identity) {
            entry.retry = None;
        }
        if manifest.is_none() && !auto_bind {
            tracing::info!(file = %stem, "plugin has no binding file and is not called");
            let (seen, digests, attempted) = (entry.seen.clone(), entry.digests, entry.attempted);
            *entry = Entry { seen, digests, attempted, unbound: true, since_ms: unix_ms(), ..Entry::default() };
            return StageOutcome::Changed;
        }
        let required_bindings =
            manifest.as_ref().map(|manifest| only_required(manifest.binds.clone())).unwrap_or_default();
        entry.name = manifest.as_ref().and_then(|manifest| manifest.name.clone()).or(entry.name.take());
        match self.stage(stem, bytes, sha256, manifest).await {
            Ok(plugin) => {
                tracing::info!(
                    plugin = %plugin.name,
                    version = %plugin.version,
                    generation = plugin.generation,
                    sha256 = %hex::encode(plugin.sha256),
                    compile_ms = u64::try_from(plugin.figures.compile.as_millis()).unwrap_or(u64::MAX),
                    cached = plugin.figures.cached,
                    "plugin staged"
                );
                let entry = self.entry(stem);
                entry.name = Some(Arc::clone(&plugin.name));
                entry.active = Some(Arc::new(plugin));
                entry.required_bindings.clear();
                entry.refusal = None;
                entry.retry = None;
                entry.unbound = false;
                entry.since_ms = unix_ms();
                StageOutcome::Changed
            }
            Err(error) => {
                self.refuse(stem, Some(sha256), &error);
                self.entry(stem).plan_retry(error.may_pass());
                self.entry(stem).guard(required_bindings)
            }
        }
    }

    async fn stage(
        &mut self,
        stem: &Arc<str>,
        bytes: Arc<[u8]>,
        sha256: [u8; 32],
        manifest: Option<Manifest>,
    ) -> Result<Plugin, LoadError> {
        let progress = Progress::default();
        self.entry(stem).staging = Some((unix_ms(), progress.clone()));
        self.publish();
        let same_code = self.plugins().find(|plugin| plugin.sha256 == sha256);
        let candidate = Candidate {
            stem: Arc::clone(stem),
            bytes,
            sha256,
            manifest,
            generation: self.generation + 1,
            compiled: same_code.map(|plugin| plugin.guest.pre.component().clone()),
            progress,
        };
        let known = self.counters.clone();
        let counters = |name: &str| known.get(name).cloned().unwrap_or_default();
        // A file that makes the host panic must not prevent others from being loaded.
        let staged = supervisor::catch(self.stager.stage(candidate, counters)).await;
        self.entry(stem).staging = None;
        let failed = |error: InternalError| LoadError::InitFailed { what: "loading", error: error.to_string() };
        let plugin = staged.map_err(failed)??;
        let twin = self.plugins().find(|other| other.name == plugin.name && other.stem != plugin.stem);
        if let Some(twin) = twin {
            return Err(LoadError::DuplicateName { name: plugin.name.to_string(), active: twin.stem.to_string() });
        }
        self.counters.insert(plugin.name.to_string(), Arc::clone(&plugin.guest.context.counters));
        Ok(plugin)
    }

    /// Handles a missing component. Required bindings fail closed until it is back, or until its binding file no longer
    /// requires it: removing a file must not open access.
    fn apply_absence(&mut self, stem: &Arc<str>, binding: Option<Result<Manifest, BadManifest>>) -> StageOutcome {
        let entry = self.entry(stem);
        entry.attempted = None;
        entry.retry = None;
        entry.unbound = false;
        entry.since_ms = unix_ms();
        let ran = entry.active.take();
        let before = std::mem::take(&mut entry.required_bindings);
        match binding {
            Some(Ok(manifest)) => {
                entry.required_bindings = only_required(manifest.binds);
                entry.refusal = None;
            }
            Some(Err(bad)) => {
                entry.required_bindings = if bad.required_bindings.is_empty() { before } else { bad.required_bindings };
                let file = format!("{stem}.toml");
                self.refuse(stem, None, &LoadError::ManifestInvalid { file, faults: bad.faults });
            }
            None => {
                let binds = ran.iter().flat_map(|plugin| plugin.bindings.iter().map(|binding| binding.bind.clone()));
                entry.required_bindings = if ran.is_some() { only_required(binds.collect()) } else { before };
                entry.refusal = None;
            }
        }
        let entry = self.entry(stem);
        if entry.required_bindings.is_empty() {
            tracing::info!(file = %stem, "plugin removed");
        } else {
            tracing::error!(
                file = %stem,
                "required plugin is missing and its hooks fail closed; restore it, or retire it with a binding file \
                 without [[bind]]"
            );
        }
        StageOutcome::Changed
    }

    /// Retries plugins that were rejected because their name was taken, after a change.
    pub(super) async fn retry_duplicates(&mut self) {
        let refused: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.refusal.as_ref().is_some_and(|it| it.class == "duplicate-name"))
            .map(|(stem, _)| Arc::clone(stem))
            .collect();
        for stem in refused {
            let name = self.entry(&stem).name.clone();
            let taken = self.plugins().any(|plugin| Some(&plugin.name) == name.as_ref() && plugin.stem != stem);
            if !taken {
                let entry = self.entry(&stem);
                entry.attempted = None;
                let pair = entry.seen.clone();
                self.apply_files(&stem, pair, false).await;
            }
        }
    }

    /// Records why files cannot be read; a running plugin keeps running.
    fn set_obstacle(&mut self, stem: &Arc<str>, error: &LoadError) {
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
        let refusal = Refusal::new(error, None);
        if entry.obstacle.as_ref().is_some_and(|old| old.text == refusal.text) {
            return;
        }
        log_refusal(stem, error, entry.active.is_some());
        entry.obstacle = Some(refusal);
        self.refusals += 1;
    }

    /// Records why a file is not used; a running plugin keeps running.
    fn refuse(&mut self, stem: &Arc<str>, sha256: Option<[u8; 32]>, error: &LoadError) {
        let refusal = Refusal::new(error, sha256);
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
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

    async fn read(&self, stem: &Arc<str>, pair: Pair) -> Result<Content, LoadError> {
        let (dir, stem, trust) = (self.settings.dir.clone(), Arc::clone(stem), self.settings.trust);
        let read = supervisor::blocking("plugin folder reader", move || scan::read(&dir, &stem, &pair, trust)).await;
        read.unwrap_or_else(|error| Err(LoadError::Unreadable { text: error.to_string() }))
    }
}

fn log_refusal(stem: &str, error: &LoadError, keeps_running: bool) {
    let (code, class) = (error.code(), error.class());
    if matches!(error, LoadError::HashMismatch { .. } | LoadError::UnsafeFolder { .. }) {
        tracing::error!(file = %stem, code, class, keeps_running, %error, "plugin refused");
    } else {
        tracing::warn!(file = %stem, code, class, keeps_running, %error, "plugin refused");
    }
}
