//! Applies changes: payload plugins, snapshot, disk, database.
//!
//! Plugins receive every change once, here. The untransformed data is kept beside the served data as soon as the two
//! differ, so that a change of plugins can be applied to older data.

mod change_set;
mod events;
mod followed;
mod payload_item;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use yardarm_core::hooks::Hooks;
use yardarm_core::supervisor::fault_point;
use yardarm_core::{Snapshot, Writer};
use yardarm_fleet::Publisher;
use yardarm_launchdarkly_eval::model;
use yardarm_vendor::payload::{PayloadItem, PayloadPipeline, Served};

use self::change_set::Basis;
use self::payload_item::{changed_heads, describe};
use crate::data::fdv2::{Fdv2Data, ObjectChange};
use crate::data::persistence::LastGoodData;
use crate::data::{Change, FlagData, Item, Items};
use crate::environments::LdEnvironment;
use crate::store::StoreLink;

/// Applies changes to one environment and owns its writer. One task owns the applier: it receives changes from the source,
/// and everything else in [`Applier::run_until`].
pub(crate) struct Applier {
    pub(super) environment: Arc<LdEnvironment>,
    writer: Writer<FlagData>,
    fdv2: Option<Writer<Fdv2Data>>,
    plans: watch::Receiver<u64>,
    last_good: Option<LastGoodData>,
    store: Option<StoreLink>,
    publisher: Option<Publisher<Items>>,
    pipeline: PayloadPipeline<Item>,
    basis: Basis,
    /// When a payload plugin that failed is called again.
    retry_at: Option<Instant>,
}

/// The writing sides of one environment.
pub(crate) struct Writers {
    pub(crate) data: Writer<FlagData>,
    /// For the second version of the delivery protocol, if it is enabled.
    pub(crate) fdv2: Option<Writer<Fdv2Data>>,
}

/// When a full rendering is announced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announce {
    Always,
    Differences,
}

impl Applier {
    pub(crate) fn new(
        environment: Arc<LdEnvironment>,
        writers: Writers,
        hooks: Hooks,
        last_good: Option<LastGoodData>,
    ) -> Self {
        let plans = hooks.changed();
        let pipeline = PayloadPipeline::new(environment.label.clone(), hooks);
        let (writer, fdv2) = (writers.data, writers.fdv2);
        let basis = Basis::default();
        Self {
            environment,
            writer,
            fdv2,
            plans,
            last_good,
            store: None,
            publisher: None,
            pipeline,
            basis,
            retry_at: None,
        }
    }

    /// The same with a database.
    pub(crate) fn with_store(mut self, store: Option<StoreLink>) -> Self {
        self.store = store;
        self
    }

    /// The same with other gateways, to which data from upstream is published.
    pub(crate) fn with_publisher(mut self, publisher: Option<Publisher<Items>>) -> Self {
        self.publisher = publisher;
        self
    }

    /// Applies one change from upstream, which says nothing about the state that it leads to.
    pub(crate) async fn apply(&mut self, mut change: Change) {
        self.forget_basis();
        if let Change::Put(items) = &mut change
            && let Some(held) = self.upstream_items()
        {
            *items = std::mem::take(items).reusing(&held);
        }
        let upstream_change = self.store.is_some().then(|| change.clone());
        self.apply_unkept(change).await;
        self.persist();
        self.publish();
        if let (Some(store), Some(change), Some(items)) = (&self.store, upstream_change, self.upstream_items()) {
            store.applied(&change, items);
        }
    }

    /// Persists the data from upstream.
    fn persist(&self) {
        if let (Some(last_good), Some(items)) = (&self.last_good, self.upstream_items()) {
            last_good.replace(items, self.basis.exact());
        }
    }

    /// Publishes the data from upstream to other gateways.
    fn publish(&self) {
        if let (Some(publisher), Some(items)) = (&self.publisher, self.upstream_items()) {
            publisher.publish(items);
        }
    }

    /// Applies data that came from disk or from the database, where it need not be written again.
    pub(crate) async fn restore(&mut self, items: Items) {
        self.forget_basis();
        self.apply_unkept(Change::Put(items.clone())).await;
        self.environment.status.data_restored();
        // Not before: after a panic, the store's tasks send the data once more.
        if let Some(store) = &self.store {
            store.restored(items);
        }
    }

