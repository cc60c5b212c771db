//! Changed items as payload plugins see them.

use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::hooks::{ItemHead, PayloadView};

use super::PayloadItem;
use super::reads::Reads;

/// Items that changed, with all items of the environment behind them.
pub(super) struct Changed<I: PayloadItem> {
    heads: Vec<ItemHead>,
    items: Vec<I>,
    all: I::Items,
    reads: Arc<Reads>,
}

impl<I: PayloadItem> Changed<I> {
    pub(super) fn new(items: Vec<I>, all: I::Items, reads: Arc<Reads>) -> Self {
        Self { heads: items.iter().map(I::head).collect(), items, all, reads }
    }

    pub(super) fn items(&self) -> &[I] {
        &self.items
    }
}

impl<I: PayloadItem> PayloadView for Changed<I> {
    fn heads(&self) -> &[ItemHead] {
        &self.heads
    }

    fn json(&self, index: usize) -> Option<Bytes> {
        self.items.get(index).map(I::json)
    }

    fn other(&self, kind: &str, key: &str) -> Option<Bytes> {
        self.reads.add(kind, key);
        I::find(&self.all, kind, key)
    }
}
