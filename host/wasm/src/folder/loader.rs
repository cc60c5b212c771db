//! Applies changes of the folder and builds the resulting plan.
//!
//! A scan (`changes`) finds what differs from what was applied, and decides (`apply`, `sets`) what is staged. Plugins are
//! staged side by side, and their results (`results`) become one plan if they come together.

mod apply;
mod changes;
mod orders;
mod results;
mod retirement;
mod rollback;
mod rollout;
mod secrets;
mod sets;
mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use yardarm_core::hooks::{Hooks, Plan};
use yardarm_core::supervisor;

use self::orders::Answer;
use super::entry::Entry;
use super::events::Suspects;
use super::kept::KeptFiles;
use super::listing::{self, Listing, Pair};
use super::records::Records;
use super::rollout::Rollout;
use super::set::SetEntry;
use super::stagings::{Outcome, Stagings, Unit};
use super::unstable::UnstableFiles;
use super::{PluginFolder, Settings};
use crate::chain::MissingRequired;
use crate::plan::PluginPlan;
use crate::plugin::Plugin;
use crate::staging::Stager;
use crate::vocabulary::{AllCounters, LoadError};

/// Interval of cleaning the cache while nothing is compiled.
const TIDY_INTERVAL: Duration = Duration::from_secs(3600);

/// The state of the folder and of the plugins that run because of it.
pub(super) struct Loader {
    settings: Settings,
    stager: Stager,
    hooks: Hooks,
    folder: Arc<PluginFolder>,
    records: Records,
    kept: KeptFiles,
    entries: BTreeMap<Arc<str>, Entry>,
    sets: BTreeMap<Arc<str>, SetEntry>,
    stagings: Stagings,
    /// Plugins that were active before the start.
    established: BTreeSet<Arc<str>>,
    counters: AllCounters,
    /// Generation of the current plan.
    generation: u64,
    /// Number of versions that were staged.
    versions: u64,
    unstable: UnstableFiles,
    /// Files whose content may differ from what was read, although size and time are unchanged.
    suspects: Suspects,
    /// Whether the folder existed at the last scan.
    present: bool,
    /// Whether a scan has been completed since the start.
    is_scanned: bool,
    /// When the last scan began.
    scanned: Option<Instant>,
    /// Changed files that wait for a place among the stagings, those of small components first.
    backlog: VecDeque<(Arc<str>, Pair)>,
    /// Whether a set waits for a place.
    is_crowded: bool,
    /// Whether the folder has to be scanned now.
    is_scan_due: bool,
    trouble: Option<LoadError>,
    swaps: u64,
    refusals: u64,
    tidied: Option<Instant>,
    /// Since when the installed plan differs from the entries.
    unplanned: Option<Instant>,
    /// Orders that were carried out and are to be answered.
    answers: Vec<Answer>,
}

impl Loader {
    pub(super) fn new(
        settings: Settings,
        stager: Stager,
        hooks: Hooks,
        folder: Arc<PluginFolder>,
        (records, kept): (Records, KeptFiles),
        counters: AllCounters,
    ) -> Self {
        let generation = hooks.pin().generation();
        Self {
            settings,
            stager,
            hooks,
            folder,
            records,
            kept,
            entries: BTreeMap::new(),
            sets: BTreeMap::new(),
            stagings: Stagings::default(),
            established: BTreeSet::new(),
            counters,
            generation,
            versions: 0,
            unstable: UnstableFiles::default(),
            suspects: Suspects::default(),
            present: false,
            is_scanned: false,
            scanned: None,
            backlog: VecDeque::new(),
            is_crowded: false,
            is_scan_due: false,
            trouble: None,
            swaps: 0,
            refusals: 0,
            tidied: None,
            unplanned: None,
            answers: Vec::new(),
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
        self.stagings.clear();
        self.backlog.clear();
        self.mark_unplanned();
        for set in self.sets.values_mut() {
            set.examined = None;
        }
        for entry in self.entries.values_mut() {
            entry.reconsider();
            entry.staging = None;
            if entry.active.is_some() {
                entry.attempted = entry.running;
            }
        }
    }

    /// Waits for the next unit that has been staged or has failed; forever if none is staged.
    pub(super) async fn next_staged(&mut self) -> (Unit, Outcome) {
        self.stagings.next().await
    }

    /// Returns when the loader has something to do even if no file changes.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let is_ahead = |at: &Instant| self.scanned.is_none_or(|scanned| *at > scanned);
        let settled = self.entries.values().filter_map(Entry::settles_at).filter(is_ahead);
        settled.chain(self.is_scan_due.then(Instant::now)).min()
    }