    async fn apply_unkept(&mut self, change: Change) {
        match change {
            // A `put` from upstream is always announced, as in the reference.
            Change::Put(items) => self.put(items, Announce::Always).await,
            Change::Patch(item) if !self.pipeline.is_idle() => self.patch(item).await,
            Change::Group(changed) if !self.pipeline.is_idle() => {
                let Some(mut items) = self.upstream_items() else { return };
                changed.into_iter().for_each(|it| items.insert(it));
                self.put(items, Announce::Differences).await;
            }
            change => self.serve(&change),
        }
    }

    /// The untransformed data from upstream.
    pub(crate) fn upstream_items(&self) -> Option<Items> {
        let untransformed = self.pipeline.untransformed().cloned();
        untransformed.or_else(|| self.writer.snapshot().map(|it| it.data().items().clone()))
    }

    async fn put(&mut self, items: Items, announce: Announce) {
        let served = self.pipeline.everything(items.clone()).await;
        self.serve_everything(served, &items, announce);
    }

    /// Applies a patch or a deletion while plugins are in force, or while served data was made by some.
    async fn patch(&mut self, item: Item) {
        let Some(mut items) = self.upstream_items() else { return };
        let is_newer = items.upsert(&item);
        let served = if !is_newer && self.pipeline.is_outdated() {
            self.pipeline.everything(items.clone()).await
        } else if !is_newer {
            // Without plugins, SDKs would be sent it and ignore it. Here they must not: no plugin has transformed this item.
            // A deletion has nothing to transform.
            if item.is_deleted() {
                self.serve(&Change::Patch(item));
            }
            return;
        } else if item.is_deleted() {
            self.pipeline.remove(&item.head(), items.clone()).await
        } else {
            self.pipeline.change(&item, items.clone()).await
        };
        match served {
            Served::Changed(edited) => self.serve_edited(item, edited),
            served => self.serve_everything(served, &items, Announce::Differences),
        }
    }

    /// Serves the items that plugins return for a changed or deleted one.
    fn serve_edited(&mut self, item: Item, edited: Vec<Item>) {
        let is_same = |it: &Item| it.head().kind == item.head().kind && it.key() == item.key();
        let is_hidden = !edited.iter().any(is_same);
        for edited in edited {
            self.serve(&Change::Patch(edited));
        }
        if item.is_deleted() {
            self.serve(&Change::Patch(item));
        } else if is_hidden {
            self.hide(&item);
        }
    }

    /// Serves a tombstone in place of an item that a plugin hides, so that SDKs remove it.
    fn hide(&mut self, item: &Item) {
        let tombstone = match item {
            Item::Flag(it) => Item::Flag(Arc::new(model::Flag::tombstone(it.key(), it.version()))),
            Item::Segment(it) => Item::Segment(Arc::new(model::Segment::tombstone(it.key(), it.version()))),
        };
        self.serve(&Change::Patch(tombstone));
    }

    /// Serves the outcome of a pass over all of `upstream`.
    fn serve_everything(&mut self, served: Served<Item>, upstream: &Items, announce: Announce) {
        self.environment.set_behind(self.pipeline.is_behind());
        self.schedule_retry();
        let items = match served {
            Served::Previous | Served::Changed(_) => return,
            Served::Upstream => upstream.clone(),
            Served::Everything(edited) => upstream.with_live(edited),
        };
        let is_same = |it: &Snapshot<FlagData>| it.data().items().looks_like(&items);
        if announce == Announce::Always || !self.writer.snapshot().is_some_and(|it| is_same(&it)) {
            self.serve(&Change::Put(items));
        }
    }

    /// Updates the served data. All changes pass here.
    fn serve(&mut self, change: &Change) {
        fault_point("apply change");
        let listeners = self.pipeline.listeners();
        let before = listeners.as_ref().and_then(|_| self.writer.snapshot());
        let is_newer = self.writer.update(change);
        if let Some(listeners) = listeners.filter(|_| is_newer)
            && let Some(changed) = changed_heads(change, before.as_deref().map(|it| it.data().items()))
        {
            listeners.changed(&self.environment.label, &changed);
        }
        if let Some(fdv2) = &mut self.fdv2
            && let Some(after) = self.writer.snapshot().filter(|_| is_newer)
        {
            let before = fdv2.snapshot();
            let step = ObjectChange::new(before.as_deref().map(Snapshot::data), change, after.data());
            step.iter().for_each(|step| {
                fdv2.update(step);
            });
        }
        self.environment.remember(describe(change));
    }
}

#[cfg(test)]
mod tests;
