//! Items of one kind in order of key. Versions of a map share what did not change.

use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use yardarm_core::by_address::ByAddress;
use yardarm_launchdarkly_eval::model::{Body, Item};

/// Flags or segments by key, deleted ones included. Cheap to clone; a change copies a few nodes of a tree.
pub(crate) struct ItemMap<B: Body> {
    items: OrdMap<Arc<str>, ByAddress<Item<B>>>,
    live: usize,
}

impl<B: Body> ItemMap<B> {
    /// The item or tombstone under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Item<B>>> {
        self.items.get(key).map(|it| &it.0)
    }

    /// The item under a key; `None` if it does not exist or was deleted.
    pub(crate) fn live(&self, key: &str) -> Option<&Arc<Item<B>>> {
        self.get(key).filter(|it| !it.is_deleted())
    }

    /// All items and tombstones in order of key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Item<B>>> {
        self.items.values().map(|it| &it.0)
    }

    /// All items in order of key, without deleted ones.
    pub(crate) fn iter_live(&self) -> impl Iterator<Item = &Arc<Item<B>>> {
        self.iter().filter(|it| !it.is_deleted())
    }

    /// The number of items and tombstones.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The number of items that are not deleted.
    pub(crate) fn live_len(&self) -> usize {
        self.live
    }

    /// Whether there is neither an item nor a tombstone.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Removes the item or tombstone under a key.
    pub(crate) fn remove(&mut self, key: &str) {
        let old = self.items.remove(key);
        self.live -= usize::from(old.is_some_and(|it| !it.0.is_deleted()));
    }

    /// Inserts `item` whatever the version of the present one.
    pub(crate) fn insert(&mut self, item: Arc<Item<B>>) {
        self.live += usize::from(!item.is_deleted());
        let old = self.items.insert(Arc::clone(item.key()), ByAddress(item));
        self.live -= usize::from(old.is_some_and(|it| !it.0.is_deleted()));
    }

    /// Inserts `item` if it is newer than the present version; returns whether it was.
    pub(crate) fn upsert(&mut self, item: &Arc<Item<B>>) -> bool {
        let is_newer = self.get(item.key()).is_none_or(|it| item.version() > it.version());
        if is_newer {
            self.insert(Arc::clone(item));
        }
        is_newer
    }

    /// The keys whose items are not the same allocation as in `older`, in order, each with its present item. The time is
    /// proportional to their number, if this map was derived from `older`.
    pub(crate) fn changes<'a>(
        &'a self,
        older: &'a Self,
    ) -> impl Iterator<Item = (&'a Arc<str>, Option<&'a Arc<Item<B>>>)> {
        older.items.diff(&self.items).map(|change| match change {
            DiffItem::Add(key, item) | DiffItem::Update { new: (key, item), .. } => (key, Some(&item.0)),
            DiffItem::Remove(key, _) => (key, None),
        })
    }

    /// Whether SDKs would receive the same items.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        self.live == other.live
            && self.changes(other).all(|(key, new)| match (new.filter(|it| !it.is_deleted()), other.live(key)) {
                (Some(new), Some(old)) => new.json() == old.json(),
                (None, None) => true,
                _ => false,
            })
    }

    /// This map with the allocations of `held` for items that are equal there.
    ///
    /// Upstream repeats everything after each reconnection. What was derived from an item stays valid then, and the new
    /// message can be freed: items that differ get bytes of their own if they are less than half of it.
    pub(crate) fn reusing(self, held: &Self) -> Self
    where
        B::Facts: Clone,
    {
        let is_fresh = |it: &&Arc<Item<B>>| held.get(it.key()).is_none_or(|old| !is_equal(it, old));
        let fresh: Vec<_> = self.iter().filter(is_fresh).collect();
        let (all, differing): (usize, usize) =
            (self.iter().map(|it| it.json().len()).sum(), fresh.iter().map(|it| it.json().len()).sum());
        if 2 * differing > all {
            return self;
        }
        let mut reused = held.clone();
        for key in held.items.keys().filter(|key| self.get(key).is_none()) {
            let removed = reused.items.remove(key);
            reused.live -= usize::from(removed.is_some_and(|it| !it.0.is_deleted()));
        }
        fresh.into_iter().for_each(|it| reused.insert(Arc::new(it.detached())));
        reused
    }
}

/// Whether two items have the same version and text.
pub(super) fn is_equal<B: Body>(left: &Arc<Item<B>>, right: &Arc<Item<B>>) -> bool {
    Arc::ptr_eq(left, right)
        || (left.version(), left.is_deleted(), left.json()) == (right.version(), right.is_deleted(), right.json())
}

