//! What differs between two states of an environment's items.

use std::sync::Arc;

use yardarm_launchdarkly_eval::model::{self, Body};

use super::item_map::{ItemMap, is_equal};
use super::items::{Item, ItemKind, Items};

/// A difference between two states.
pub(crate) enum ItemChange {
    /// An item is new, or has another version or text. A tombstone counts as an item.
    Put(ItemKind, Item),
    /// An item is gone, without a tombstone.
    Remove(ItemKind, Arc<str>),
}

/// Returns what differs between `before`, or no items, and `after`.
pub(crate) fn changes(before: Option<&Items>, after: &Items) -> Vec<ItemChange> {
    let nothing = Items::default();
    let before = before.unwrap_or(&nothing);
    let mut changes = Vec::new();
    add(ItemKind::Flag, &before.flags, &after.flags, Item::Flag, &mut changes);
    add(ItemKind::Segment, &before.segments, &after.segments, Item::Segment, &mut changes);
    changes
}

fn add<B: Body>(
    kind: ItemKind,
    before: &ItemMap<B>,
    after: &ItemMap<B>,
    item: impl Fn(Arc<model::Item<B>>) -> Item,
    changes: &mut Vec<ItemChange>,
) {
    for (key, new) in after.changes(before) {
        match (before.get(key), new) {
            // A message with all data repeats most items in new allocations.
            (Some(old), Some(new)) if is_equal(old, new) => (),
            (_, Some(new)) => changes.push(ItemChange::Put(kind, item(Arc::clone(new)))),
            (_, None) => changes.push(ItemChange::Remove(kind, Arc::clone(key))),
        }
    }
}

#[cfg(test)]
mod tests {
    use yardarm_launchdarkly_eval::model::{Flag, Segment};

    use super::*;

    fn items(flags: &[(&str, i64)], segments: &[(&str, i64)]) -> Items {
        Items {
            flags: flags.iter().map(|(key, version)| Arc::new(Flag::tombstone(key, *version))).collect(),
            segments: segments.iter().map(|(key, version)| Arc::new(Segment::tombstone(key, *version))).collect(),
        }
    }

    fn described(before: Option<&Items>, after: &Items) -> Vec<String> {
        let describe = |change| match change {
            ItemChange::Put(kind, item) => format!("put {kind} {} {}", item.key(), item.version()),
            ItemChange::Remove(kind, key) => format!("remove {kind} {key}"),
        };
        changes(before, after).into_iter().map(describe).collect()
    }

    #[test]
    fn only_what_differs_is_named() {
        let before = items(&[("a", 1), ("c", 1), ("e", 1), ("f", 1)], &[("a", 1)]);
        let after = items(&[("b", 1), ("c", 1), ("e", 2)], &[("a", 1), ("z", 3)]);
        let expected = ["remove flag a", "put flag b 1", "put flag e 2", "remove flag f", "put segment z 3"];
        assert_eq!(described(Some(&before), &after), expected);
        assert_eq!(described(Some(&after), &after), [""; 0]);
        assert_eq!(described(None, &items(&[("a", 1)], &[("b", 2)])), ["put flag a 1", "put segment b 2"]);
        assert_eq!(described(Some(&items(&[], &[("b", 2)])), &Items::default()), ["remove segment b"]);
    }
}
