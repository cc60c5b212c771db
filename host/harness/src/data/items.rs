//! Flags and segments of one environment, the differences between two states of them, and the events that announce changes.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use yardarm_core::hooks::ItemHead;
use yardarm_core::sse::Frame;
use yardarm_harness_eval::model::{Flag, Segment};

use super::item_list::{ItemList, ListItem};

/// Flags and segments, in upstream's order.
#[derive(Clone, Default)]
pub(crate) struct Items {
    pub(crate) flags: ItemList<Flag>,
    pub(crate) segments: ItemList<Segment>,
}

/// A flag or a segment.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Flag(Arc<Flag>),
    Segment(Arc<Segment>),
}

/// The event of a stream: an item has changed, and SDKs must fetch it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ChangeEvent {
    /// `create`, `patch` or `delete`.
    pub(crate) event: String,
    pub(crate) domain: Domain,
    pub(crate) identifier: String,
    pub(crate) version: i64,
}

/// Kinds of items, under the names that streams use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Domain {
    Flag,
    TargetSegment,
}

impl Domain {
    /// Returns the kind of item, as plugins and operators see it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::TargetSegment => "segment",
        }
    }
}

impl Item {
    pub(crate) fn domain(&self) -> Domain {
        match self {
            Self::Flag(_) => Domain::Flag,
            Self::Segment(_) => Domain::TargetSegment,
        }
    }

    pub(crate) fn identifier(&self) -> &Arc<str> {
        match self {
            Self::Flag(it) => &it.feature,
            Self::Segment(it) => &it.identifier,
        }
    }

    /// Returns the text from upstream, with both kinds of segment rules.
    pub(crate) fn json(&self) -> &Bytes {
        match self {
            Self::Flag(it) => it.json(),
            Self::Segment(it) => it.json(),
        }
    }

    /// Returns the version, which grows with each change; 0 if it is unknown.
    pub(crate) fn version(&self) -> i64 {
        match self {
            Self::Flag(it) => it.version,
            Self::Segment(it) => it.version,
        }
    }
}

impl Items {
    /// Returns every item, flags first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Item> {
        let segments = self.segments.iter().cloned().map(Item::Segment);
        self.flags.iter().cloned().map(Item::Flag).chain(segments)
    }

    /// Returns an item.
    pub(crate) fn get(&self, domain: Domain, identifier: &str) -> Option<Item> {
        match domain {
            Domain::Flag => self.flag(identifier).cloned().map(Item::Flag),
            Domain::TargetSegment => self.segment(identifier).cloned().map(Item::Segment),
        }
    }

    pub(crate) fn flag(&self, identifier: &str) -> Option<&Arc<Flag>> {
        self.flags.get(identifier)
    }

    pub(crate) fn segment(&self, identifier: &str) -> Option<&Arc<Segment>> {
        self.segments.get(identifier)
    }

    /// Adds `item`, or replaces the item of its identifier if `item` is newer; returns whether anything changed. Items without a
    /// version always count as newer.
    pub(crate) fn upsert(&mut self, item: &Item) -> bool {
        match item {
            Item::Flag(it) => self.flags.upsert(it),
            Item::Segment(it) => self.segments.upsert(it),
        }
    }

    /// Adds `item`, or replaces the item of its identifier, whatever their versions.
    pub(crate) fn replace(&mut self, item: &Item) {
        match item {
            Item::Flag(it) => self.flags.replace(Arc::clone(it)),
            Item::Segment(it) => self.segments.replace(Arc::clone(it)),
        }
    }

    /// Removes an item; returns whether it existed.
    pub(crate) fn remove(&mut self, domain: Domain, identifier: &str) -> bool {
        match domain {
            Domain::Flag => self.flags.remove(identifier),
            Domain::TargetSegment => self.segments.remove(identifier),
        }
    }

    /// Returns the items that are not the same allocation as in `before`; `None` if not only items were replaced since.
    pub(crate) fn replaced_since(&self, before: &Self) -> Option<Vec<Item>> {
        let flags = self.flags.replaced_since(&before.flags)?.cloned().map(Item::Flag);
        let segments = self.segments.replaced_since(&before.segments)?.cloned().map(Item::Segment);
        Some(flags.chain(segments).collect())
    }

    /// Returns the events that announce the differences between `before` and this. Equal items cause none.
    pub(crate) fn differences(&self, before: &Self) -> Vec<ChangeEvent> {
        let mut events = Vec::new();
        compare(&before.flags, &self.flags, Domain::Flag, &mut events);
        compare(&before.segments, &self.segments, Domain::TargetSegment, &mut events);
        events
    }
}

fn compare<T: ListItem>(before: &ItemList<T>, after: &ItemList<T>, domain: Domain, events: &mut Vec<ChangeEvent>) {
    let mut announce = |event: &str, item: &T| {
        let (event, identifier) = (event.to_owned(), item.identifier().to_string());
        events.push(ChangeEvent { event, domain, identifier, version: item.version() });
    };
    for item in after.iter() {
        match before.get(item.identifier()) {
            None => announce("create", item),
            Some(old) if !Arc::ptr_eq(old, item) && old.json() != item.json() => announce("patch", item),
            Some(_) => (),
        }
    }
    let mut gone: Vec<_> = before.iter().filter(|it| after.get(it.identifier()).is_none()).collect();
    gone.sort_by_key(|it| it.identifier());
    gone.into_iter().for_each(|item| announce("delete", item));
}

impl FromIterator<Item> for Items {
    /// Of several items of one identifier, the newest is taken.
    fn from_iter<I: IntoIterator<Item = Item>>(all: I) -> Self {
        let mut items = Self::default();
        for item in all {
            items.upsert(&item);
        }
        items
    }
}

impl ChangeEvent {
    /// Returns the event that announces `item` to SDKs which have `before` in its place; `None` if they are equal.
    pub(crate) fn between(before: Option<&Item>, item: &Item) -> Option<Self> {
        let event = match before {
            None => "create",
            Some(before) if before.json() != item.json() => "patch",
            Some(_) => return None,
        };
        let identifier = item.identifier().to_string();
        Some(Self { event: event.to_owned(), domain: item.domain(), identifier, version: item.version() })
    }

    /// Names the item, as plugins see it.
    pub(crate) fn head(&self) -> ItemHead {
        ItemHead {
            kind: self.domain.kind(),
            key: self.identifier.as_str().into(),
            version: u64::try_from(self.version).unwrap_or(0),
            is_deleted: self.event == "delete",
        }
    }

    /// Whether this announces a change of `item`.
    pub(crate) fn is_about(&self, item: &Item) -> bool {
        self.domain == item.domain() && *self.identifier == **item.identifier()
    }

    /// Renders the event, on one line and in ASCII: the Python SDK decodes streams as Latin-1.
    pub(super) fn frame(&self) -> Frame {
        let json = serde_json::to_string(self).expect("text and numbers are always JSON");
        Frame::event("*", json.len(), |out| {
            for character in json.chars() {
                if character.is_ascii() {
                    out.push(character as u8);
                } else {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                    }
                }
            }
        })
    }
}
