//! Applies changes of one environment: payload plugins, snapshot, disk.
//!
//! While a payload plugin is bound, everything is transformed after each change, and SDKs get the differences: a plugin may
//! make one item depend on another, so transforming only the changed item would not be correct.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use yardarm_core::Writer;
use yardarm_core::hooks::{HookFailure, Hooks, ItemHead, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView};
use yardarm_core::supervisor::fault_point;
use yardarm_harness_eval::model::{Flag, Segment};

use super::environment::HarnessEnvironment;
use crate::data::dataset::{Change, FlagData};
use crate::data::items::{ChangeEvent, Domain, Item, Items};
use crate::data::received::{Received, Unreadable};

/// Owns the writer of one environment.
pub(crate) struct Applier {
    environment: Arc<HarnessEnvironment>,
    writer: Writer<FlagData>,
    hooks: Hooks,
    /// Data from upstream, before plugins.
    raw: Option<Items>,
    /// Whether segment rules with several clauses are evaluated. If not, their first clauses are, as by old SDKs.
    and_rules: bool,
    /// Identity of the plugin chain that transformed the served data; 0 for none.
    chain: u64,
    /// Set while a change is applied. If that panics, the served data may lack the change.
    is_unfinished: bool,
    /// Differences that are served, but not announced yet.
    unannounced: Vec<ChangeEvent>,
}

const FLAG: &str = "flag";
const SEGMENT: &str = "segment";

impl Applier {
    pub(crate) fn new(
        environment: Arc<HarnessEnvironment>,
        writer: Writer<FlagData>,
        hooks: Hooks,
        and_rules: bool,
    ) -> Self {
        Self {
            environment,
            writer,
            hooks,
            raw: None,
            and_rules,
            chain: 0,
            is_unfinished: false,
            unannounced: Vec::new(),
        }
    }

    /// Applies a download of everything. SDKs get the real differences; items that cannot be read stay as they were.
    pub(crate) async fn put(&mut self, received: Received) {
        let (items, unreadable) = received.complete(self.raw.as_ref());
        self.environment.skip(unreadable);
        let items = self.restrict_rules(items);
        if !self.is_unfinished && self.raw.as_ref().is_some_and(|raw| items.differences(raw).is_empty()) {
            // There is nothing to persist, and nothing to transform unless the plugins have changed.
            return self.plan_changed().await;
        }
        self.environment.persist_items(&items);
        self.is_unfinished = true;
        self.raw = Some(items);
        self.serve_all().await;
        self.is_unfinished = false;
    }

    /// Serves data of an earlier process until upstream responds.
    pub(crate) async fn restore(&mut self, items: Items) {
        self.raw = Some(self.restrict_rules(items));
        self.serve_all().await;
        self.environment.status.data_restored();
    }

    /// Notes that one item was fetched and cannot be read. Its last good version stays.
    pub(crate) fn skip(&self, unreadable: &Unreadable) {
        let environment = &self.environment;
        environment.skipped.add(&environment.label, &environment.status, unreadable);
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
        let Some(raw) = &mut self.raw else { return };
        self.is_unfinished = true;
        raw.upsert(&item);
        self.environment.persist_items(raw);
        if self.transform_in_force().is_some() {
            self.serve_all().await;
        } else {
            self.serve(&Change::Patch(item, event));
        }
        self.is_unfinished = false;
    }

    /// Deletes one item.
    pub(crate) async fn delete(&mut self, event: ChangeEvent) {
        self.environment.skipped.remove(event.domain, &event.identifier);
        let Some(raw) = &mut self.raw else { return };
        self.is_unfinished = true;
        raw.remove(event.domain, &event.identifier);
        self.environment.persist_items(raw);
        if self.transform_in_force().is_some() {
            self.serve_all().await;
        } else {
            self.serve(&Change::Delete(event));
        }
        self.is_unfinished = false;
    }

    /// Transforms everything again if the payload plugins have changed, or failed.
    pub(crate) async fn plan_changed(&mut self) {
        if identity(self.transform_in_force().as_ref()) != self.chain || self.is_behind() {
            self.serve_all().await;
        }
    }

    /// Returns whether the newest data is not served, because a plugin failed.
    pub(crate) fn is_behind(&self) -> bool {
        self.environment.is_behind.load(Ordering::Relaxed)
    }

    fn restrict_rules(&self, mut items: Items) -> Items {
        if !self.and_rules {
            items.segments.iter_mut().for_each(|it| *it = it.with_old_rules_only());
        }
        items
    }

    fn transform_in_force(&self) -> Option<Arc<dyn PayloadTransform>> {
        self.hooks.of(&self.environment.label).payload_transform.clone()
    }

    async fn serve_all(&mut self) {
        let Some(raw) = self.raw.clone() else { return };
        let transform = self.transform_in_force();
        let served = match &transform {
            None => Ok(raw),
            Some(transform) => self.transform(&**transform, raw).await,
        };
        match served {
            Err(failure) => {
                self.environment.is_behind.store(true, Ordering::Relaxed);
                tracing::error!(environment = %self.environment.label, %failure, "payload plugin failed, serving what was served before");
            }
            Ok(items) => {
                self.chain = identity(transform.as_ref());
                self.environment.is_behind.store(false, Ordering::Relaxed);
                let before = self.writer.snapshot().map(|it| it.data().items().clone());
                let differences = before.as_ref().map(|before| items.differences(before));
                if !differences.as_ref().is_some_and(Vec::is_empty) {
                    self.unannounced.extend(differences.unwrap_or_default());
                    self.serve(&Change::Put(items));
                }
                while !self.unannounced.is_empty() {
                    let event = self.unannounced.remove(0);
                    self.serve(&Change::Notify(event));
                }
            }
        }
    }

