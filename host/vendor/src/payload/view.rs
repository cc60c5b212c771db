//! Changed items as payload plugins see them.

use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::hooks::{ItemHead, PayloadView};

use super::PayloadItem;
use super::reads::Reads;

/// Items that changed, with all items of the environment behind them.
pub(super) struct Changed<I: PayloadItem> {
    heads: Vec<ItemHead>,
    /// Without a deleted one.
    items: Vec<Option<I>>,
    all: I::Items,
    reads: Arc<Reads>,
}

impl<I: PayloadItem> Changed<I> {
    pub(super) fn new(changed: Vec<(ItemHead, Option<I>)>, all: I::Items, reads: Arc<Reads>) -> Self {
        let (heads, items) = changed.into_iter().unzip();
        Self { heads, items, all, reads }
    }

    pub(super) fn items(&self) -> &[Option<I>] {
        &self.items
    }

    /// Whether upstream has an item of this name.
    pub(super) fn contains(&self, kind: &str, key: &str) -> bool {
        I::find(&self.all, kind, key).is_some()
    }
}

impl<I: PayloadItem> PayloadView for Changed<I> {
    fn heads(&self) -> &[ItemHead] {
        &self.heads
    }

    fn json(&self, index: usize) -> Option<Bytes> {
        self.items.get(index)?.as_ref().map(I::json)
    }

    fn other(&self, kind: &str, key: &str) -> Option<Bytes> {
        self.reads.add(kind, key);
        I::find(&self.all, kind, key)
    }

    fn list(&self, kind: &str) -> Vec<Arc<str>> {
        self.reads.add_list(kind);
        let heads = I::live(&self.all).into_iter().map(|item| item.head());
        let mut keys: Vec<_> = heads.filter(|head| head.kind == kind).map(|head| head.key).collect();
        keys.sort();
        keys
    }
}
