//! Applies changes of the folder and builds the resulting plan.

mod staging;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::hooks::{Hooks, Plan};
use yardarm_core::supervisor::{self, fault_point};

use super::entry::{Entry, StageOutcome};
use super::events::{Events, Suspects};
use super::scan::{self, Listed, Listing, Pair, UnstableFiles};
use super::{PluginFolder, Settings};
use crate::chain::MissingRequired;
use crate::plan::PluginPlan;
use crate::plugin::Plugin;
use crate::staging::Stager;
use crate::status::Refusal;
use crate::vocabulary::{LoadError, PluginCounters};

/// Maximum number of plugins in a folder.
const MOST_PLUGINS: usize = 1_000;
/// Maximum bytes of files that are digested per scan only because time has passed.
const SWEPT_BYTES: u64 = 256 << 20;
/// Interval of cleaning the cache while nothing is compiled.
const TIDY_INTERVAL: Duration = Duration::from_secs(3600);

/// The state of the folder and of the plugins that run because of it.
pub(super) struct Loader {
    settings: Settings,
    stager: Stager,
    hooks: Hooks,
    folder: Arc<PluginFolder>,
    entries: BTreeMap<Arc<str>, Entry>,
    counters: HashMap<String, Arc<PluginCounters>>,
    generation: u64,
    unstable: UnstableFiles,
    /// Files whose content may differ from what was read, although size and time are unchanged.
    suspects: Suspects,
    /// Whether the folder existed at the last scan.
    present: bool,
    trouble: Option<LoadError>,
    swaps: u64,
    refusals: u64,
    tidied: Option<Instant>,
    /// Whether the installed plan may differ from the entries, because a scan was not completed.
    is_unplanned: bool,
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
            counters: HashMap::new(),
            generation,
            unstable: UnstableFiles::default(),
            suspects: Suspects::default(),
            present: false,
            trouble: None,
            swaps: 0,
            refusals: 0,
            tidied: None,
            is_unplanned: false,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn folder(&self) -> &PluginFolder {
        &self.folder
    }

    /// After a panic, everything is scanned again; running plugins keep running.
    pub(super) fn recover(&mut self) {
        self.is_unplanned = true;
        for entry in self.entries.values_mut() {
            entry.seen = Pair::default();
            entry.staging = None;
            if entry.active.is_none() {
                entry.attempted = None;
            }
        }
    }

    /// Installs a plan in which every required plugin is missing, before the first one is staged.
    pub(super) async fn fail_closed_until_loaded(&mut self) {
        let dir = self.settings.dir.clone();
        let trust = self.settings.trust;
        let list =
            move || scan::list(&dir, trust).ok().flatten().map(|listing| scan::required_bindings(&dir, &listing));
        let Ok(Some(required_bindings)) = supervisor::blocking("plugin folder reader", list).await else { return };
        for required_bindings in
            required_bindings.into_iter().filter(|required_bindings| !required_bindings.binds.is_empty())
        {
            let entry = self.entries.entry(required_bindings.stem).or_default();
            (entry.name, entry.required_bindings) = (required_bindings.name, required_bindings.binds);
        }
        if self.entries.values().any(|entry| !entry.required_bindings.is_empty()) {
            self.replan();
        }
    }

    /// Has the content of every file compared with what was read, over the next scans.
    pub(super) fn suspect_all(&mut self) {
        // A sweep of a very large folder may still be in progress, and must cover everything before the next one
        // begins.
        if self.suspects.sweep.is_empty() {
            self.suspects.sweep = self.entries.keys().cloned().collect();
        }
    }

