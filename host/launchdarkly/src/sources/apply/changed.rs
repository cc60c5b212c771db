//! Changed items for payload plugins, and items that plugins return.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use yardarm_core::hooks::{HookFailure, ItemHead, PayloadView};

use crate::data::{Change, Item, Items, message};

/// Items that changed, and the rest of the environment behind them.
pub(super) struct Changed {
    heads: Vec<ItemHead>,
    pub(super) items: Vec<Item>,
    all: Items,
}

const FLAG: &str = "flag";
const SEGMENT: &str = "segment";

impl Changed {
    pub(super) fn one(item: &Item, all: Items) -> Self {
        Self { heads: vec![head(item)], items: vec![item.clone()], all }
    }

    pub(super) fn all(items: &Items) -> Self {
        let flags = items.flags.iter().filter(|it| !it.is_deleted()).cloned().map(Item::Flag);
        let segments = items.segments.iter().filter(|it| !it.is_deleted()).cloned().map(Item::Segment);
        let live: Vec<Item> = flags.chain(segments).collect();
        Self { heads: live.iter().map(head).collect(), items: live, all: items.clone() }
    }
}

impl PayloadView for Changed {
    fn heads(&self) -> &[ItemHead] {
        &self.heads
    }

    fn json(&self, index: usize) -> Option<Bytes> {
        Some(self.items.get(index)?.json().clone())
    }

    fn other(&self, kind: &str, key: &str) -> Option<Bytes> {
        match kind {
            FLAG => self.all.flag(key).map(|it| it.json().clone()),
            SEGMENT => self.all.segment(key).map(|it| it.json().clone()),
            _ => None,
        }
    }
}

/// Describes a change for the status page.
pub(super) fn describe(change: &Change) -> String {
    match change {
        Change::SegmentsChanged => "members of Big Segments changed".to_owned(),
        Change::Put(items) => format!("everything: {} flags, {} segments", items.flags.len(), items.segments.len()),
        Change::Patch(item) => {
            let kind = if matches!(item, Item::Flag(_)) { FLAG } else { SEGMENT };
            let what = if item.is_deleted() { "deleted" } else { "changed" };
            format!("{kind} `{}` {what}, version {}", item.key(), item.version())
        }
    }
}

fn head(item: &Item) -> ItemHead {
    ItemHead {
        kind: if matches!(item, Item::Flag(_)) { FLAG } else { SEGMENT },
        key: Arc::clone(item.key()),
        version: u64::try_from(item.version()).unwrap_or(0),
    }
}

pub(super) fn reread(before: &Item, json: &Bytes) -> Result<Item, HookFailure> {
    let after = read(if matches!(before, Item::Flag(_)) { FLAG } else { SEGMENT }, before.key(), json)?;
    if after.version() == before.version() { Ok(after) } else { Err(invalid_output()) }
}

pub(super) fn read(kind: &str, key: &str, json: &Bytes) -> Result<Item, HookFailure> {
    // On one line, as required on streams.
    let text = String::from_utf8_lossy(json).replace(['\n', '\r'], " ");
    let raw = RawValue::from_string(text).map_err(|_| invalid_output())?;
    match kind {
        FLAG => message::flag(key, &raw).map(|it| Item::Flag(Arc::new(it))).map_err(|_| invalid_output()),
        SEGMENT => message::segment(key, &raw).map(|it| Item::Segment(Arc::new(it))).map_err(|_| invalid_output()),
        _ => Err(invalid_output()),
    }
}

fn invalid_output() -> HookFailure {
    HookFailure { plugin: "payload chain".into(), class: "output-invalid" }
}
