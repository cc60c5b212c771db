//! Applies changes of one environment: payload plugins, snapshot, disk.

use std::sync::Arc;

use yardarm_core::Writer;
use yardarm_core::hooks::{Hooks, ItemHead};
use yardarm_core::supervisor::fault_point;
use yardarm_vendor::payload::{PayloadPipeline, Served};

use super::environment::HarnessEnvironment;
use crate::data::dataset::{Change, FlagData};
use crate::data::items::{ChangeEvent, Item, Items};
use crate::data::received::{Received, Unreadable};

/// Owns the writer of one environment.
pub(crate) struct Applier {
    environment: Arc<HarnessEnvironment>,
    writer: Writer<FlagData>,
    pipeline: PayloadPipeline<Item>,
    /// Whether segment rules with several clauses are evaluated. If not, their first clauses are, as by old SDKs.
    and_rules: bool,
    /// Set while a change is applied. If that panics, the served data may lack the change.
    is_unfinished: bool,
    /// Differences that are served, but not announced yet.
    unannounced: Vec<ChangeEvent>,
}

impl Applier {
    pub(crate) fn new(
        environment: Arc<HarnessEnvironment>,
        writer: Writer<FlagData>,
        hooks: Hooks,
        and_rules: bool,
    ) -> Self {
        let pipeline = PayloadPipeline::new(environment.label.clone(), hooks);
        Self { environment, writer, pipeline, and_rules, is_unfinished: false, unannounced: Vec::new() }
    }

    /// Applies a download of everything. SDKs get the real differences; items that cannot be read stay as they were.
    pub(crate) async fn put(&mut self, received: Received) {
        let known = self.upstream();
        let (items, unreadable) = received.complete(known.as_ref());
        self.environment.skip(unreadable);
        let items = self.restrict_rules(items);
        self.environment.confirm(&items);
        if !self.is_unfinished && known.is_some_and(|known| items.differences(&known).is_empty()) {
            // There is nothing to persist, and nothing to transform unless the plugins have changed.
            return self.plan_changed().await;
        }
        self.environment.persist_items(&items);
        self.serve_all(items).await;
    }

    /// Serves data of an earlier process until upstream responds.
    pub(crate) async fn restore(&mut self, items: Items) {
        let items = self.restrict_rules(items);
        self.serve_all(items).await;
        self.environment.status.data_restored();
    }

    /// Notes that one item was fetched and cannot be read. Its last good version stays.
    pub(crate) fn skip(&self, unreadable: &Unreadable) {
        let environment = &self.environment;
        environment.skipped.add(&environment.status, unreadable);
    }

    /// Returns whether an item of the newest data could not be read, so that another download is due.
    pub(crate) fn has_skipped(&self) -> bool {
        self.environment.skipped.count() > 0
    }

    /// Applies one fetched item.
    pub(crate) async fn patch(&mut self, item: Item, event: ChangeEvent) {
        self.environment.skipped.remove(event.domain, &event.identifier);
        let item = match item {
            Item::Segment(segment) if !self.and_rules => Item::Segment(segment.with_old_rules_only()),
            item => item,
        };
        let Some(mut items) = self.upstream() else { return };
        items.upsert(&item);
        self.environment.confirm(&items);
        self.environment.persist_items(&items);
        if self.is_unfinished {
            // What is served may lack an earlier change.
            return self.serve_all(items).await;
        }
        self.is_unfinished = true;
        let is_transformed = self.pipeline.untransformed().is_some();
        // Plugins do not see a version that is older than the known one.
        let newest = items.get(item.domain(), item.identifier()).unwrap_or_else(|| item.clone());
        match self.pipeline.change(&newest, items.clone()).await {
            Served::Upstream if !is_transformed => self.serve(&Change::Patch(item, event)),
            Served::Changed(returned) => self.serve_returned(returned, event),
            served => self.serve_differences(served, items),
        }
        self.finish();
    }

    /// Deletes one item.
    pub(crate) async fn delete(&mut self, event: ChangeEvent) {
        self.environment.skipped.remove(event.domain, &event.identifier);
        let Some(mut items) = self.upstream() else { return };
        items.remove(event.domain, &event.identifier);
        self.environment.confirm(&items);
        self.environment.persist_items(&items);
        if self.is_unfinished {
            return self.serve_all(items).await;
        }
        self.is_unfinished = true;
        let is_transformed = self.pipeline.untransformed().is_some();
        match self.pipeline.remove(&ItemHead { is_deleted: true, ..event.head() }, items.clone()).await {
            Served::Upstream if !is_transformed => self.serve(&Change::Delete(event)),
            Served::Changed(returned) => self.serve_returned(returned, event),
            served => self.serve_differences(served, items),
        }
        self.finish();
    }

