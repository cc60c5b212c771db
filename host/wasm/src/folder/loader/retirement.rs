//! Retirement: the explicit way to take a required plugin out of service. What merely disappears fails closed.

use std::sync::Arc;

use yardarm_core::time::unix_ms;

use super::super::entry::Entry;
use super::super::listing::Pair;
use super::super::retire::{Order, OrderError, UnknownPlugin, Wish};
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

    /// Carries out an order of an operator.
    pub(in super::super) async fn obey(&mut self, order: Order) {
        let Order { name, wish, done } = order;
        let result = match self.find(&name) {
            Some(stem) => self.obey_about(&stem, wish).await,
            None => Err(UnknownPlugin { name }.into()),
        };
        self.publish();
        // The caller may have stopped waiting.
        let _ = done.send(result);
    }

    async fn obey_about(&mut self, stem: &Arc<str>, wish: Wish) -> Result<(), OrderError> {
        match wish {
            Wish::Retire => self.retire(stem),
            Wish::Reinstate => self.reinstate(stem),
            Wish::RollBack => self.roll_back_by_order(stem).await?,
            Wish::Clear => self.clear(stem),
            Wish::Pin(is_pinned) => self.pin(stem, is_pinned),
        }
        Ok(())
    }

    fn retire(&mut self, stem: &Arc<str>) {
        tracing::info!(file = %stem, "plugin retired by an operator");
        self.retire_entry(stem);
        let entry = self.entries.entry(Arc::clone(stem)).or_default();
        let name = entry.name.clone();
        let record = entry.record.get_or_insert_default();
        record.name = name.or(record.name.take());
        record.was_active = false;
        record.required_bindings.clear();
        record.retired_ms.get_or_insert_with(unix_ms);
        self.records.put(stem, record);
    }

    fn reinstate(&mut self, stem: &Arc<str>) {
        let entry = self.entry(stem);
        if !entry.is_retired_by_operator() {
            return;
        }
        tracing::info!(file = %stem, "plugin reinstated by an operator");
        entry.record = None;
        entry.reconsider();
        entry.since_ms = unix_ms();
        self.records.remove(stem);
        self.is_scan_due = true;
    }

    /// Takes a plugin out of service, and its guards with it.
    fn retire_entry(&mut self, stem: &Arc<str>) {
        self.cancel_staging(stem);
        self.take_out_of_service(stem);
        self.change_guards(stem, |entry| {
            entry.required_bindings.clear();
            (entry.refusal, entry.obstacle, entry.since_start) = (None, None, false);
        });
    }

    /// Returns the file stem of a plugin, by that or by its name.
    fn find(&self, name: &str) -> Option<Arc<str>> {
        let by_stem = self.entries.get_key_value(name).map(|(stem, _)| stem);
        let has_name = |entry: &Entry| entry.name.as_deref() == Some(name);
        by_stem.or_else(|| self.entries.iter().find(|(_, entry)| has_name(entry)).map(|(stem, _)| stem)).cloned()
    }
}
