//! The state that flag data is in: a digest that names it, and a number that grows.
//!
//! The name is derived from the data alone, so equal data has an equal state on every gateway and after a restart (V032).
//! A digest is the sum of those of all items, so that a change costs as much as what it changes.

use std::fmt;

use sha2::{Digest, Sha256};
use yardarm_launchdarkly_eval::model::Body;

use super::item_map::ItemMap;
use super::items::{ItemKind, Items};

/// The state of the data at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataState {
    digest: u128,
    /// Counts changes of the state; the second version of the delivery protocol requires a growing number.
    revision: u64,
}

impl fmt::Display for DataState {
    /// Writes the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.digest)
    }
}

impl DataState {
    /// The state of `items`, computed from all of them.
    pub(crate) fn of(items: &Items, revision: u64) -> Self {
        Self { digest: 0, revision }.after(&Items::default(), items, revision)
    }

    /// The state of `items`, which follow `before` in this state.
    pub(crate) fn next(self, before: &Items, items: &Items) -> Self {
        let next = self.after(before, items, self.revision + 1);
        if next.digest == self.digest { self } else { next }
    }

    /// The number of the state.
    pub(crate) fn revision(self) -> u64 {
        self.revision
    }

    fn after(self, before: &Items, items: &Items, revision: u64) -> Self {
        let flags = difference(ItemKind::Flag, &before.flags, &items.flags);
        let segments = difference(ItemKind::Segment, &before.segments, &items.segments);
        Self { digest: self.digest.wrapping_add(flags).wrapping_add(segments), revision }
    }
}

/// What items that are not the same allocation in both maps add to the digest.
fn difference<B: Body>(kind: ItemKind, before: &ItemMap<B>, after: &ItemMap<B>) -> u128 {
    after.changes(before).fold(0, |sum, (key, new)| {
        let [old, new] = [before.live(key), new.filter(|it| !it.is_deleted())]
            .map(|it| it.map_or(0, |it| item_digest(kind, key, it.json())));
        sum.wrapping_sub(old).wrapping_add(new)
    })
}

fn item_digest(kind: ItemKind, key: &str, json: &[u8]) -> u128 {
    let mut hash = Sha256::new();
    hash.update(kind.to_string());
    for part in [b"\0", key.as_bytes(), b"\0", json] {
        hash.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::value::RawValue;
    use yardarm_launchdarkly_eval::model::Flag;

    use super::super::items::Item;
    use super::super::message;
    use super::*;

    fn flag(key: &str, version: i64) -> Item {
        let json = format!(r#"{{"key":"{key}","version":{version}}}"#);
        Item::Flag(Arc::new(message::flag(key, &RawValue::from_string(json).unwrap()).unwrap()))
    }

    fn items(all: &[Item]) -> Items {
        Items::default().with_live(all.to_vec())
    }

    #[test]
    fn the_name_of_a_state_depends_on_the_data_only() {
        let one = items(&[flag("a", 1)]);
        let first = DataState::of(&one, 1);
        let mut both = one.clone();
        both.insert(flag("b", 2));
        let second = first.next(&one, &both);
        assert_eq!(second.to_string(), DataState::of(&items(&[flag("b", 2), flag("a", 1)]), 7).to_string());
        assert_ne!(second.to_string(), first.to_string());
        assert_eq!((first.revision(), second.revision()), (1, 2));
        let mut gone = both.clone();
        gone.insert(Item::Flag(Arc::new(Flag::tombstone("b", 3))));
        let third = second.next(&both, &gone);
        assert_eq!((third.to_string(), third.revision()), (first.to_string(), 3), "a deleted item is no part of it");
        assert_eq!(third.next(&gone, &items(&[flag("a", 1)])), third, "equal data, other allocations");
        assert_ne!(DataState::of(&items(&[flag("a", 2)]), 1).to_string(), first.to_string());
    }
}
