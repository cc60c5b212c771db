//! Applies changes: payload plugins, snapshot, disk, database.
//!
//! Plugins receive every change once, here. The untransformed data is kept beside the served data as soon as the two
//! differ, so that a change of plugins can be applied to older data.

mod changed;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use yardarm_core::hooks::{HookFailure, Hooks, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView};
use yardarm_core::snapshot_writer::SnapshotWriter;
use yardarm_core::status::Connection;
use yardarm_core::supervisor::fault_point;
use yardarm_core::{Snapshot, Writer};
use yardarm_launchdarkly_eval::model;

use self::changed::{Changed, describe, read, reread};
use crate::data::fdv2::{Fdv2Data, ObjectChange};
use crate::data::{Change, FlagData, Item, Items};
use crate::environments::LdEnvironment;
use crate::store::{StoreEvent, StoreLink};

/// Applies changes to one environment and owns its writer.
pub(crate) struct Applier {
    pub(super) environment: Arc<LdEnvironment>,
    writer: Writer<FlagData>,
    fdv2: Option<Writer<Fdv2Data>>,
    pub(super) hooks: Hooks,
    snapshot_writer: Option<SnapshotWriter<Option<Items>>>,
    store: Option<StoreLink>,
    /// The untransformed data, while plugins change it. `None`: the served data is untransformed.
    raw: Option<Items>,
    /// Identity of the chain that transformed the served data; 0 for none.
    chain: u64,
}

/// The writing sides of one environment.
pub(crate) struct Writers {
    pub(crate) data: Writer<FlagData>,
    /// For the second version of the delivery protocol, if it is enabled.
    pub(crate) fdv2: Option<Writer<Fdv2Data>>,
}