    /// Transforms everything again if the payload plugins have changed, or failed.
    pub(crate) async fn plan_changed(&mut self) {
        if self.pipeline.is_outdated()
            && let Some(items) = self.upstream()
        {
            self.serve_all(items).await;
        }
    }

    /// Returns whether the newest data is not served, because a plugin failed.
    pub(crate) fn is_behind(&self) -> bool {
        self.environment.is_behind()
    }

    /// Returns the data from upstream, before plugins; `None` if there is none yet.
    fn upstream(&self) -> Option<Items> {
        let served = || self.writer.snapshot().map(|it| it.data().items().clone());
        self.pipeline.untransformed().cloned().or_else(served)
    }

    fn restrict_rules(&self, mut items: Items) -> Items {
        if !self.and_rules {
            items.segments = items.segments.iter().map(|it| it.with_old_rules_only()).collect();
        }
        items
    }

    /// Serves everything, as plugins return it.
    async fn serve_all(&mut self, items: Items) {
        self.is_unfinished = true;
        let served = self.pipeline.everything(items.clone()).await;
        self.serve_differences(served, items);
        self.finish();
    }

    /// Serves everything, where `upstream` is the data from upstream, and announces the differences.
    fn serve_differences(&mut self, served: Served<Item>, upstream: Items) {
        let items = match served {
            Served::Upstream => upstream,
            Served::Everything(returned) => returned.into_iter().collect(),
            Served::Changed(_) | Served::Previous => return,
        };
        let before = self.writer.snapshot();
        let differences = before.map(|before| items.differences(before.data().items()));
        if !differences.as_ref().is_some_and(Vec::is_empty) {
            self.unannounced.extend(differences.unwrap_or_default());
            self.serve(&Change::Put(items));
        }
        while !self.unannounced.is_empty() {
            let event = self.unannounced.remove(0);
            self.serve(&Change::Notify(event));
        }
    }

    /// Serves what plugins return for one changed item. `event` announces the item itself; if it is not among `returned`, it
    /// is hidden or gone, and is deleted if it was served.
    fn serve_returned(&mut self, returned: Vec<Item>, event: ChangeEvent) {
        let Some(snapshot) = self.writer.snapshot() else { return };
        let before = snapshot.data().items();
        let (returned, mut changes) = (returned.into_iter().collect::<Items>(), Vec::new());
        let is_shown = returned.get(event.domain, &event.identifier).is_some();
        if !is_shown && before.get(event.domain, &event.identifier).is_some() {
            changes.push(Change::Delete(ChangeEvent { event: "delete".to_owned(), ..event.clone() }));
        }
        for item in returned.iter() {
            let known = before.get(item.domain(), item.identifier());
            let event =
                if event.is_about(&item) { Some(event.clone()) } else { ChangeEvent::between(known.as_ref(), &item) };
            changes.extend(event.map(|event| Change::Replace(item, event)));
        }
        changes.iter().for_each(|change| self.serve(change));
    }

    /// Notes that a change has been applied.
    fn finish(&mut self) {
        self.environment.set_behind(self.pipeline.is_behind());
        self.is_unfinished = false;
    }

    /// Serves a change. Nothing else changes what SDKs see.
    fn serve(&mut self, change: &Change) {
        fault_point("apply change");
        let listeners = self.pipeline.listeners();
        let is_first = listeners.is_some() && self.writer.snapshot().is_none();
        self.writer.update(change);
        if let Some(listeners) = listeners {
            match change {
                // Other downloads are announced difference by difference.
                Change::Put(_) if is_first => listeners.changed(&self.environment.label, &[]),
                Change::Put(_) => (),
                Change::Patch(_, event) | Change::Replace(_, event) | Change::Delete(event) | Change::Notify(event) => {
                    listeners.changed(&self.environment.label, &[event.head()]);
                }
            }
        }
        if !matches!(change, Change::Put(_))
            && let Some(snapshot) = self.writer.snapshot()
        {
            self.environment.counters.record_published();
            self.environment.announced.add(snapshot.seq());
        }
        self.environment.remember(describe(change));
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Put(items) => format!("everything: {} flags, {} segments", items.flags.len(), items.segments.len()),
        Change::Patch(_, event) | Change::Replace(_, event) | Change::Delete(event) | Change::Notify(event) => {
            format!("{} `{}`: {}, version {}", event.domain.kind(), event.identifier, event.event, event.version)
        }
    }
}

#[cfg(test)]
mod tests;
