//! Flags and segments as payload plugins see them, and changes as operators see them.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use yardarm_core::hooks::ItemHead;
use yardarm_launchdarkly_eval::model::Body;
use yardarm_vendor::payload::PayloadItem;

use crate::data::item_map::ItemMap;
use crate::data::{Change, Item, Items, message};

const FLAG: &str = "flag";
const SEGMENT: &str = "segment";

impl PayloadItem for Item {
    type Items = Items;

    const NEEDS_HIGHER_VERSION: bool = true;

    fn head(&self) -> ItemHead {
        let version = u64::try_from(self.version()).unwrap_or(0);
        ItemHead { kind: kind(self), key: Arc::clone(self.key()), version, is_deleted: self.is_deleted() }
    }

    fn json(&self) -> Bytes {
        Self::json(self).clone()
    }

    fn live(items: &Items) -> Vec<Self> {
        items.live().collect()
    }

    fn find(items: &Items, kind: &str, key: &str) -> Option<Bytes> {
        match kind {
            FLAG => items.flag(key).map(|it| it.json().clone()),
            SEGMENT => items.segment(key).map(|it| it.json().clone()),
            _ => None,
        }
    }

    fn read(kind: &str, key: &str, json: &Bytes) -> Option<Self> {
        // On one line, as required on streams.
        let text = String::from_utf8_lossy(json).replace(['\n', '\r'], " ");
        let raw = RawValue::from_string(text).ok()?;
        match kind {
            FLAG => message::flag(key, &raw).ok().map(|it| Self::Flag(Arc::new(it))),
            SEGMENT => message::segment(key, &raw).ok().map(|it| Self::Segment(Arc::new(it))),
            _ => None,
        }
    }
}

fn kind(item: &Item) -> &'static str {
    if matches!(item, Item::Flag(_)) { FLAG } else { SEGMENT }
}

/// Returns the items that a change to `before` has changed, empty for everything; `None` if there are none.
pub(super) fn changed_heads(change: &Change, before: Option<&Items>) -> Option<Vec<ItemHead>> {
    match (change, before) {
        (Change::Patch(item), _) => Some(vec![item.head()]),
        (Change::Group(items), _) => Some(items.iter().map(PayloadItem::head).collect()),
        (Change::Put(_), None) => Some(Vec::new()),
        (Change::Put(items), Some(before)) => {
            let flags = differing(FLAG, &items.flags, &before.flags);
            let heads: Vec<_> = flags.chain(differing(SEGMENT, &items.segments, &before.segments)).collect();
            (!heads.is_empty()).then_some(heads)
        }
        (Change::SegmentsChanged, _) => None,
    }
}

/// Returns the items of one kind that SDKs see differently than before.
fn differing<'a, B: Body>(
    kind: &'static str,
    items: &'a ItemMap<B>,
    before: &'a ItemMap<B>,
) -> impl Iterator<Item = ItemHead> + 'a {
    items.changes(before).filter_map(move |(key, item)| {
        let (live, old) = (item.filter(|it| !it.is_deleted()), before.live(key));
        let is_same = match (live, old) {
            (Some(live), Some(old)) => live.json() == old.json(),
            (live, old) => live.is_none() && old.is_none(),
        };
        let version = item.or(old).map_or(0, |it| u64::try_from(it.version()).unwrap_or(0));
        (!is_same).then(|| ItemHead { kind, key: Arc::clone(key), version, is_deleted: live.is_none() })
    })
}

/// Describes a change for the status page.
pub(super) fn describe(change: &Change) -> String {
    match change {
        Change::SegmentsChanged => "members of Big Segments changed".to_owned(),
        Change::Put(items) => format!("everything: {} flags, {} segments", items.flags.len(), items.segments.len()),
        Change::Patch(item) => {
            let what = if item.is_deleted() { "deleted" } else { "changed" };
            format!("{} `{}` {what}, version {}", kind(item), item.key(), item.version())
        }
        Change::Group(items) => format!("{} flags and segments changed together", items.len()),
    }
}
