//! Payload plugins, between data from upstream and data that SDKs receive. One rule for both vendors.
//!
//! Plugins see the items that changed or were deleted. The pipeline records which other items a chain read since its last
//! pass over everything: if one of those changes, what the chain returned may be different now, so everything is
//! transformed again. The same happens when an item that the chain added has to be withdrawn, when another chain comes into
//! force, and when a chain that failed is called again.

mod additions;
mod reads;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{
    ChangeListener, HookFailure, Hooks, ItemHead, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView,
};

use self::additions::Additions;
use self::reads::Reads;
use self::view::Changed;

/// An item of a vendor's flag data, as payload plugins see it.
pub trait PayloadItem: Clone + Send + Sync + 'static {
    /// All items of an environment at one moment. Clones share what they can.
    type Items: Clone + Send + Sync + 'static;

    /// Whether SDKs ignore a changed item without a higher version.
    const NEEDS_HIGHER_VERSION: bool;

    /// Returns kind, key and version.
    fn head(&self) -> ItemHead;

    /// Returns the JSON text.
    fn json(&self) -> Bytes;

    /// Returns every item that is not deleted.
    fn live(items: &Self::Items) -> Vec<Self>;

    /// Returns the JSON text of one item.
    fn find(items: &Self::Items, kind: &str, key: &str) -> Option<Bytes>;

    /// Reads an item that a plugin returned; `None` if it is not valid, or not the item `key`.
    fn read(kind: &str, key: &str, json: &Bytes) -> Option<Self>;
}

/// Passes changes of one environment through its payload plugins.
pub struct PayloadPipeline<I: PayloadItem> {
    label: EnvironmentLabel,
    hooks: Hooks,
    /// Data from upstream while plugins change it; `None` while data is served as upstream sent it.
    untransformed: Option<I::Items>,
    /// Identity of the chain that made what is served; 0 for none.
    chain: u64,
    /// Whether what is served lacks a change, because a plugin failed.
    is_behind: bool,
    reads: Arc<Reads>,
    additions: Additions<I>,
}

/// The items of a pass, as plugins edit them.
struct Edited<I> {
    /// Changed items, hidden ones left out.
    changed: Vec<I>,
    /// Items that plugins add, with the name of the item that each is derived from.
    added: Vec<(I, Option<ItemHead>)>,
}

/// What to serve after a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Served<I> {
    /// The data from upstream: no plugin is in force.
    Upstream,
    /// In place of the item that changed, these. If it is not among them, plugins hide it, or it was deleted.
    Changed(Vec<I>),
    /// Everything anew, as plugins return it. Items that plugins hide are missing.
    Everything(Vec<I>),
    /// The previous data: a plugin failed. The next pass is over everything.
    Previous,
}

impl<I: PayloadItem> PayloadPipeline<I> {
    /// Creates the pipeline of an environment that has no data yet.
    #[must_use]
    pub fn new(label: EnvironmentLabel, hooks: Hooks) -> Self {
        Self {
            label,
            hooks,
            untransformed: None,
            chain: 0,
            is_behind: false,
            reads: Arc::default(),
            additions: Additions::default(),
        }
    }

    /// Returns the data from upstream if plugins change it; otherwise it is what is served.
    #[must_use]
    pub fn untransformed(&self) -> Option<&I::Items> {
        self.untransformed.as_ref()
    }

