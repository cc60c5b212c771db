//! Flags and segments of one environment, what a change does to them, and when a newer version wins.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use yardarm_launchdarkly_eval::model::{Flag, Segment};

/// Flags and segments in order of key, deleted ones included.
#[derive(Clone, Default)]
pub(crate) struct Items {
    pub(crate) flags: Vec<Arc<Flag>>,
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// One message from upstream, ready to be applied.
#[derive(Clone)]
pub(crate) enum Change {
    /// Replaces everything.
    Put(Items),
    /// Replaces one item if it is newer; an item that is deleted is announced as a `delete`.
    Patch(Item),
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
        find(&self.flags, key, |it| it.key()).filter(|it| !it.is_deleted())
    }

    /// The version of a flag or of its tombstone.
    pub(crate) fn flag_version(&self, key: &str) -> Option<i64> {
        find(&self.flags, key, |it| it.key()).map(|it| it.version())
    }

    /// A segment; `None` if it does not exist or was deleted.
    pub(crate) fn segment(&self, key: &str) -> Option<&Arc<Segment>> {
        find(&self.segments, key, |it| it.key()).filter(|it| !it.is_deleted())
    }

    /// Whether SDKs would receive the same data.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        fn same<T>(left: &[Arc<T>], right: &[Arc<T>], view: impl Fn(&T) -> Option<(&Arc<str>, &Bytes)>) -> bool {
            left.iter().filter_map(|it| view(it)).eq(right.iter().filter_map(|it| view(it)))
        }
        same(&self.flags, &other.flags, |it| (!it.is_deleted()).then(|| (it.key(), it.json())))
            && same(&self.segments, &other.segments, |it| (!it.is_deleted()).then(|| (it.key(), it.json())))
    }

    /// Whether both hold the same versions of the same items, deleted ones included.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        fn same<T>(left: &[Arc<T>], right: &[Arc<T>], view: impl Fn(&T) -> (&Arc<str>, i64, bool, &Bytes)) -> bool {
            let is_same = |(left, right): (&Arc<T>, &Arc<T>)| Arc::ptr_eq(left, right) || view(left) == view(right);
            left.len() == right.len() && left.iter().zip(right).all(is_same)
        }
        same(&self.flags, &other.flags, |it| (it.key(), it.version(), it.is_deleted(), it.json()))
            && same(&self.segments, &other.segments, |it| (it.key(), it.version(), it.is_deleted(), it.json()))
    }

    /// The deleted items of this set and `live` ones from elsewhere.
    pub(crate) fn with_live(&self, live: Vec<Item>) -> Self {
        let mut items = Self {
            flags: self.flags.iter().filter(|it| it.is_deleted()).cloned().collect(),
            segments: self.segments.iter().filter(|it| it.is_deleted()).cloned().collect(),
        };
        for item in live {
            match item {
                Item::Flag(flag) => items.flags.push(flag),
                Item::Segment(segment) => items.segments.push(segment),
            }
        }
        items.sorted()
    }

    /// The items that are newer here than in `other`, deleted ones included, or that `other` does not contain.
    pub(crate) fn newer_than(&self, other: &Self) -> Vec<Item> {
        let flags = newer(&self.flags, &other.flags, |it| it.key(), |it| it.version());
        let segments = newer(&self.segments, &other.segments, |it| it.key(), |it| it.version());
        flags.map(Item::Flag).chain(segments.map(Item::Segment)).collect()
    }

    /// The current version of an item, deleted or not.
    pub(crate) fn version_of(&self, item: &Item) -> Option<i64> {
        match item {
            Item::Flag(flag) => find(&self.flags, flag.key(), |it| it.key()).map(|it| it.version()),
            Item::Segment(segment) => find(&self.segments, segment.key(), |it| it.key()).map(|it| it.version()),
        }
    }

    /// Inserts `item` if it is newer than the present version; returns whether it was.
    pub(crate) fn upsert(&mut self, item: &Item) -> bool {
        match item {
            Item::Flag(flag) => upsert(&mut self.flags, flag, |it| it.key(), |it| it.version()),
            Item::Segment(segment) => upsert(&mut self.segments, segment, |it| it.key(), |it| it.version()),
        }
    }

    /// Appends the item or tombstone that `held` has under a key. The order of keys is not kept.
    pub(crate) fn keep(&mut self, held: &Self, kind: ItemKind, key: &str) {
        match kind {
            ItemKind::Flag => self.flags.extend(find(&held.flags, key, |it| it.key()).cloned()),
            ItemKind::Segment => self.segments.extend(find(&held.segments, key, |it| it.key()).cloned()),
        }
    }

    /// Sorts items by key. Of two items with one key the later one stays.
    pub(crate) fn sorted(mut self) -> Self {
        sort(&mut self.flags, |it| it.key());
        sort(&mut self.segments, |it| it.key());
        self
    }
}

impl Item {
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

fn find<'a, T>(items: &'a [T], key: &str, key_of: impl Fn(&T) -> &Arc<str>) -> Option<&'a T> {
    let index = items.binary_search_by(|it| (**key_of(it)).cmp(key)).ok()?;
    items.get(index)
}

fn newer<'a, T>(
    items: &'a [Arc<T>],
    others: &'a [Arc<T>],
    key: impl Fn(&T) -> &Arc<str> + Copy + 'a,
    version: impl Fn(&T) -> i64 + 'a,
) -> impl Iterator<Item = Arc<T>> + 'a {
    let is_newer =
        move |item: &&Arc<T>| find(others, key(item), |it| key(it)).is_none_or(|it| version(item) > version(it));
    items.iter().filter(is_newer).cloned()
}

fn upsert<T>(
    items: &mut Vec<Arc<T>>,
    item: &Arc<T>,
    key: impl Fn(&T) -> &Arc<str>,
    version: impl Fn(&T) -> i64,
) -> bool {
    match items.binary_search_by(|it| key(it).cmp(key(item))) {
        Ok(index) if version(&items[index]) >= version(item) => return false,
        Ok(index) => items[index] = Arc::clone(item),
        Err(index) => items.insert(index, Arc::clone(item)),
    }
    true
}

fn sort<T>(items: &mut Vec<Arc<T>>, key: impl Fn(&T) -> &Arc<str>) {
    items.sort_by(|left, right| key(left).cmp(key(right)));
    // `dedup_by` keeps the first of equals, and JSON keeps the last.
    items.reverse();
    items.dedup_by(|left, right| key(left) == key(right));
    items.reverse();
}
