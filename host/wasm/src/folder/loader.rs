//! Takes up what changed in the folder and builds the plan that follows from it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use yardarm_core::hooks::{Hooks, Plan};
use yardarm_core::time::unix_ms;

use super::entry::{Entry, TakenUp, required};
use super::scan::{self, Content, Pair, Restless};
use super::{PluginFolder, Settings};
use crate::manifest::Manifest;
use crate::meters::Meters;
use crate::plan::{Missing, PluginPlan};
use crate::stage::{Candidate, LoadError, Plugin, Stager};
use crate::status::Refusal;

/// Knows what is in the folder and what runs because of it.
pub(super) struct Loader {
    settings: Settings,
    stager: Stager,
    hooks: Hooks,
    folder: Arc<PluginFolder>,
    entries: BTreeMap<Arc<str>, Entry>,
    meters: HashMap<String, Arc<Meters>>,
    generation: u64,
    restless: Restless,
    /// Whether there was a folder at the last look.
    present: bool,
    trouble: Option<LoadError>,
    swaps: u64,
    refusals: u64,
}

impl Loader {
    pub(super) fn new(settings: Settings, stager: Stager, hooks: Hooks, folder: Arc<PluginFolder>) -> Self {
        let generation = hooks.pin().generation();
        Self {
            settings,
            stager,
            hooks,
            folder,
            entries: BTreeMap::new(),
            meters: HashMap::new(),
            generation,
            restless: Restless::default(),
            present: false,
            trouble: None,
            swaps: 0,
            refusals: 0,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.settings.dir
    }

    pub(super) fn folder(&self) -> &PluginFolder {
        &self.folder
    }

    pub(super) fn scan_interval(&self) -> Duration {
        self.settings.scan_interval
    }

    pub(super) fn quiet(&self) -> Duration {
        self.settings.quiet
    }

    /// Puts a plan in place in which every required plugin is missing, before the first one is staged.
    pub(super) async fn keep_shut(&mut self) {
        let Some(Ok(Some(pairs))) = self.list().await else { return };
        for (stem, pair) in pairs.into_iter().filter(|(_, pair)| pair.toml.is_some()) {
            let only = Pair { wasm: None, ..pair };
            let Ok(Some(Content { toml: Some(text), .. })) = self.read(&stem, only).await else { continue };
            let entry = self.entries.entry(stem).or_default();
            entry.guards = match Manifest::parse(&text) {
                Ok(manifest) => {
                    entry.name = manifest.name.clone();
                    required(manifest.binds)
                }
                Err(bad) => bad.guards,
            };
        }
        if self.entries.values().any(|entry| !entry.guards.is_empty()) {
            self.replan();
        }
    }

    /// Takes up everything that changed since the last look; says whether that is all. With `wait`, takes up nothing
    /// as long as some file is still being written.
    pub(super) async fn look(&mut self, arrived: &HashSet<PathBuf>, wait: bool) -> bool {
        let Some(listed) = self.list().await else { return true };
        let trouble = match &listed {
            Err(error) => Some(error.clone()),
            Ok(None) if self.present => {
                let text = format!("`{}` is gone; the plugins of before go on", self.settings.dir.display());
                Some(LoadError::UnsafeFolder { text })
            }
            Ok(_) => None,
        };
        if trouble != self.trouble {
            if let Some(error) = &trouble {
                tracing::error!(code = error.code(), %error, "plugin folder cannot be used");
            }
            self.trouble = trouble;
            self.publish();
        }
        let Ok(Some(pairs)) = listed else { return true };
        self.present = true;

        let (work, restless) = self.changed(&pairs, arrived);
        if restless && wait {
            return false;
        }
        if !restless {
            self.restless.clear();
        }
        let (mut change, mut again) = (false, false);
        for (stem, pair) in work {
            match self.take_up(&stem, pair).await {
                TakenUp::Changed => change = true,
                TakenUp::Same => (),
                TakenUp::Again => again = true,
            }
        }
        if change {
            self.retry_duplicates().await;
            self.entries.retain(|_, entry| !entry.is_nothing());
            self.replan();
        }
        self.publish();
        !again
    }

    /// Plugins whose files differ from what was taken up and rest, and whether others do not rest.
    fn changed(
        &mut self,
        pairs: &BTreeMap<Arc<str>, Pair>,
        arrived: &HashSet<PathBuf>,
    ) -> (Vec<(Arc<str>, Pair)>, bool) {
        let stems: BTreeSet<Arc<str>> = pairs.keys().chain(self.entries.keys()).cloned().collect();
        let (mut work, mut restless) = (Vec::new(), false);
        for stem in stems {
            let pair = pairs.get(&stem).cloned().unwrap_or_default();
            let seen = self.entries.get(&stem).map(|entry| entry.seen.clone()).unwrap_or_default();
            if pair == seen {
                if self.entries.get(&stem).is_some_and(Entry::is_due) {
                    work.push((stem, pair));
                }
                continue;
            }
            let files = [(pair.wasm, seen.wasm, "wasm"), (pair.toml, seen.toml, "toml")];
            let at_rest = files.into_iter().all(|(now, before, extension)| {
                let Some(stamp) = now.filter(|_| now != before) else { return true };
                let path = self.settings.dir.join(format!("{stem}.{extension}"));
                self.restless.is_at_rest(&path, stamp, arrived)
            });
            if at_rest {
                work.push((stem, pair));
            } else {
                restless = true;
            }
        }
        (work, restless)
    }

    async fn take_up(&mut self, stem: &Arc<str>, pair: Pair) -> TakenUp {
        let content = match self.read(stem, pair.clone()).await {
            Ok(Some(content)) => content,
            Ok(None) => return TakenUp::Again,
            Err(error) => {
                // Not marked as seen: permissions may change without a trace in size and time.
                self.refuse(stem, None, &error);
                return TakenUp::Same;
            }
        };
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
        entry.seen = pair;
        match content {
            Content { wasm: Some((bytes, sha256)), toml } => self.take_up_component(stem, bytes, sha256, toml).await,
            Content { wasm: None, toml } => self.take_up_absence(stem, toml.as_deref()),
        }
    }

    async fn take_up_component(
        &mut self,
        stem: &Arc<str>,
        bytes: Arc<[u8]>,
        sha256: [u8; 32],
        toml: Option<String>,
    ) -> TakenUp {
        let manifest = toml.map(|text| Manifest::parse(&text).map_err(|bad| (text, bad))).transpose();
        let (identity, manifest) = match manifest {
            Ok(manifest) => ((sha256, manifest.as_ref().map(|manifest| manifest.digest)), manifest),
            Err((_, bad)) => {
                let file = format!("{stem}.toml");
                self.refuse(stem, Some(sha256), &LoadError::ManifestInvalid { file, faults: bad.faults });
                let entry = self.entry(stem);
                entry.attempted = None;
                return entry.guard(bad.guards);
            }
        };
        let auto_bind = self.settings.auto_bind;
        let entry = self.entry(stem);
        if entry.attempted == Some(identity) && !entry.is_due() {
            return TakenUp::Same;
        }
        if entry.attempted.replace(identity) != Some(identity) {
            entry.retry = None;
        }
        if manifest.is_none() && !auto_bind {
            tracing::info!(file = %stem, "plugin has no binding file and is not asked");
            *entry = Entry { seen: entry.seen.clone(), attempted: entry.attempted, unbound: true, ..Entry::default() };
            entry.since_ms = unix_ms();
            return TakenUp::Changed;
        }
        let guards = manifest.as_ref().map(|manifest| required(manifest.binds.clone())).unwrap_or_default();
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
                entry.guards.clear();
                entry.refusal = None;
                entry.retry = None;
                entry.unbound = false;
                entry.since_ms = unix_ms();
                TakenUp::Changed
            }
            Err(error) => {
                self.refuse(stem, Some(sha256), &error);
                self.entry(stem).plan_retry(error.may_pass());
                self.entry(stem).guard(guards)
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
        self.entry(stem).staging_since_ms = Some(unix_ms());
        self.publish();
        let same_code = self.plugins().find(|plugin| plugin.sha256 == sha256);
        let candidate = Candidate {
            stem: Arc::clone(stem),
            bytes,
            sha256,
            manifest,
            generation: self.generation + 1,
            compiled: same_code.map(|plugin| plugin.guest.pre.component().clone()),
        };
        let known = self.meters.clone();
        let meters = |name: &str| known.get(name).cloned().unwrap_or_default();
        let staged = self.stager.stage(candidate, meters).await;
        self.entry(stem).staging_since_ms = None;
        let plugin = staged?;
        let twin = self.plugins().find(|other| other.name == plugin.name && other.stem != plugin.stem);
        if let Some(twin) = twin {
            return Err(LoadError::DuplicateName { name: plugin.name.to_string(), active: twin.stem.to_string() });
        }
        self.meters.insert(plugin.name.to_string(), Arc::clone(&plugin.guest.face.meters));
        Ok(plugin)
    }

    /// The component is not there. What was required fails closed until it is back, or until its binding file says
    /// that it is not required any more: disappearing must not open a door.
    fn take_up_absence(&mut self, stem: &Arc<str>, toml: Option<&str>) -> TakenUp {
        let entry = self.entry(stem);
        entry.attempted = None;
        entry.retry = None;
        entry.unbound = false;
        entry.since_ms = unix_ms();
        let ran = entry.active.take();
        let before = std::mem::take(&mut entry.guards);
        match toml.map(Manifest::parse) {
            Some(Ok(manifest)) => entry.guards = required(manifest.binds),
            Some(Err(bad)) => {
                entry.guards = if bad.guards.is_empty() { before } else { bad.guards };
                let file = format!("{stem}.toml");
                self.refuse(stem, None, &LoadError::ManifestInvalid { file, faults: bad.faults });
            }
            None => {
                let binds = ran.iter().flat_map(|plugin| plugin.seats.iter().map(|seat| seat.bind.clone()));
                entry.guards = if ran.is_some() { required(binds.collect()) } else { before };
                entry.refusal = None;
            }
        }
        let entry = self.entry(stem);
        if entry.guards.is_empty() {
            tracing::info!(file = %stem, "plugin removed");
        } else {
            tracing::error!(
                file = %stem,
                "required plugin is gone and its hooks fail closed; put it back, or retire it with a binding file \
                 without [[bind]]"
            );
        }
        TakenUp::Changed
    }

    /// Tries again what was refused because its name was taken, now that something has changed.
    async fn retry_duplicates(&mut self) {
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
                self.take_up(&stem, pair).await;
            }
        }
    }

    /// Notes why a file is not used; what ran goes on.
    fn refuse(&mut self, stem: &Arc<str>, sha256: Option<[u8; 32]>, error: &LoadError) {
        let refusal = Refusal {
            code: error.code(),
            class: error.class(),
            text: error.to_string(),
            sha256: sha256.map(hex::encode),
            since_ms: unix_ms(),
        };
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
        if entry.refusal.as_ref().is_some_and(|old| old.text == refusal.text && old.sha256 == refusal.sha256) {
            return;
        }
        if let LoadError::DuplicateName { name, .. } = error
            && entry.active.is_none()
        {
            entry.name = Some(name.as_str().into());
        }
        let (code, class, keeps) = (error.code(), error.class(), entry.active.is_some());
        if matches!(error, LoadError::HashMismatch { .. } | LoadError::UnsafeFolder { .. }) {
            tracing::error!(file = %stem, code, class, keeps_running = keeps, %error, "plugin refused");
        } else {
            tracing::warn!(file = %stem, code, class, keeps_running = keeps, %error, "plugin refused");
        }
        entry.refusal = Some(refusal);
        self.refusals += 1;
    }

    fn replan(&mut self) {
        self.generation += 1;
        self.swaps += 1;
        let missing: Vec<Missing> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.active.is_none())
            .flat_map(|(stem, entry)| {
                let name = entry.name.as_ref().unwrap_or(stem);
                entry.guards.iter().map(|bind| (Arc::clone(name), bind.clone()))
            })
            .map(|(name, bind)| {
                let meters = Arc::clone(self.meters.entry(name.to_string()).or_default());
                Missing { name, bind, meters }
            })
            .collect();
        let plan = Arc::new(PluginPlan::new(self.generation, self.plugins(), missing));
        self.hooks.replace(Arc::clone(&plan) as Arc<dyn Plan>);
        tracing::info!(generation = self.generation, plugins = self.plugins().count(), "plugin plan in place");
        self.folder.view().set_plan(plan);
        self.publish();
    }

    /// Shows the present state to whoever asks for the status.
    fn publish(&self) {
        let rows = self.entries.iter().map(|(stem, entry)| entry.row(stem)).collect();
        let mut view = self.folder.view();
        view.set_rows(rows, self.trouble.clone());
        view.set_counts(self.swaps, self.refusals, &self.meters);
    }

    fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.entries.values().filter_map(|entry| entry.active.as_ref())
    }

    fn entry(&mut self, stem: &Arc<str>) -> &mut Entry {
        self.entries.entry(Arc::clone(stem)).or_default()
    }

    /// `None` if the runtime is going down.
    async fn list(&self) -> Option<Result<Option<BTreeMap<Arc<str>, Pair>>, LoadError>> {
        let dir = self.settings.dir.clone();
        tokio::task::spawn_blocking(move || scan::list(&dir)).await.ok()
    }

    async fn read(&self, stem: &Arc<str>, pair: Pair) -> Result<Option<Content>, LoadError> {
        let (dir, stem) = (self.settings.dir.clone(), Arc::clone(stem));
        let read = tokio::task::spawn_blocking(move || scan::read(&dir, &stem, &pair)).await;
        read.unwrap_or_else(|error| Err(LoadError::Unreadable { text: error.to_string() }))
    }
}