    /// Whether what is served lacks a change, because a plugin failed.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Whether another chain is in force than the one that made what is served, or that one has failed.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.differs_from(self.in_force().as_ref())
    }

    /// Whether no plugin is in force and none made what is served, so that changes can be served as they come.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.untransformed.is_none() && !self.is_outdated()
    }

    /// Passes one changed item; `items` is everything, with the change.
    pub async fn change(&mut self, item: &I, items: I::Items) -> Served<I> {
        self.pass_one(item.head(), Some(item), items).await
    }

    /// Passes the removal of an item; `items` is everything, without it.
    pub async fn remove(&mut self, head: &ItemHead, items: I::Items) -> Served<I> {
        self.pass_one(ItemHead { is_deleted: true, ..head.clone() }, None, items).await
    }

    /// Passes everything.
    pub async fn everything(&mut self, items: I::Items) -> Served<I> {
        let transform = self.in_force();
        self.pass_everything(transform, items).await
    }

    async fn pass_one(&mut self, head: ItemHead, item: Option<&I>, items: I::Items) -> Served<I> {
        let transform = match self.in_force() {
            transform if self.differs_from(transform.as_ref()) => return self.pass_everything(transform, items).await,
            None => return Served::Upstream,
            Some(transform) => transform,
        };
        if self.reads.contains(&head) || self.is_listed(&head) || self.additions.contains(&head) {
            return self.pass_everything(Some(transform), items).await;
        }
        self.untransformed = Some(items.clone());
        let changed = Changed::new(vec![(head.clone(), item.cloned())], items.clone(), Arc::clone(&self.reads));
        match self.transform(&*transform, changed).await {
            // What the chain added before, and does not add any more, is withdrawn by serving everything anew.
            Ok(edited) if !self.additions.follow(&head, &edited.added) => {
                self.pass_everything(Some(transform), items).await
            }
            Ok(edited) => Served::Changed(edited.into_items()),
            Err(failure) => self.fail(&failure),
        }
    }

    /// Whether an item is new or deleted, and the chain has listed items of its kind.
    fn is_listed(&self, head: &ItemHead) -> bool {
        let is_known = || self.untransformed.as_ref().is_some_and(|it| I::find(it, head.kind, &head.key).is_some());
        self.reads.lists(head.kind) && (head.is_deleted || !is_known())
    }

    async fn pass_everything(&mut self, transform: Option<Arc<dyn PayloadTransform>>, items: I::Items) -> Served<I> {
        self.reads.clear();
        let Some(transform) = transform else {
            self.untransformed = None;
            self.additions.clear();
            self.succeed(0);
            return Served::Upstream;
        };
        self.untransformed = Some(items.clone());
        let live = I::live(&items).into_iter().map(|item| (item.head(), Some(item))).collect();
        let changed = Changed::new(live, items, Arc::clone(&self.reads));
        match self.transform(&*transform, changed).await {
            Ok(edited) => {
                self.succeed(transform.identity());
                self.additions.replace(&edited.added);
                Served::Everything(edited.into_items())
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// Returns the listeners of changes that are served.
    #[must_use]
    pub fn listeners(&self) -> Option<Arc<dyn ChangeListener>> {
        self.hooks.of(&self.label).change_listener.clone()
    }

    fn in_force(&self) -> Option<Arc<dyn PayloadTransform>> {
        self.hooks.of(&self.label).payload_transform.clone()
    }

    /// Whether everything has to be transformed by this chain. The plan may change between two reads of it.
    fn differs_from(&self, transform: Option<&Arc<dyn PayloadTransform>>) -> bool {
        identity(transform) != self.chain || self.is_behind
    }

    fn succeed(&mut self, chain: u64) {
        self.chain = chain;
        if std::mem::take(&mut self.is_behind) {
            tracing::info!("payload plugins work again, serving the newest data from upstream");
        }
    }

    fn fail(&mut self, failure: &HookFailure) -> Served<I> {
        // The plugin is called again every few seconds, so only the first failure is worth a line.
        if std::mem::replace(&mut self.is_behind, true) {
            tracing::debug!(%failure, "payload plugin still fails");
        } else {
            tracing::error!(%failure, "payload plugin failed, serving the previous data");
        }
        Served::Previous
    }

    /// Returns the items as plugins edit them.
    async fn transform(&self, transform: &dyn PayloadTransform, changed: Changed<I>) -> Result<Edited<I>, HookFailure> {
        let facts = PayloadFacts { environment: self.label.clone() };
        let changed = Arc::new(changed);
        let edits = transform.transform(&facts, Arc::clone(&changed) as Arc<dyn PayloadView>).await?;
        let mut items: Vec<Option<I>> = changed.items().to_vec();
        let mut added = Vec::new();
        for edit in edits {
            match edit {
                PayloadEdit::Drop(index) => items.get_mut(index).into_iter().for_each(|slot| *slot = None),
                PayloadEdit::Replace(index, json) => {
                    if let (Some(slot @ Some(_)), Some(head)) = (items.get_mut(index), changed.heads().get(index)) {
                        // Neither the name nor the version of an item is a plugin's to change.
                        let edited = I::read(head.kind, &head.key, &json).filter(|it| it.head() == *head);
                        *slot = Some(edited.ok_or_else(invalid_output)?);
                    }
                }
                PayloadEdit::Add { kind, key, json, derived_from } => {
                    // An item of upstream is replaced, not added.
                    if changed.contains(&kind, &key) {
                        return Err(invalid_output());
                    }
                    let item = I::read(&kind, &key, &json).ok_or_else(invalid_output)?;
                    added.push((item, derived_from.and_then(|index| changed.heads().get(index).cloned())));
                }
            }
        }
        Ok(Edited { changed: items.into_iter().flatten().collect(), added })
    }
}

impl<I> Edited<I> {
    fn into_items(self) -> Vec<I> {
        self.changed.into_iter().chain(self.added.into_iter().map(|(item, _)| item)).collect()
    }
}

fn identity(transform: Option<&Arc<dyn PayloadTransform>>) -> u64 {
    transform.map_or(0, |it| it.identity())
}

fn invalid_output() -> HookFailure {
    HookFailure { plugin: "payload chain".into(), class: "output-invalid" }
}

#[cfg(test)]
mod tests;