/// Most items that are announced one by one when several change at once.
const MAX_PATCHES: usize = 64;

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
        snapshot_writer: Option<SnapshotWriter<Option<Items>>>,
    ) -> Self {
        Self {
            environment,
            writer: writers.data,
            fdv2: writers.fdv2,
            hooks,
            snapshot_writer,
            store: None,
            raw: None,
            chain: 0,
        }
    }

    /// The same with a database.
    pub(crate) fn with_store(mut self, store: Option<StoreLink>) -> Self {
        self.store = store;
        self
    }

    /// Applies one change from upstream.
    pub(crate) async fn apply(&mut self, change: Change) {
        let upstream_change = self.store.is_some().then(|| change.clone());
        self.apply_unkept(change).await;
        self.persist();
        if let (Some(store), Some(change), Some(items)) = (&self.store, upstream_change, self.upstream_items()) {
            store.applied(&change, items);
        }
    }

    /// Persists the data from upstream, unless it is persisted already: each reconnection repeats all data.
    fn persist(&self) {
        if let (Some(snapshot_writer), Some(items)) = (&self.snapshot_writer, self.upstream_items()) {
            snapshot_writer.change(|persisted| {
                let is_new = !persisted.as_ref().is_some_and(|it| it.is_same(&items));
                if is_new {
                    *persisted = Some(items);
                }
                is_new
            });
        }
    }

    /// Receives the next event of the store's tasks; pending without a store. Cancel-safe.
    pub(crate) async fn recv_event(&mut self) -> StoreEvent {
        match &mut self.store {
            Some(store) => store.recv_event().await,
            None => std::future::pending().await,
        }
    }

    /// Handles an event of the store's tasks.
    pub(crate) async fn handle_event(&mut self, store_event: StoreEvent) {
        match store_event {
            StoreEvent::SegmentsChanged => self.serve(&Change::SegmentsChanged),
            StoreEvent::Newer(items) => self.take_over(items).await,
            StoreEvent::Stored(items) => {
                // Present data came from upstream in the meantime.
                if self.upstream_items().is_none() {
                    self.restore(items).await;
                    tracing::info!(environment = %self.environment.label, "serving data kept in the persistent store until upstream answers");
                }
                if let Some(store) = &self.store {
                    store.mark_restored();
                }
            }
        }
    }

    /// Applies items that other gateways received from upstream and wrote into the database, unless upstream is connected
    /// again. Only newer versions count.
    async fn take_over(&mut self, items: Vec<Item>) {
        if self.environment.status.current().connection == Connection::Valid {
            return;
        }
        let Some(mut merged) = self.upstream_items() else { return };
        let newer: Vec<Item> = items.into_iter().filter(|it| merged.upsert(it)).collect();
        if newer.is_empty() {
            return;
        }
        tracing::info!(environment = %self.environment.label, items = newer.len(), "serving newer data that another gateway wrote into the persistent store");
        if newer.len() > MAX_PATCHES {
            self.apply_unkept(Change::Put(merged.clone())).await;
        } else {
            for item in newer {
                self.apply_unkept(Change::Patch(item)).await;
            }
        }
        self.persist();
        if let Some(store) = &self.store {
            store.taken_over(merged);
        }
    }

    /// Applies data that came from disk or from the database, where it need not be written again.
    pub(crate) async fn restore(&mut self, items: Items) {
        self.apply_unkept(Change::Put(items.clone())).await;
        self.environment.status.data_restored();
        // Not before: after a panic, the store's tasks send the data once more.
        if let Some(store) = &self.store {
            store.restored(items);
        }
    }

    /// Handles a change of the plan: if payload plugins have changed, all data is transformed again and only a real
    /// difference is announced.
    pub(crate) async fn plan_changed(&mut self) {
        let transform = self.transform_in_force();
        if identity(transform.as_ref()) == self.chain && !self.is_behind() {
            return;
        }
        if let Some(raw) = self.upstream_items() {
            self.transform_everything(raw, transform, Announce::Differences).await;
        }
    }

    async fn apply_unkept(&mut self, change: Change) {
        let transform = self.transform_in_force();
        let is_same_chain = identity(transform.as_ref()) == self.chain && !self.is_behind();
        match (change, transform) {
            (change, None) if is_same_chain => {
                self.serve(&change);
            }
            (Change::Patch(item), Some(transform)) if is_same_chain => self.patch(&item, &*transform).await,
            (Change::Patch(item), transform) => {
                let Some(mut raw) = self.upstream_items() else { return };
                raw.upsert(&item);
                self.transform_everything(raw, transform, Announce::Differences).await;
            }
            (Change::SegmentsChanged, _) => self.serve(&Change::SegmentsChanged),
            // A `put` from upstream is always announced, as in the reference.
            (Change::Put(items), transform) => self.transform_everything(items, transform, Announce::Always).await,
        }
    }

    fn transform_in_force(&self) -> Option<Arc<dyn PayloadTransform>> {
        self.hooks.of(&self.environment.label).payload_transform.clone()
    }

    /// Whether served data lacks changes from upstream, because a plugin failed.
    pub(crate) fn is_behind(&self) -> bool {
        self.environment.is_behind.load(Ordering::Relaxed)
    }

    /// The untransformed data from upstream.
    pub(crate) fn upstream_items(&self) -> Option<Items> {
        self.raw.clone().or_else(|| self.writer.snapshot().map(|it| it.data().items().clone()))
    }

    async fn patch(&mut self, item: &Item, transform: &dyn PayloadTransform) {
        let Some(mut raw) = self.upstream_items() else { return };
        let is_newer = raw.upsert(item);
        self.raw = Some(raw.clone());
        if item.is_deleted() {
            // Nothing for a plugin to transform.
            self.serve(&Change::Patch(item.clone()));
            return;
        }
        if !is_newer {
            // Without plugins, SDKs would be sent it and ignore it. Here they must not: no plugin has transformed this item.
            return;
        }
        match self.transform(transform, Changed::one(item, raw)).await {
            Err(failure) => self.keep_served(&failure),
            Ok(edited) => {
                let mut is_hidden = true;
                for edited in edited {
                    is_hidden &= edited.key() != item.key();
                    self.serve(&Change::Patch(edited));
                }
                if is_hidden {
                    self.hide(item);
                }
            }
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

    async fn transform_everything(
        &mut self,
        raw: Items,
        transform: Option<Arc<dyn PayloadTransform>>,
        announce: Announce,
    ) {
        let served = match &transform {
            None => Ok(raw.clone()),
            Some(transform) => {
                self.transform(&**transform, Changed::all(&raw)).await.map(|edited| raw.with_live(edited))
            }
        };
        let chain = identity(transform.as_ref());
        self.raw = transform.is_some().then_some(raw);
        match served {
            Err(failure) => self.keep_served(&failure),
            Ok(items) => {
                self.chain = chain;
                if self.environment.is_behind.swap(false, Ordering::Relaxed) {
                    tracing::info!(environment = %self.environment.label, "payload plugins work again, serving all data from upstream");
                }
                let before = self.writer.snapshot();
                let is_same = before.is_some_and(|it| it.data().items().looks_like(&items));
                if announce == Announce::Always || !is_same {
                    self.serve(&Change::Put(items));
                }
            }
        }
    }

    /// Updates the served data. All changes pass here.
    fn serve(&mut self, change: &Change) {
        fault_point("apply change");
        let is_newer = self.writer.update(change);
        if let Some(fdv2) = &mut self.fdv2
            && let Some(after) = self.writer.snapshot().filter(|_| is_newer)
        {
            let before = fdv2.snapshot();
            let step = ObjectChange::new(before.as_deref().map(Snapshot::data), change, after.data().items());
            step.iter().for_each(|step| {
                fdv2.update(step);
            });
        }
        self.environment.remember(describe(change));
    }

    fn keep_served(&mut self, failure: &HookFailure) {
        // The plugin is called again every few seconds, so only the first failure is logged at this level.
        if self.environment.is_behind.swap(true, Ordering::Relaxed) {
            tracing::debug!(environment = %self.environment.label, %failure, "payload plugin still fails");
        } else {
            tracing::error!(environment = %self.environment.label, %failure, "payload plugin failed, serving the previous data");
        }
    }

    /// Calls the plugins with the changed items and returns the edited ones, without hidden ones.
    async fn transform(&self, transform: &dyn PayloadTransform, changed: Changed) -> Result<Vec<Item>, HookFailure> {
        let facts = PayloadFacts { environment: self.environment.label.clone() };
        let changed = Arc::new(changed);
        let edits = transform.transform(&facts, Arc::clone(&changed) as Arc<dyn PayloadView>).await?;
        let mut items: Vec<Option<Item>> = changed.items.iter().cloned().map(Some).collect();
        let mut added = Vec::new();
        for edit in edits {
            match edit {
                PayloadEdit::Drop(index) => {
                    if let Some(slot) = items.get_mut(index) {
                        *slot = None;
                    }
                }
                PayloadEdit::Replace(index, json) => {
                    if let Some(slot) = items.get_mut(index)
                        && let Some(before) = changed.items.get(index)
                    {
                        *slot = Some(reread(before, &json)?);
                    }
                }
                PayloadEdit::Add { kind, key, json } => added.push(read(&kind, &key, &json)?),
            }
        }
        Ok(items.into_iter().flatten().chain(added).collect())
    }
}

fn identity(transform: Option<&Arc<dyn PayloadTransform>>) -> u64 {
    transform.map_or(0, |it| it.identity())
}
