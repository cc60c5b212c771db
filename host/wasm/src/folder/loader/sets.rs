//! Sets: plugins whose files are applied together or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use yardarm_core::supervisor;

use super::super::content::{ComponentFile, Content, Parsed};
use super::super::entry::Hold;
use super::super::events::Events;
use super::super::files;
use super::super::listing::{Listed, Pair};
use super::super::set::{LARGEST_SET, PluginSet, SetEntry};
use super::super::stagings::{Failure, Unit};
use super::Loader;
use super::apply::{Meaning, Ready};
use super::changes::Changes;
use crate::status::{Refusal, SetState};
use crate::vocabulary::LoadError;

/// Maximum total size of the components of a set in bytes, because they are held in memory together.
const LARGEST_TOTAL: u64 = 256 << 20;

/// What a set's files mean.
enum Examination {
    /// Some changed while they were read.
    Again,
    /// These are missing, or have other content.
    Missing(Vec<String>),
    /// One of them cannot be used.
    Refused(Arc<str>, LoadError),
    /// All are there.
    Complete(Vec<Member>),
}

struct Member {
    stem: Arc<str>,
    pair: Pair,
    content: Content,
}

impl Loader {
    /// Reads new and changed sets; returns whether none of them is being written.
    pub(super) async fn update_sets(&mut self, listed: &BTreeMap<Arc<str>, Listed>, events: &Events) -> bool {
        let gone: Vec<Arc<str>> = self.sets.keys().filter(|stem| !listed.contains_key(*stem)).cloned().collect();
        for stem in gone {
            self.release_members(&stem);
            self.sets.remove(&stem);
        }
        let mut is_stable = true;
        for (stem, now) in listed {
            let set = self.sets.entry(Arc::clone(stem)).or_default();
            if set.seen.as_ref() == Some(now) {
                continue;
            }
            let path = self.settings.dir.join(format!("{stem}.set"));
            if let Listed::File { stamp, .. } = now
                && !self.unstable.is_at_rest(&path, *stamp, &events.arrived)
            {
                is_stable = false;
                continue;
            }
            set.seen = Some(now.clone());
            let (now, trust) = (now.clone(), self.settings.trust);
            let read = move || match now {
                Listed::File { .. } => files::read(&path, LARGEST_SET, trust),
                Listed::Unusable(error) => Err(error),
            };
            let read = supervisor::blocking("plugin folder reader", read).await;
            let read = read.unwrap_or_else(|error| Err(LoadError::Unreadable { text: error.to_string() }));
            let file = || format!("{stem}.set");
            let parsed = read.and_then(|bytes| {
                PluginSet::of_bytes(&bytes).map_err(|faults| LoadError::ManifestInvalid { file: file(), faults })
            });
            match parsed.and_then(|set| self.check_members(stem, set)) {
                Ok(new) => self.take_set(stem, new),
                Err(error) => self.refuse_set(stem, Refusal::new(&error, None)),
            }
        }
        is_stable
    }

    /// Rejects a set that lists a plugin of another set.
    fn check_members(&self, stem: &Arc<str>, set: PluginSet) -> Result<PluginSet, LoadError> {
        let others = self.sets.iter().filter(|(other, _)| *other != stem);
        let shared = others.flat_map(|(other, entry)| entry.members().into_iter().map(move |member| (member, other)));
        let faults: Vec<String> = shared
            .filter(|(member, _)| set.members.contains_key(member))
            .map(|(member, other)| format!("`{member}` is in `{other}.set` already"))
            .collect();
        let file = format!("{stem}.set");
        if faults.is_empty() { Ok(set) } else { Err(LoadError::ManifestInvalid { file, faults }) }
    }

    fn take_set(&mut self, stem: &Arc<str>, new: PluginSet) {
        let entry = self.sets.entry(Arc::clone(stem)).or_default();
        entry.refusal = None;
        if entry.set.as_ref() == Some(&new) {
            return;
        }
        self.release_members(stem);
        let entry = self.sets.entry(Arc::clone(stem)).or_default();
        (entry.set, entry.examined) = (Some(new), None);
    }

    /// Has the plugins of a set judged again, those apart that run what is in their files.
    fn release_members(&mut self, set: &Arc<str>) {
        self.stagings.cancel(&Unit::Set(Arc::clone(set)));
        for stem in self.sets.get(set).map(SetEntry::members).unwrap_or_default() {
            let Some(entry) = self.entries.get_mut(&stem) else { continue };
            entry.staging = None;
            if entry.hold == Some(Hold::Set(Arc::clone(set))) {
                entry.hold = None;
            }
            if entry.attempted != entry.running {
                entry.reconsider();
            }
        }
        self.is_scan_due = true;
    }