    /// Returns when the plan has to be rebuilt, if it differs from the entries: at once if nothing is being staged,
    /// otherwise after the quiet period, so that changes that come together become one plan.
    pub(super) fn plan_due(&self) -> Option<Instant> {
        let is_alone = self.stagings.is_empty() && self.backlog.is_empty() && !self.is_scan_due;
        let quiet = if is_alone { Duration::ZERO } else { self.settings.quiet };
        self.unplanned.map(|since| since + quiet)
    }

    /// Installs a new plan if one is due, and reports when everything that was there at the start is loaded or rejected.
    pub(super) async fn plan(&mut self) {
        let is_due = self.plan_due().is_some_and(|at| at <= Instant::now());
        if is_due {
            self.replan();
        }
        if self.unplanned.is_none() {
            let is_scanned = self.is_scanned;
            self.entries.values_mut().for_each(|entry| entry.release_latch(is_scanned));
        }
        let is_idle = self.stagings.is_empty() && self.backlog.is_empty() && self.next_wake().is_none();
        if self.is_scanned && is_idle && self.unplanned.is_none() {
            self.folder.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        self.answer_orders();
        if is_due {
            self.tidy_cache().await;
            self.tidy_kept().await;
        }
    }

    /// Notified when a plugin has published something new.
    pub(super) fn published(&self) -> Arc<Notify> {
        Arc::clone(&self.stager.published)
    }

    pub(super) fn mark_unplanned(&mut self) {
        self.unplanned.get_or_insert_with(Instant::now);
    }

    fn replan(&mut self) {
        self.unplanned = None;
        self.generation += 1;
        self.swaps += 1;
        let mut missing = Vec::new();
        for (stem, entry) in &self.entries {
            let name = entry.name.as_ref().unwrap_or(stem);
            for bind in entry.guards() {
                let counters = self.counters.of(name);
                missing.push(MissingRequired { name: Arc::clone(name), bind: bind.clone(), counters });
            }
        }
        let running = self.entries.values().filter_map(Entry::running);
        let plan = Arc::new(PluginPlan::new(
            self.generation,
            running,
            missing,
            (self.settings.admission, &self.settings.delegated_auth),
        ));
        self.hooks.replace(Arc::clone(&plan) as Arc<dyn Plan>);
        tracing::info!(generation = self.generation, plugins = self.plugins().count(), "plugin plan in place");
        self.folder.view().set_plan(plan);
        self.publish();
    }

    /// Publishes the current state for the status, unless the next plan does so in a moment: what is shown as active is in
    /// the plan.
    fn publish(&self) {
        if self.unplanned.is_some() {
            return;
        }
        let rows = self.entries.iter().map(|(stem, entry)| entry.row(stem, self.kept.is_open())).collect();
        let sets = self.sets.iter().map(|(stem, set)| set.row(stem)).collect();
        let mut view = self.folder.view();
        view.set_rows(rows, sets, self.trouble.as_ref());
        view.set_counts(self.swaps, self.refusals);
    }

    fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.entries.values().filter_map(|entry| entry.active.as_ref())
    }

    fn entry(&mut self, stem: &Arc<str>) -> &mut Entry {
        self.entries.entry(Arc::clone(stem)).or_default()
    }

    /// Removes what is left of plugins without files that nothing depends on.
    fn prune(&mut self, pairs: &BTreeMap<Arc<str>, Pair>) {
        let records = &self.records;
        self.entries.retain(|stem, entry| {
            let is_kept = !entry.is_nothing() || pairs.contains_key(stem);
            if !is_kept && entry.record.is_some() {
                records.remove(stem);
            }
            is_kept
        });
    }

    /// Removes cache entries that exceed the limits.
    async fn tidy_cache(&mut self) {
        self.tidied = Some(Instant::now());
        let Some(cache) = self.stager.compilation.cache().cloned() else { return };
        let newer = self.entries.values().filter_map(|entry| entry.rollout.as_ref()).map(Rollout::plugin);
        let active = self.plugins().chain(newer).map(|plugin| plugin.sha256).collect();
        let _ = supervisor::blocking("plugin cache", move || cache.tidy(&active)).await;
    }

    /// Lists the folder.
    async fn list(&mut self) -> Result<Option<Listing>, LoadError> {
        let (dir, trust) = (self.settings.dir.clone(), self.settings.trust);
        let listed = supervisor::blocking("plugin folder reader", move || listing::list(&dir, trust)).await;
        listed.unwrap_or_else(|error| Err(LoadError::UnusableFolder { text: error.to_string() }))
    }
}