    /// Applies everything that changed since the last scan; returns whether nothing is left. With `wait`, applies
    /// nothing as long as some file is being written.
    pub(super) async fn look(&mut self, events: &mut Events, wait: bool) -> bool {
        self.suspects.add(events);
        let Some(listed) = self.list().await else { return true };
        let trouble = match &listed {
            Err(error) => Some(error.clone()),
            Ok(None) if self.present => {
                let text = format!("`{}` is gone; the plugins of before go on", self.settings.dir.display());
                Some(LoadError::UnusableFolder { text })
            }
            Ok(Some(listing)) => listing.distrust.clone(),
            Ok(None) => None,
        };
        let Ok(Some(Listing { mut pairs, distrust })) = listed else {
            self.set_trouble(trouble);
            return true;
        };
        self.present = true;
        let surplus = self.limit(&mut pairs);
        self.entries.retain(|stem, entry| !entry.is_nothing() || pairs.contains_key(stem));
        self.set_trouble(trouble.or(surplus));
        if let Some(error) = distrust {
            self.distrust(&pairs, &error);
            self.publish();
            return true;
        }

        let (mut work, unstable) = self.changed(&pairs, events);
        if unstable && wait {
            return false;
        }
        if !unstable {
            self.unstable.clear();
        }
        work.extend(self.changed_unseen(&pairs, &work).await);
        fault_point("plugin loader");
        let (mut change, mut again) = (self.is_unplanned, false);
        for (stem, pair) in work {
            match self.apply_files(&stem, pair, wait).await {
                StageOutcome::Changed => change = true,
                StageOutcome::Same => (),
                StageOutcome::Again => again = true,
            }
        }
        if change {
            self.retry_duplicates().await;
            self.entries.retain(|stem, entry| !entry.is_nothing() || pairs.contains_key(stem));
            self.replan();
            self.is_unplanned = false;
        }
        self.publish();
        if change || self.tidied.is_none_or(|at| at.elapsed() > TIDY_INTERVAL) {
            self.tidy_cache().await;
        }
        !again
    }

    /// Truncates the list to the maximum number of plugins; known plugins take precedence.
    fn limit(&self, pairs: &mut BTreeMap<Arc<str>, Pair>) -> Option<LoadError> {
        let count = pairs.len();
        if count <= MOST_PLUGINS {
            return None;
        }
        let known = pairs.keys().filter(|stem| self.entries.contains_key(*stem));
        let new = pairs.keys().filter(|stem| !self.entries.contains_key(*stem));
        let kept: BTreeSet<Arc<str>> = known.chain(new).take(MOST_PLUGINS).cloned().collect();
        pairs.retain(|stem, _| kept.contains(stem));
        Some(LoadError::TooManyPlugins { count, limit: MOST_PLUGINS })
    }

    /// Records why nothing of the folder is applied. Running plugins keep running.
    fn distrust(&mut self, pairs: &BTreeMap<Arc<str>, Pair>, error: &LoadError) {
        for (stem, pair) in pairs {
            let entry = self.entries.entry(Arc::clone(stem)).or_default();
            if entry.seen != *pair {
                entry.obstacle.get_or_insert_with(|| Refusal::new(error, None));
            }
        }
    }

    fn set_trouble(&mut self, trouble: Option<LoadError>) {
        if trouble == self.trouble {
            return;
        }
        match &trouble {
            Some(error) => {
                tracing::error!(code = error.code(), class = error.class(), %error, "plugin folder cannot be used");
            }
            None => tracing::info!(dir = %self.settings.dir.display(), "plugin folder can be used again"),
        }
        self.trouble = trouble;
        self.publish();
    }

    /// Returns the plugins whose files differ from the applied ones and are stable, and whether other files are
    /// unstable.
    fn changed(&mut self, pairs: &BTreeMap<Arc<str>, Pair>, events: &Events) -> (Vec<(Arc<str>, Pair)>, bool) {
        let stems: BTreeSet<Arc<str>> = pairs.keys().chain(self.entries.keys()).cloned().collect();
        let (mut work, mut unstable) = (Vec::new(), false);
        let nothing = Entry::default();
        for stem in stems {
            let pair = pairs.get(&stem).cloned().unwrap_or_default();
            let entry = self.entries.get(&stem).unwrap_or(&nothing);
            if pair == entry.seen {
                if entry.is_due() || entry.obstacle.is_some() {
                    work.push((stem, pair));
                }
                continue;
            }
            let files = [(&pair.wasm, &entry.seen.wasm, "wasm"), (&pair.toml, &entry.seen.toml, "toml")];
            let at_rest = files.into_iter().all(|(now, before, extension)| match now {
                Some(Listed::File { stamp, .. }) if now != before => {
                    let path = self.settings.dir.join(format!("{stem}.{extension}"));
                    self.unstable.is_at_rest(&path, *stamp, &events.arrived)
                }
                _ => true,
            });
            if at_rest {
                work.push((stem, pair));
            } else {
                unstable = true;
            }
        }
        (work, unstable)
    }