    /// Applies changed sets, and takes their plugins out of `changes`; returns whether some must be looked at again.
    pub(super) async fn apply_sets(
        &mut self,
        changes: &mut Changes,
        pairs: &BTreeMap<Arc<str>, Pair>,
        wait: bool,
    ) -> bool {
        let mut again = false;
        for name in self.sets.keys().cloned().collect::<Vec<_>>() {
            let members = self.sets[&name].members();
            changes.stable.retain(|stem, _| !members.contains(stem));
            let is_touched = members.iter().any(|stem| changes.unseen.contains(stem));
            let is_written = members.iter().any(|stem| changes.unstable.contains(stem));
            let files: BTreeMap<Arc<str>, Pair> = members
                .iter()
                .map(|stem| (Arc::clone(stem), pairs.get(stem).cloned().unwrap_or_default()))
                .filter(|(stem, pair)| !self.is_retired(stem, pair))
                .collect();
            for stem in members.iter().filter(|stem| !files.contains_key(*stem)) {
                self.apply_retirement(stem, pairs.get(stem).cloned().unwrap_or_default());
            }
            let is_known = self.sets[&name].examined.as_ref() == Some(&files);
            let is_due = files.keys().any(|stem| self.entries.get(stem).is_some_and(|entry| entry.is_due()));
            if members.is_empty() || is_written || is_known && !is_due && !is_touched {
                continue;
            }
            if !self.stagings.has_room(files.values().map(Pair::component_size).sum()) {
                self.is_crowded = true;
                continue;
            }
            again |= self.apply_set_files(&name, files, wait).await;
        }
        again
    }

    async fn apply_set_files(&mut self, name: &Arc<str>, files: BTreeMap<Arc<str>, Pair>, wait: bool) -> bool {
        if self.stagings.cancel(&Unit::Set(Arc::clone(name))) {
            tracing::info!(code = "S01", file = %format!("{name}.set"), "set superseded while it was staged");
        }
        let examination = self.examine(name, &files, wait).await;
        let stems: BTreeSet<Arc<str>> = files.keys().cloned().collect();
        let Some(set) = self.sets.get_mut(name) else { return false };
        if matches!(examination, Examination::Again) {
            return true;
        }
        set.examined = Some(files);
        set.missing.clear();
        match examination {
            Examination::Again => (),
            Examination::Missing(missing) => {
                set.missing = missing;
                set.become_state(SetState::Waiting);
                for stem in &stems {
                    let entry = self.entry(stem);
                    entry.staging = None;
                    entry.hold = Some(Hold::Set(Arc::clone(name)));
                }
            }
            Examination::Refused(stem, error) => {
                self.refuse(&stem, None, &error);
                self.refuse_members(name, &stem, &error);
            }
            Examination::Complete(members) => self.stage_set(name, members),
        }
        false
    }

    async fn examine(&mut self, name: &Arc<str>, files: &BTreeMap<Arc<str>, Pair>, wait: bool) -> Examination {
        let (mut members, mut missing) = (Vec::new(), Vec::new());
        let total: u64 = files.values().map(Pair::component_size).sum();
        for (stem, pair) in files {
            if total > LARGEST_TOTAL {
                let error = LoadError::TooLarge { size: total, limit: LARGEST_TOTAL };
                return Examination::Refused(Arc::clone(stem), error);
            }
            let content = match self.read(stem, pair.clone()).await {
                Ok(content) if content.is_steady => content,
                Ok(_) if wait => return Examination::Again,
                Ok(_) => {
                    missing.push(format!("{stem}.wasm"));
                    continue;
                }
                Err(error) => return Examination::Refused(Arc::clone(stem), error),
            };
            let set = self.sets.get(name).and_then(|entry| entry.set.as_ref());
            // A component is not read if its binding file cannot be used, which is reported instead.
            let is_unread = matches!(content.component, ComponentFile::Unread | ComponentFile::Refused(_));
            if !is_unread {
                missing.extend(set.map(|set| set.missing_files(stem, &content.digests)).unwrap_or_default());
            }
            members.push(Member { stem: Arc::clone(stem), pair: pair.clone(), content });
        }
        if missing.is_empty() { Examination::Complete(members) } else { Examination::Missing(missing) }
    }

