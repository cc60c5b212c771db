//! A scan: which files differ from what was applied, and which of them are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;
use yardarm_core::supervisor::{self, fault_point};

use super::super::content;
use super::super::entry::Entry;
use super::super::events::Events;
use super::super::listing::{Listed, Listing, Pair};
use super::super::stagings::Unit;
use super::{Loader, TIDY_INTERVAL};
use crate::status::Refusal;
use crate::vocabulary::LoadError;

/// Maximum number of plugins in a folder.
const MOST_PLUGINS: usize = 1_000;
/// Maximum bytes of files that are digested per scan only because time has passed.
const SWEPT_BYTES: u64 = 256 << 20;

/// What a scan has found.
#[derive(Default)]
pub(super) struct Changes {
    /// Plugins whose files differ from the applied ones, and are stable.
    pub(super) stable: BTreeMap<Arc<str>, Pair>,
    /// Those of them whose files look as they did when they were applied.
    pub(super) unseen: BTreeSet<Arc<str>>,
    /// Plugins of which some file is being written.
    pub(super) unstable: BTreeSet<Arc<str>>,
}

impl Loader {
    /// Has the content of every file compared with what was read, over the next scans.
    pub(in super::super) fn suspect_all(&mut self) {
        // A sweep of a very large folder may still be in progress, and must cover everything before the next one
        // begins.
        if self.suspects.sweep.is_empty() {
            self.suspects.sweep = self.entries.keys().cloned().collect();
        }
    }

    /// Applies everything that changed since the last scan, or begins to stage it; returns whether nothing is left. With
    /// `wait`, applies nothing as long as some file is being written.
    pub(in super::super) async fn look(&mut self, events: &mut Events, wait: bool) -> bool {
        (self.is_scan_due, self.is_crowded, self.scanned) = (false, false, Some(Instant::now()));
        self.suspects.add(events);
        let listed = self.list().await;
        let trouble = match &listed {
            Err(error) => Some(error.clone()),
            Ok(None) if self.present => {
                let text = format!("`{}` is gone; the plugins of before go on", self.settings.dir.display());
                Some(LoadError::UnusableFolder { text })
            }
            Ok(Some(listing)) => listing.distrust.clone(),
            Ok(None) => None,
        };
        let Ok(Some(Listing { mut pairs, sets, distrust })) = listed else {
            self.is_scanned = true;
            self.set_trouble(trouble);
            return true;
        };
        self.present = true;
        let surplus = self.limit(&mut pairs);
        self.set_trouble(trouble.or(surplus));
        if let Some(error) = distrust {
            self.is_scanned = true;
            self.distrust(&pairs, &error);
            self.publish();
            return true;
        }

        let are_sets_stable = self.update_sets(&sets, events).await;
        let mut changes = self.changed(&pairs, events);
        let is_stable = are_sets_stable && changes.unstable.is_empty();
        if !is_stable && wait {
            return false;
        }
        if is_stable {
            self.unstable.clear();
        }
        let unseen = self.changed_unseen(&pairs, &changes.stable).await;
        changes.unseen = unseen.iter().map(|(stem, _)| Arc::clone(stem)).collect();
        changes.stable.extend(unseen);
        fault_point("plugin loader");
        let again = self.apply(changes, &pairs, wait).await;
        self.reconsider_duplicates();
        self.restore_kept().await;
        self.prune(&pairs);
        self.publish();
        if self.tidied.is_none_or(|at| at.elapsed() > TIDY_INTERVAL) {
            self.tidy_cache().await;
        }
        self.is_scanned |= !again;
        !again
    }

    /// Applies changed files, as far as there are places among the stagings; returns whether some must be looked at again.
    async fn apply(&mut self, mut changes: Changes, pairs: &BTreeMap<Arc<str>, Pair>, wait: bool) -> bool {
        let mut again = self.apply_sets(&mut changes, pairs, wait).await;
        let mut work: Vec<(Arc<str>, Pair)> = changes.stable.into_iter().collect();
        // In order of names if sizes are equal.
        work.sort_by_key(|(_, pair)| pair.component_size());
        self.backlog.clear();
        for (stem, pair) in work {
            if pair.wasm.is_none() || self.stagings.contains(&Unit::Plugin(Arc::clone(&stem))) {
                again |= self.apply_files(&stem, pair, wait).await;
            } else {
                self.backlog.push_back((stem, pair));
            }
        }
        again | self.catch_up(wait).await
    }

    /// Applies files that wait for a place among the stagings, as far as there are places; returns whether some must be
    /// looked at again.
    async fn catch_up(&mut self, wait: bool) -> bool {
        let mut again = false;
        while self.backlog.front().is_some_and(|(_, pair)| self.stagings.has_room(pair.component_size()))
            && let Some((stem, pair)) = self.backlog.pop_front()
        {
            again |= self.apply_files(&stem, pair, wait).await;
        }
        again
    }

    /// Like [`Self::catch_up`], between two scans.
    pub(in super::super) async fn continue_backlog(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        // Files that have changed since the scan are left to the next one.
        self.is_scan_due |= self.catch_up(true).await;
        self.publish();
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

    /// Returns the plugins whose files differ from the applied ones.
    fn changed(&mut self, pairs: &BTreeMap<Arc<str>, Pair>, events: &Events) -> Changes {
        let stems: BTreeSet<Arc<str>> = pairs.keys().chain(self.entries.keys()).cloned().collect();
        let mut changes = Changes::default();
        let (nothing, now) = (Entry::default(), Instant::now());
        for stem in stems {
            let pair = pairs.get(&stem).cloned().unwrap_or_default();
            let entry = self.entries.get(&stem).unwrap_or(&nothing);
            if pair == entry.seen {
                if entry.is_due() || entry.obstacle.is_some() {
                    changes.stable.insert(stem, pair);
                }
                continue;
            }
            let is_alone = pair.wasm.is_some() && pair.toml.is_none() && !pair.is_retired;
            if is_alone && entry.settles_at().is_some_and(|at| at > now) {
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
                changes.stable.insert(stem, pair);
            } else {
                changes.unstable.insert(stem);
            }
        }
        changes
    }

    /// Returns the plugins whose files look unchanged but have other content: size and time can be set back, and writes
    /// through a memory mapping do not update them.
    async fn changed_unseen(
        &mut self,
        pairs: &BTreeMap<Arc<str>, Pair>,
        known: &BTreeMap<Arc<str>, Pair>,
    ) -> Vec<(Arc<str>, Pair)> {
        let suspects = self.suspects.take(pairs, SWEPT_BYTES);
        let same = |stem: &Arc<str>| self.entries.get(stem).filter(|entry| Some(&entry.seen) == pairs.get(stem));
        let checks: Vec<_> = suspects
            .into_iter()
            .filter(|stem| !known.contains_key(stem))
            .filter_map(|stem| same(&stem).map(|entry| (entry.digests, stem)))
            .collect();
        if checks.is_empty() {
            return Vec::new();
        }
        let dir = self.settings.dir.clone();
        let compare = move || -> Vec<_> {
            let differs = |(digests, stem): &(_, Arc<str>)| !content::has_content(&dir, stem, digests);
            checks.into_iter().filter(differs).map(|(_, stem)| stem).collect()
        };
        let different = supervisor::blocking("plugin folder reader", compare).await.unwrap_or_default();
        different.into_iter().map(|stem| (Arc::clone(&stem), pairs[&stem].clone())).collect()
    }
}