impl<B: Body> Default for ItemMap<B> {
    fn default() -> Self {
        Self { items: OrdMap::new(), live: 0 }
    }
}

impl<B: Body> Clone for ItemMap<B> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), live: self.live }
    }
}

impl<B: Body> fmt::Debug for ItemMap<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<B: Body> Extend<Arc<Item<B>>> for ItemMap<B> {
    /// Inserts items; of several with one key the last one stays.
    fn extend<I: IntoIterator<Item = Arc<Item<B>>>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.insert(item));
    }
}

impl<B: Body> FromIterator<Arc<Item<B>>> for ItemMap<B> {
    fn from_iter<I: IntoIterator<Item = Arc<Item<B>>>>(items: I) -> Self {
        let mut map = Self::default();
        map.extend(items);
        map
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use yardarm_launchdarkly_eval::model::FlagBody;

    use super::*;

    type Flags = ItemMap<FlagBody>;

    fn flag(key: u8, version: i64, is_deleted: bool) -> Arc<Item<FlagBody>> {
        let key = format!("f{key}");
        if is_deleted {
            return Arc::new(Item::tombstone(&key, version));
        }
        let json = RawValue::from_string(format!(r#"{{"key":"{key}","version":{version}}}"#)).expect("JSON");
        Arc::new(Item::parse(&key, &json).expect("a flag"))
    }

    fn flags() -> impl Strategy<Value = Flags> {
        let flag = (0..12_u8, 0..3_i64, prop::bool::weighted(0.2))
            .prop_map(|(key, version, is_deleted)| flag(key, version, is_deleted));
        prop::collection::vec(flag, 0..20).prop_map(Flags::from_iter)
    }

    fn content(flags: &Flags) -> Vec<(String, i64, bool)> {
        flags.iter().map(|it| (it.key().to_string(), it.version(), it.is_deleted())).collect()
    }

    #[test]
    fn only_newer_items_replace_others() {
        let mut flags: Flags = [flag(1, 2, false), flag(2, 2, true)].into_iter().collect();
        assert!(!flags.upsert(&flag(1, 2, false)) && !flags.upsert(&flag(2, 1, false)));
        assert_eq!((flags.len(), flags.live_len()), (2, 1));
        assert!(
            flags.upsert(&flag(1, 3, true)) && flags.upsert(&flag(2, 3, false)) && flags.upsert(&flag(3, 0, false))
        );
        assert_eq!((flags.len(), flags.live_len()), (3, 2));
        assert!(flags.live("f1").is_none() && flags.get("f1").is_some());
    }

    #[test]
    fn a_small_difference_does_not_retain_the_message() {
        let held: Flags = (1..4).map(|key| flag(key, 1, false)).collect();
        let fresh: Flags = [flag(1, 1, false), flag(2, 2, false), flag(3, 1, false)].into_iter().collect();
        let reused = fresh.clone().reusing(&held);
        assert_eq!(content(&reused), content(&fresh));
        let changed: Vec<_> = reused.changes(&held).map(|(key, _)| key.to_string()).collect();
        assert_eq!(changed, ["f2"]);
        assert!(!Arc::ptr_eq(reused.get("f2").expect("f2"), fresh.get("f2").expect("f2")), "bytes of its own");
        let other: Flags = (1..4).map(|key| flag(key, 2, false)).collect();
        assert_eq!(other.clone().reusing(&held).changes(&other).count(), 0, "mostly different");
    }

    proptest! {
        #[test]
        fn differences_lead_from_one_map_to_the_other(old in flags(), new in flags()) {
            let mut built = old.clone();
            for (key, item) in new.changes(&old) {
                match item {
                    Some(item) => built.insert(Arc::clone(item)),
                    None => drop(built.items.remove(key)),
                }
            }
            prop_assert_eq!(content(&built), content(&new));
            prop_assert_eq!(new.live_len(), new.iter_live().count());
        }

        #[test]
        fn reuse_changes_allocations_only(held in flags(), fresh in flags()) {
            let reused = fresh.clone().reusing(&held);
            prop_assert_eq!(content(&reused), content(&fresh));
            prop_assert_eq!(reused.live_len(), fresh.live_len());
            prop_assert!(reused.looks_like(&fresh));
            prop_assert_eq!(content(&held) == content(&fresh), reused.changes(&held).count() == 0);
        }
    }
}
