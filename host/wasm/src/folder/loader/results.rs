//! Applies the results of stagings.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::entry::{Entry, Hold, Identity};
use super::super::stagings::{Failure, Outcome, Unit};
use super::Loader;
use crate::plugin::Plugin;
use crate::vocabulary::LoadError;

impl Loader {
    /// Applies what became of a unit: all of its plugins become active with the next plan, or none.
    pub(in super::super) fn finish(&mut self, unit: &Unit, outcome: Outcome) {
        self.is_scan_due |= std::mem::take(&mut self.is_crowded);
        let outcome = outcome.and_then(|plugins| self.check_names(plugins));
        match (unit, outcome) {
            (_, Ok(plugins)) => {
                if let Unit::Set(set) = unit {
                    self.apply_set(set);
                }
                for (plugin, identity) in plugins {
                    self.take_staged(plugin, identity);
                }
            }
            (Unit::Plugin(_), Err(failure)) => self.reject(*failure),
            (Unit::Set(set), Err(failure)) => self.reject_set(set, *failure),
        }
        self.reconsider_duplicates();
        self.publish();
    }

    /// Makes a staged version the running one, or begins its rollout.
    fn take_staged(&mut self, plugin: Plugin, identity: Identity) {
        tracing::info!(
            plugin = %plugin.name,
            version = %plugin.version,
            generation = plugin.generation,
            sha256 = %hex::encode(plugin.sha256),
            compile_ms = u64::try_from(plugin.figures.compile.as_millis()).unwrap_or(u64::MAX),
            cached = plugin.figures.cached,
            "plugin staged"
        );
        if let Some(plugin) = self.begin_rollout(Arc::new(plugin), identity) {
            self.activate(plugin, identity);
        }
    }

    /// Makes a version the running one.
    pub(super) fn activate(&mut self, plugin: Arc<Plugin>, identity: Identity) {
        self.counters.insert(&plugin.name, &plugin.guest.context.counters);
        let stem = Arc::clone(&plugin.stem);
        let probation = self.settings.probation;
        let entry = self.entry(&stem);
        if plugin.automatic {
            // There is no binding file any more.
            entry.required_bindings.clear();
        }
        let before = entry.record.clone();
        let waits = entry.hold == Some(Hold::Rollout);
        entry.activate(plugin, identity, probation);
        if let Some(record) = entry.record.clone().filter(|record| before.as_ref() != Some(record)) {
            self.records.put(&stem, &record);
        }
        self.mark_unplanned();
        if waits {
            self.look_again_at(&stem);
        }
    }

    pub(super) fn reject(&mut self, Failure { stem, sha256, error }: Failure) {
        let current = self.entry(&stem).record.as_ref().and_then(|it| it.current.as_ref()).map(|it| it.identity);
        let waits = self.entry(&stem).hold == Some(Hold::Rollout);
        if let Some(current) = current.filter(|(component, _)| waits && *component == sha256) {
            // The version that ran before cannot run again, so the newer one has nothing to run beside.
            tracing::error!(file = %stem, %error, "the version of before cannot be loaded");
            self.entry(&stem).staging = None;
            self.give_up_kept(&stem, current);
            return;
        }
        self.refuse(&stem, Some(sha256), &error);
        let entry = self.entry(&stem);
        entry.staging = None;
        entry.plan_retry(error.may_pass());
        let restored = entry.version_to_restore().filter(|(component, _)| *component == sha256);
        if let Some(restored) = restored.filter(|_| entry.active.is_some()) {
            self.give_up_kept(&stem, restored);
        }
    }

    /// Rejects a unit if one of its plugins has the name of another plugin. What is active stays, except while the folder
    /// is loaded for the first time: then the plugin that was active before the start keeps the name, and without one
    /// the first in order of file names, as if plugins were staged in this order.
    fn check_names(&mut self, plugins: Vec<(Plugin, Identity)>) -> Outcome {
        let unit: BTreeSet<Arc<str>> = plugins.iter().map(|(plugin, _)| Arc::clone(&plugin.stem)).collect();
        let mut names = BTreeSet::new();
        for (plugin, _) in &plugins {
            let is_other = |stem: &Arc<str>| *stem != plugin.stem && !unit.contains(stem);
            let twin = self.plugins().find(|twin| twin.name == plugin.name && is_other(&twin.stem)).cloned();
            let active = match twin {
                Some(twin) if self.has_precedence(&plugin.stem, &twin.stem) => {
                    self.displace(&twin, &plugin.stem);
                    None
                }
                twin => twin.map(|twin| twin.stem.to_string()),
            };
            let active = active.or_else(|| (!names.insert(&plugin.name)).then(|| "another file of the set".to_owned()));
            if let Some(active) = active {
                let error = LoadError::DuplicateName { name: plugin.name.to_string(), active };
                return Err(Box::new(Failure { stem: Arc::clone(&plugin.stem), sha256: plugin.sha256, error }));
            }
        }
        Ok(plugins)
    }

    fn has_precedence(&self, stem: &Arc<str>, twin: &Arc<str>) -> bool {
        let rank = |stem: &Arc<str>| (!self.established.contains(stem), Arc::clone(stem));
        !self.folder.is_ready() && rank(stem) < rank(twin)
    }

    fn displace(&mut self, twin: &Plugin, stem: &str) {
        let identity = self.entry(&twin.stem).running;
        self.take_out_of_service(&twin.stem);
        let error = LoadError::DuplicateName { name: twin.name.to_string(), active: stem.to_owned() };
        self.refuse(&twin.stem, Some(twin.sha256), &error);
        let entry = self.entry(&twin.stem);
        entry.attempted = identity;
        if let Some(record) = &mut entry.record {
            record.was_active = false;
        }
        self.records.remove(&twin.stem);
    }

    /// Has plugins that were rejected because their name was taken judged again, if it no longer is.
    pub(super) fn reconsider_duplicates(&mut self) {
        let is_duplicate = |entry: &Entry| entry.refusal.as_ref().is_some_and(|it| it.class == "duplicate-name");
        let duplicates: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(stem, entry)| {
                let is_twin =
                    |plugin: &&Arc<Plugin>| Some(&plugin.name) == entry.name.as_ref() && plugin.stem != **stem;
                is_duplicate(entry) && entry.staging.is_none() && !self.plugins().any(|it| is_twin(&it))
            })
            .map(|(stem, _)| Arc::clone(stem))
            .collect();
        for stem in duplicates {
            self.entry(&stem).reconsider();
            self.reconsider_set_of(&stem);
            self.is_scan_due = true;
        }
    }
}
