//! Retirement: the explicit way to take a required plugin out of service. What merely disappears fails closed.

use std::sync::Arc;

use super::super::entry::Entry;
use super::super::listing::Pair;
use super::Loader;

impl Loader {
    pub(super) fn is_retired(&self, stem: &Arc<str>, pair: &Pair) -> bool {
        pair.is_retired || self.entries.get(stem).is_some_and(Entry::is_retired_by_operator)
    }

    /// Applies the files of a plugin that is retired: none of them is read. A tombstone makes the gateway forget what it
    /// remembers of the plugin, so the plugin stays retired if the tombstone is removed together with its other files.
    pub(super) fn apply_retirement(&mut self, stem: &Arc<str>, pair: Pair) {
        let is_new = pair.is_retired && !self.entry(stem).seen.is_retired;
        self.change_guards(stem, |entry| entry.take_files(pair, <_>::default()));
        if is_new {
            tracing::info!(file = %stem, "plugin retired by its tombstone");
            self.retire_entry(stem);
            let entry = self.entry(stem);
            if !entry.is_retired_by_operator() && entry.record.take().is_some() {
                self.records.remove(stem);
            }
        }
    }

    /// Takes a plugin out of service, and its guards with it.
    pub(super) fn retire_entry(&mut self, stem: &Arc<str>) {
        self.cancel_staging(stem);
        self.take_out_of_service(stem);
        self.change_guards(stem, |entry| {
            entry.required_bindings.clear();
            (entry.refusal, entry.obstacle, entry.since_start) = (None, None, false);
        });
    }
}