    /// Serves a change. Nothing else changes what SDKs see.
    fn serve(&mut self, change: &Change) {
        fault_point("apply change");
        self.writer.update(change);
        if !matches!(change, Change::Put(_))
            && let Some(snapshot) = self.writer.snapshot()
        {
            self.environment.counters.record_published();
            self.environment.announced.add(snapshot.seq());
        }
        self.environment.record_change(describe(change));
    }

    async fn transform(&self, transform: &dyn PayloadTransform, raw: Items) -> Result<Items, HookFailure> {
        let facts = PayloadFacts { environment: self.environment.label.clone() };
        let view = Arc::new(ItemView::new(raw));
        let edits = transform.transform(&facts, Arc::clone(&view) as Arc<dyn PayloadView>).await?;
        let mut items: Vec<Option<Item>> = view.items.iter().cloned().map(Some).collect();
        let mut added = Vec::new();
        for edit in edits {
            match edit {
                PayloadEdit::Drop(index) => items.get_mut(index).into_iter().for_each(|slot| *slot = None),
                PayloadEdit::Replace(index, json) => {
                    if let (Some(slot), Some(head)) = (items.get_mut(index), view.heads.get(index)) {
                        let after = read(head.kind, &json)?;
                        if identifier(&after) != &head.key || version(&after) != head.version {
                            return Err(invalid_output());
                        }
                        *slot = Some(after);
                    }
                }
                PayloadEdit::Add { kind, key, json } => {
                    let item = read(&kind, &json)?;
                    if **identifier(&item) != *key {
                        return Err(invalid_output());
                    }
                    added.push(item);
                }
            }
        }
        let mut served = Items::default();
        for item in items.into_iter().flatten().chain(added) {
            served.upsert(&item);
        }
        Ok(served)
    }
}

/// All items of an environment, as plugins see them.
struct ItemView {
    heads: Vec<ItemHead>,
    items: Vec<Item>,
    all: Items,
}

impl ItemView {
    fn new(all: Items) -> Self {
        let flags = all.flags.iter().cloned().map(Item::Flag);
        let items: Vec<Item> = flags.chain(all.segments.iter().cloned().map(Item::Segment)).collect();
        let head = |item: &Item| ItemHead {
            kind: if matches!(item, Item::Flag(_)) { FLAG } else { SEGMENT },
            key: Arc::clone(identifier(item)),
            version: version(item),
        };
        Self { heads: items.iter().map(head).collect(), items, all }
    }
}

impl PayloadView for ItemView {
    fn heads(&self) -> &[ItemHead] {
        &self.heads
    }

    fn json(&self, index: usize) -> Option<Bytes> {
        self.items.get(index).map(text)
    }

    fn other(&self, kind: &str, key: &str) -> Option<Bytes> {
        match kind {
            FLAG => self.all.flag(key).map(|it| it.json().clone()),
            SEGMENT => self.all.segment(key).map(|it| it.json().clone()),
            _ => None,
        }
    }
}

fn identifier(item: &Item) -> &Arc<str> {
    match item {
        Item::Flag(it) => &it.feature,
        Item::Segment(it) => &it.identifier,
    }
}

fn version(item: &Item) -> u64 {
    let version = match item {
        Item::Flag(it) => it.version,
        Item::Segment(it) => it.version,
    };
    u64::try_from(version).unwrap_or(0)
}

/// Returns the text of an item from upstream, with both kinds of segment rules.
fn text(item: &Item) -> Bytes {
    match item {
        Item::Flag(it) => it.json().clone(),
        Item::Segment(it) => it.json().clone(),
    }
}

fn read(kind: &str, json: &Bytes) -> Result<Item, HookFailure> {
    let value = serde_json::from_slice(json).map_err(|_| invalid_output())?;
    match kind {
        FLAG => Flag::read(value).map(|it| Item::Flag(Arc::new(it))).map_err(|_| invalid_output()),
        SEGMENT => Segment::read(value).map(|it| Item::Segment(Arc::new(it))).map_err(|_| invalid_output()),
        _ => Err(invalid_output()),
    }
}

fn identity(transform: Option<&Arc<dyn PayloadTransform>>) -> u64 {
    transform.map_or(0, |it| it.identity())
}

fn invalid_output() -> HookFailure {
    HookFailure { plugin: "payload chain".into(), class: "output-invalid" }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Put(items) => format!("everything: {} flags, {} segments", items.flags.len(), items.segments.len()),
        Change::Patch(_, event) | Change::Delete(event) | Change::Notify(event) => {
            let kind = if event.domain == Domain::Flag { FLAG } else { SEGMENT };
            format!("{kind} `{}`: {}, version {}", event.identifier, event.event, event.version)
        }
    }
}
