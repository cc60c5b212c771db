//! Flags and segments of one environment, what a change does to them, and when a newer version wins.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use yardarm_launchdarkly_eval::model::{Flag, FlagBody, Segment, SegmentBody};

use super::item_map::ItemMap;

/// Flags and segments in order of key, deleted ones included. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Items {
    pub(crate) flags: ItemMap<FlagBody>,
    pub(crate) segments: ItemMap<SegmentBody>,
}

/// One message from upstream, ready to be applied.
#[derive(Clone)]
pub(crate) enum Change {
    /// Replaces everything.
    Put(Items),
    /// Replaces one item if it is newer; an item that is deleted is announced as a `delete`.
    Patch(Item),
    /// Replaces several items at the same moment, each if it is newer.
    Group(Vec<Item>),
    /// Memberships in Big Segments changed, which are not part of the data: server-side SDKs read them from the database,
    /// and client-side SDKs are sent a `ping`.
    SegmentsChanged,
}

/// A flag or a segment.
#[derive(Clone)]
pub(crate) enum Item {
    Flag(Arc<Flag>),
    Segment(Arc<Segment>),
}

/// The kind of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Flag,
    Segment,
}

/// The kinds of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// `/all`: flags and segments.
    All,
    /// `/flags`: flags only.
    Flags,
    /// Mobile and browser streams.
    Ping,
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Segment => "segment",
        })
    }
}

impl Channel {
    pub(crate) const COUNT: usize = 3;

    pub(crate) fn of(index: usize) -> Option<Self> {
        [Self::All, Self::Flags, Self::Ping].get(index).copied()
    }
}

impl Items {
    /// A flag; `None` if it does not exist or was deleted.
    pub(crate) fn flag(&self, key: &str) -> Option<&Arc<Flag>> {
        self.flags.live(key)
    }

    /// The version of a flag or of its tombstone.
    pub(crate) fn flag_version(&self, key: &str) -> Option<i64> {
        self.flags.get(key).map(|it| it.version())
    }

    /// A segment; `None` if it does not exist or was deleted.
    pub(crate) fn segment(&self, key: &str) -> Option<&Arc<Segment>> {
        self.segments.live(key)
    }

    /// Whether there is neither an item nor a tombstone.
    pub(crate) fn is_empty(&self) -> bool {
        self.flags.is_empty() && self.segments.is_empty()
    }

    /// All items that are not deleted: flags, then segments.
    pub(crate) fn live(&self) -> impl Iterator<Item = Item> {
        let flags = self.flags.iter_live().cloned().map(Item::Flag);
        flags.chain(self.segments.iter_live().cloned().map(Item::Segment))
    }

    /// Whether SDKs would receive the same data.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        self.flags.looks_like(&other.flags) && self.segments.looks_like(&other.segments)
    }

    /// The same items, with the allocations of `held` for those that are equal there.
    pub(crate) fn reusing(self, held: &Self) -> Self {
        Self { flags: self.flags.reusing(&held.flags), segments: self.segments.reusing(&held.segments) }
    }

    /// The deleted items of this set and `live` ones from elsewhere.
    pub(crate) fn with_live(&self, live: Vec<Item>) -> Self {
        let mut items = Self {
            flags: self.flags.iter().filter(|it| it.is_deleted()).cloned().collect(),
            segments: self.segments.iter().filter(|it| it.is_deleted()).cloned().collect(),
        };
        live.into_iter().for_each(|item| items.insert(item));
        items
    }

    /// The items that are newer here than in `other`, deleted ones included, or that `other` does not contain.
    pub(crate) fn newer_than(&self, other: &Self) -> Vec<Item> {
        let items = |new: &Self, old: &Self| -> Vec<Item> {
            let flags = new.flags.changes(&old.flags).filter_map(|(_, it)| it.cloned().map(Item::Flag));
            let segments = new.segments.changes(&old.segments).filter_map(|(_, it)| it.cloned().map(Item::Segment));
            flags.chain(segments).collect()
        };
        let mut newer = items(self, other);
        newer.retain(|it| other.version_of(it).is_none_or(|version| it.version() > version));
        newer
    }

    /// The item or tombstone under a key.
    pub(crate) fn find(&self, kind: ItemKind, key: &str) -> Option<Item> {
        match kind {
            ItemKind::Flag => self.flags.get(key).cloned().map(Item::Flag),
            ItemKind::Segment => self.segments.get(key).cloned().map(Item::Segment),
        }
    }

    /// The current version of an item, deleted or not.
    pub(crate) fn version_of(&self, item: &Item) -> Option<i64> {
        match item {
            Item::Flag(flag) => self.flags.get(flag.key()).map(|it| it.version()),
            Item::Segment(segment) => self.segments.get(segment.key()).map(|it| it.version()),
        }
    }

    /// Inserts `item` whatever the present version.
    pub(crate) fn insert(&mut self, item: Item) {
        match item {
            Item::Flag(flag) => self.flags.insert(flag),
            Item::Segment(segment) => self.segments.insert(segment),
        }
    }

    /// Removes an item or a tombstone.
    pub(crate) fn remove(&mut self, kind: ItemKind, key: &str) {
        match kind {
            ItemKind::Flag => self.flags.remove(key),
            ItemKind::Segment => self.segments.remove(key),
        }
    }

    /// Inserts `item` if it is newer than the present version; returns whether it was.
    pub(crate) fn upsert(&mut self, item: &Item) -> bool {
        match item {
            Item::Flag(flag) => self.flags.upsert(flag),
            Item::Segment(segment) => self.segments.upsert(segment),
        }
    }

    /// Inserts the item or tombstone that `held` has under a key.
    pub(crate) fn keep(&mut self, held: &Self, kind: ItemKind, key: &str) {
        match kind {
            ItemKind::Flag => self.flags.extend(held.flags.get(key).cloned()),
            ItemKind::Segment => self.segments.extend(held.segments.get(key).cloned()),
        }
    }
}

impl Item {
    /// The tombstone of a deleted item.
    pub(crate) fn tombstone(kind: ItemKind, key: &str, version: i64) -> Self {
        match kind {
            ItemKind::Flag => Self::Flag(Arc::new(Flag::tombstone(key, version))),
            ItemKind::Segment => Self::Segment(Arc::new(Segment::tombstone(key, version))),
        }
    }

    pub(crate) fn kind(&self) -> ItemKind {
        match self {
            Self::Flag(_) => ItemKind::Flag,
            Self::Segment(_) => ItemKind::Segment,
        }
    }

    pub(crate) fn key(&self) -> &Arc<str> {
        match self {
            Self::Flag(flag) => flag.key(),
            Self::Segment(segment) => segment.key(),
        }
    }

    pub(crate) fn version(&self) -> i64 {
        match self {
            Self::Flag(flag) => flag.version(),
            Self::Segment(segment) => segment.version(),
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        match self {
            Self::Flag(flag) => flag.is_deleted(),
            Self::Segment(segment) => segment.is_deleted(),
        }
    }

    pub(crate) fn json(&self) -> &Bytes {
        match self {
            Self::Flag(flag) => flag.json(),
            Self::Segment(segment) => segment.json(),
        }
    }
}