    /// Returns the plugins whose files look unchanged but have other content: size and time can be set back, and writes
    /// through a memory mapping do not update them.
    async fn changed_unseen(
        &mut self,
        pairs: &BTreeMap<Arc<str>, Pair>,
        work: &[(Arc<str>, Pair)],
    ) -> Vec<(Arc<str>, Pair)> {
        let is_work: BTreeSet<&Arc<str>> = work.iter().map(|(stem, _)| stem).collect();
        let suspects = self.suspects.take(pairs, SWEPT_BYTES);
        let same = |stem: &Arc<str>| self.entries.get(stem).filter(|entry| Some(&entry.seen) == pairs.get(stem));
        let checks: Vec<_> = suspects
            .into_iter()
            .filter(|stem| !is_work.contains(stem))
            .filter_map(|stem| same(&stem).map(|entry| (entry.digests, stem)))
            .collect();
        if checks.is_empty() {
            return Vec::new();
        }
        let dir = self.settings.dir.clone();
        let compare = move || -> Vec<_> {
            let differs = |(digests, stem): &(_, Arc<str>)| !scan::has_content(&dir, stem, digests);
            checks.into_iter().filter(differs).map(|(_, stem)| stem).collect()
        };
        let different = supervisor::blocking("plugin folder reader", compare).await.unwrap_or_default();
        different.into_iter().map(|stem| (Arc::clone(&stem), pairs[&stem].clone())).collect()
    }

    fn replan(&mut self) {
        self.generation += 1;
        self.swaps += 1;
        let missing: Vec<MissingRequired> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.active.is_none())
            .flat_map(|(stem, entry)| {
                let name = entry.name.as_ref().unwrap_or(stem);
                entry.required_bindings.iter().map(|bind| (Arc::clone(name), bind.clone()))
            })
            .map(|(name, bind)| {
                let counters = Arc::clone(self.counters.entry(name.to_string()).or_default());
                MissingRequired { name, bind, counters }
            })
            .collect();
        let plan = Arc::new(PluginPlan::new(self.generation, self.plugins(), missing, self.settings.all_abstain));
        self.hooks.replace(Arc::clone(&plan) as Arc<dyn Plan>);
        tracing::info!(generation = self.generation, plugins = self.plugins().count(), "plugin plan in place");
        self.folder.view().set_plan(plan);
        self.publish();
    }

    /// Publishes the current state for the status.
    fn publish(&self) {
        let rows = self.entries.iter().map(|(stem, entry)| entry.row(stem)).collect();
        let mut view = self.folder.view();
        view.set_rows(rows, self.trouble.as_ref());
        view.set_counts(self.swaps, self.refusals, &self.counters);
    }

    fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.entries.values().filter_map(|entry| entry.active.as_ref())
    }

    fn entry(&mut self, stem: &Arc<str>) -> &mut Entry {
        self.entries.entry(Arc::clone(stem)).or_default()
    }

    /// Removes cache entries that exceed the limits.
    async fn tidy_cache(&mut self) {
        self.tidied = Some(Instant::now());
        let Some(cache) = self.stager.compilation.cache().cloned() else { return };
        let active = self.plugins().map(|plugin| plugin.sha256).collect();
        let _ = supervisor::blocking("plugin cache", move || cache.tidy(&active)).await;
    }

    /// Lists the folder; returns `None` if the runtime is shutting down.
    async fn list(&self) -> Option<Result<Option<Listing>, LoadError>> {
        let (dir, trust) = (self.settings.dir.clone(), self.settings.trust);
        let listed = supervisor::blocking("plugin folder reader", move || scan::list(&dir, trust)).await;
        Some(listed.unwrap_or_else(|error| Err(LoadError::UnusableFolder { text: error.to_string() })))
    }
}
