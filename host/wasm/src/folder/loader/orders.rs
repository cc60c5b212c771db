//! Carries out orders of operators, and answers them once the plan is in place that follows.

use std::sync::Arc;

use tokio::sync::oneshot;
use yardarm_core::supervisor;
use yardarm_core::time::unix_ms;

use super::super::entry::Entry;
use super::super::orders::{Carried, Impossible, Order, OrderError, OrderResult, PluginAction, UnknownPlugin};
use super::Loader;

/// An order that was carried out, and whose caller waits for the plan.
pub(super) struct Answer {
    done: oneshot::Sender<OrderResult>,
    result: OrderResult,
}

/// Whether an order has changed anything, and a text about it.
type Effect = (bool, String);

impl Loader {
    /// Carries out an order of an operator.
    pub(in super::super) async fn obey(&mut self, order: Order) {
        let Order { name, action, done } = order;
        if done.is_closed() {
            return;
        }
        let result = match self.find(&name) {
            Some(stem) => self.obey_about(&stem, action).await,
            None => Err(UnknownPlugin { name }.into()),
        };
        self.publish();
        self.answers.push(Answer { done, result });
    }

    /// Answers the orders that were carried out, if the plan in place follows from them.
    pub(super) fn answer_orders(&mut self) {
        if self.unplanned.is_none() {
            for Answer { done, result } in self.answers.drain(..) {
                // The caller may have stopped waiting.
                let _ = done.send(result);
            }
        }
    }

    async fn obey_about(&mut self, stem: &Arc<str>, action: PluginAction) -> Result<Carried, OrderError> {
        let (is_changed, text) = match action {
            PluginAction::Rollback => self.roll_back_by_order(stem).await?,
            PluginAction::Pin => self.pin(stem)?,
            PluginAction::Unpin => self.unpin(stem),
            PluginAction::Promote => self.promote(stem)?,
            PluginAction::Retire => self.retire(stem),
            PluginAction::Reinstate => self.reinstate(stem)?,
            PluginAction::Clear => self.clear(stem).await,
        };
        let is_remembered = match action {
            PluginAction::Rollback | PluginAction::Pin => self.records.are_kept() && self.kept.is_open(),
            PluginAction::Retire => self.records.are_kept(),
            // Without a data folder, nothing is left to be remembered.
            PluginAction::Unpin | PluginAction::Promote | PluginAction::Reinstate | PluginAction::Clear => true,
        };
        Ok(Carried { stem: Arc::clone(stem), is_changed, is_remembered, text })
    }

    /// Returns an error if the plugin is retired.
    pub(super) fn refuse_retired(&self, stem: &Arc<str>) -> Result<(), Impossible> {
        match self.entries.get(stem) {
            Some(entry) if entry.is_retired_by_operator() => Err(Impossible::Retired),
            Some(entry) if entry.seen.is_retired => Err(Impossible::Tombstone { stem: stem.to_string() }),
            _ => Ok(()),
        }
    }

    /// Pins a plugin to the version that runs: other content of its files, and failures, do not replace it.
    fn pin(&mut self, stem: &Arc<str>) -> Result<Effect, Impossible> {
        self.refuse_retired(stem)?;
        let entry = self.entry(stem);
        if entry.is_pinned() {
            return Ok((false, "is pinned already".to_owned()));
        }
        let version = entry.active.as_ref().ok_or(Impossible::NotRunning)?.version.clone();
        entry.record.get_or_insert_default().is_pinned = true;
        entry.probation = None;
        self.end_rollout(stem);
        // What is being staged must not replace it.
        self.cancel_staging(stem);
        self.look_again_at(stem);
        Ok((true, format!("pinned to version `{version}`: neither newer files nor failures replace it")))
    }

    fn unpin(&mut self, stem: &Arc<str>) -> Effect {
        let record = self.entry(stem).record.as_mut();
        let Some(record) = record.filter(|record| record.is_pinned) else {
            return (false, "is not pinned".to_owned());
        };
        record.is_pinned = false;
        let version = record.current.as_ref().map(|version| version.version.clone()).unwrap_or_default();
        self.look_again_at(stem);
        (true, format!("no longer pinned to version `{version}`: newer files are loaded"))
    }

