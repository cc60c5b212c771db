//! The first plan: every required plugin that the gateway knows of fails closed until it is active.

use yardarm_core::readiness::Readiness;
use yardarm_core::supervisor;

use super::super::content;
use super::super::listing;
use super::Loader;
use crate::vocabulary::only_required;

impl Loader {
    /// Installs a plan in which every required plugin is missing: those in the folder, and those that were active before
    /// and are not retired. Each delays readiness until it is active.
    ///
    /// Reads the folder and the records, and stages nothing.
    pub(in super::super) async fn fail_closed_until_loaded(&mut self, readiness: &Readiness) {
        let records = self.records.clone();
        let read = supervisor::blocking("plugin folder reader", move || records.read()).await;
        let records = read.unwrap_or_default();
        for (stem, record) in records {
            let entry = self.entry(&stem);
            (entry.name, entry.required_bindings) = (record.name.clone(), record.required_bindings.clone());
            let was_active = record.was_active;
            entry.record = Some(record);
            if was_active {
                self.established.insert(stem);
            }
        }
        let (dir, trust) = (self.settings.dir.clone(), self.settings.trust);
        let read = move || {
            let listing = listing::list(&dir, trust).ok().flatten();
            listing.map(|listing| content::binding_files(&dir, &listing)).unwrap_or_default()
        };
        let bindings = supervisor::blocking("plugin folder reader", read).await.unwrap_or_default();
        for (stem, manifest) in bindings {
            let required_bindings = only_required(manifest.binds);
            if required_bindings.is_empty() && !self.entries.contains_key(&stem) {
                continue;
            }
            let entry = self.entry(&stem);
            entry.since_start = !required_bindings.is_empty();
            entry.required_bindings = required_bindings;
            entry.name = manifest.name.or(entry.name.take());
        }
        for (stem, entry) in &mut self.entries {
            if entry.fails_closed() {
                let name = entry.name.as_ref().unwrap_or(stem);
                entry.latch = Some(readiness.latch(format!("required plugin `{name}`")));
            }
        }
        if self.entries.values().any(|entry| entry.latch.is_some()) {
            self.replan();
        }
    }
}