    /// Begins to stage the plugins of a set that differ from those that run.
    fn stage_set(&mut self, name: &Arc<str>, members: Vec<Member>) {
        let mut ready: Vec<Ready> = Vec::new();
        let mut parsed = BTreeMap::new();
        let mut taken = Vec::new();
        for Member { stem, pair, content } in members {
            parsed.insert(Arc::clone(&stem), Parsed::of(&content));
            let digests = content.digests;
            let error = match self.interpret(&stem, &pair, content) {
                Meaning::Ready(it) if it.manifest.as_ref().is_some_and(|it| it.rollout.is_gradual()) => {
                    let fault = "`plugin.rollout`: the plugins of a set replace others together, at once".to_owned();
                    Some(LoadError::ManifestInvalid { file: format!("{stem}.toml"), faults: vec![fault] })
                }
                Meaning::Ready(it) => {
                    ready.push(*it);
                    None
                }
                Meaning::Same
                | Meaning::AsRunning(_)
                | Meaning::Behind
                | Meaning::Absent
                | Meaning::Alone(_)
                | Meaning::Pinned(_) => None,
                Meaning::Unreadable(error) | Meaning::Quarantined(_, error) => Some(error),
                Meaning::BadBinding(bad) => {
                    Some(LoadError::ManifestInvalid { file: format!("{stem}.toml"), faults: bad.faults })
                }
                Meaning::BindingGone => Some(LoadError::BindingMissing { stem: stem.to_string() }),
            };
            if let Some(error) = error {
                self.refuse(&stem, None, &error);
                self.refuse_members(name, &stem, &error);
                return;
            }
            taken.push((stem, pair, digests));
        }
        for (stem, pair, digests) in taken {
            let entry = self.entry(&stem);
            entry.take_files(pair, digests);
            entry.hold = None;
        }
        let Some(set) = self.sets.get_mut(name) else { return };
        set.parsed = parsed;
        set.become_state(SetState::Staging);
        if ready.is_empty() {
            self.apply_set(name);
        } else {
            self.stage(Unit::Set(Arc::clone(name)), ready);
        }
    }

    /// Applies what a set brings besides its staged plugins.
    pub(super) fn apply_set(&mut self, name: &Arc<str>) {
        let Some(set) = self.sets.get_mut(name) else { return };
        set.refusal = None;
        set.become_state(SetState::Applied);
        for (stem, parsed) in std::mem::take(&mut set.parsed) {
            self.take_bindings(&stem, parsed);
            if self.entry(&stem).seen.wasm.is_none() {
                self.apply_absence(&stem);
            }
        }
    }

    /// Rejects a set because one of its plugins cannot be staged.
    pub(super) fn reject_set(&mut self, name: &Arc<str>, failure: Failure) {
        let (stem, error) = (Arc::clone(&failure.stem), failure.error.clone());
        self.reject(failure);
        self.refuse_members(name, &stem, &error);
    }

    fn refuse_members(&mut self, name: &Arc<str>, stem: &Arc<str>, error: &LoadError) {
        let mut refusal = Refusal::new(error, None);
        refusal.text = format!("nothing of the set is applied, because of `{stem}`: {error}");
        for member in self.sets.get(name).map(SetEntry::members).unwrap_or_default() {
            let entry = self.entry(&member);
            entry.staging = None;
            if member != *stem && !entry.is_retired() {
                entry.hold = Some(Hold::Set(Arc::clone(name)));
            }
        }
        self.refuse_set(name, refusal);
    }

    /// Records why a set is not applied.
    fn refuse_set(&mut self, name: &Arc<str>, refusal: Refusal) {
        let set = self.sets.entry(Arc::clone(name)).or_default();
        if set.refusal.as_ref().is_none_or(|old| old.text != refusal.text) {
            let (code, class, error) = (refusal.code, refusal.class, &refusal.text);
            tracing::warn!(file = %format!("{name}.set"), code, class, %error, "set of plugins refused");
            self.refusals += 1;
            set.refusal = Some(refusal);
        }
        set.become_state(SetState::Refused);
    }

    /// Returns the name and the plugins of the set that a plugin is in.
    pub(super) fn set_of(&self, stem: &Arc<str>) -> Option<(Arc<str>, BTreeSet<Arc<str>>)> {
        let (name, set) = self.sets.iter().find(|(_, set)| set.contains(stem))?;
        Some((Arc::clone(name), set.members()))
    }

    /// Has the set of a plugin, if there is one, compared with its files again.
    pub(super) fn reconsider_set_of(&mut self, stem: &Arc<str>) {
        for set in self.sets.values_mut().filter(|set| set.contains(stem)) {
            set.examined = None;
        }
    }

    /// Cancels the staging of a plugin, alone or with its set; returns whether there was one.
    pub(super) fn cancel_staging(&mut self, stem: &Arc<str>) -> bool {
        self.entry(stem).staging = None;
        let is_alone = self.stagings.cancel(&Unit::Plugin(Arc::clone(stem)));
        let is_member = |(_, set): &(&Arc<str>, &SetEntry)| set.contains(stem);
        let Some(set) = self.sets.iter().find(is_member).map(|(name, _)| Arc::clone(name)) else { return is_alone };
        let is_in_set = self.stagings.cancel(&Unit::Set(Arc::clone(&set)));
        if is_in_set {
            self.release_members(&set);
            self.reconsider_set_of(stem);
        }
        is_alone || is_in_set
    }
}