    /// Ends a probation, and those of the other plugins of its set: a set is kept or returns as a whole.
    fn promote(&mut self, stem: &Arc<str>) -> Result<Effect, Impossible> {
        self.refuse_retired(stem)?;
        if let Some(text) = self.promote_rollout(stem) {
            return Ok((true, text));
        }
        let entry = self.entry(stem);
        let active = entry.active.as_ref().ok_or(Impossible::NotRunning)?;
        let version = active.version.clone();
        let probation = entry.probation.take().ok_or(Impossible::NotOnProbation)?;
        let previous = probation.previous.version.clone();
        let mut text = format!("version `{version}` is kept; version `{previous}` no longer waits to return");
        if let Some((set, members)) = self.set_of(stem) {
            for member in members {
                self.entry(&member).probation = None;
            }
            text.push_str(&format!(", and the same for the other plugins of `{set}.set`"));
        }
        Ok((true, text))
    }

    fn retire(&mut self, stem: &Arc<str>) -> Effect {
        let entry = self.entry(stem);
        if entry.is_retired_by_operator() {
            return (false, "is retired already".to_owned());
        }
        let is_retired_by_file = entry.seen.is_retired;
        self.retire_entry(stem);
        let entry = self.entry(stem);
        let name = entry.name.clone();
        let record = entry.record.get_or_insert_default();
        record.name = name.or(record.name.take());
        record.was_active = false;
        record.required_bindings.clear();
        record.retired_ms.get_or_insert_with(unix_ms);
        self.save_record(stem);
        let also = if is_retired_by_file { format!(", also without `{stem}.retired`") } else { String::new() };
        let text = "it is no longer called, its required hooks do not fail closed, and its files are ignored";
        (true, format!("retired{also}: {text} until it is reinstated"))
    }

    fn reinstate(&mut self, stem: &Arc<str>) -> Result<Effect, Impossible> {
        let entry = self.entry(stem);
        if !entry.is_retired_by_operator() {
            self.refuse_retired(stem)?;
            return Ok((false, "is not retired".to_owned()));
        }
        entry.record = None;
        entry.reconsider();
        entry.since_ms = unix_ms();
        let is_retired_by_file = entry.seen.is_retired;
        self.records.remove(stem);
        self.is_scan_due = true;
        let text = match is_retired_by_file {
            true => format!("reinstated; the file `{stem}.retired` still retires it"),
            false => "reinstated: its files are loaded as if they were new".to_owned(),
        };
        Ok((true, text))
    }

    /// Releases the versions of a plugin from quarantine: those that were rolled back, and the component whose compilation
    /// had to be stopped. Its files are loaded as if they were new.
    async fn clear(&mut self, stem: &Arc<str>) -> Effect {
        let entry = self.entry(stem);
        let released = entry.record.as_mut().map(|record| std::mem::take(&mut record.quarantined)).unwrap_or_default();
        let component = entry.attempted.map(|(sha256, _)| sha256);
        let quarantine = self.folder.quarantine.clone();
        let clear = move || component.is_some_and(|sha256| quarantine.clear(&sha256));
        let was_stopped = supervisor::blocking("plugin folder reader", clear).await.unwrap_or(false);
        let versions: Vec<String> = released.iter().map(|it| format!("version `{}`", it.version)).collect();
        let text = match (&versions[..], was_stopped) {
            ([], false) => return (false, "nothing of it is in quarantine".to_owned()),
            ([], true) => "its file".to_owned(),
            (versions, _) => versions.join(", "),
        };
        self.entry(stem).refusal = None;
        self.look_again_at(stem);
        (true, format!("{text} released from quarantine; what is in the folder is loaded again"))
    }

    /// Returns the file stem of a plugin, by that or by its name.
    fn find(&self, name: &str) -> Option<Arc<str>> {
        let by_stem = self.entries.get_key_value(name).map(|(stem, _)| stem);
        let has_name = |entry: &Entry| entry.name.as_deref() == Some(name);
        by_stem.or_else(|| self.entries.iter().find(|(_, entry)| has_name(entry)).map(|(stem, _)| stem)).cloned()
    }
}
