//! Items of one kind in upstream's order. Versions of a list share what did not change.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use yardarm_core::by_address::ByAddress;
use yardarm_harness_eval::model::{Flag, Segment};

/// An item of a list.
pub(crate) trait ListItem {
    fn identifier(&self) -> &Arc<str>;

    /// The version, which grows with each change; 0 if it is unknown.
    fn version(&self) -> i64;

    /// The text from upstream.
    fn json(&self) -> &Bytes;
}

/// Flags or segments in upstream's order, found by identifier. Cheap to clone; a change copies a few nodes of two trees.
///
/// Of several items with one identifier the first counts, as in the vendor's lists; the others are listed only.
pub(crate) struct ItemList<T> {
    /// By place, which grows in upstream's order.
    items: OrdMap<u64, ByAddress<T>>,
    places: OrdMap<Arc<str>, u64>,
}

impl<T: ListItem> ItemList<T> {
    /// All items in upstream's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.items.values().map(|it| &it.0)
    }

    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item with an identifier.
    pub(crate) fn get(&self, identifier: &str) -> Option<&Arc<T>> {
        self.items.get(self.places.get(identifier)?).map(|it| &it.0)
    }

    /// The items that are not the same allocation as in `before`. `None` if items were added, removed or moved, or if `before`
    /// does not precede this list.
    pub(crate) fn replaced_since<'a>(&'a self, before: &'a Self) -> Option<impl Iterator<Item = &'a Arc<T>>> {
        self.places.ptr_eq(&before.places).then(|| {
            before.items.diff(&self.items).filter_map(|change| match change {
                DiffItem::Add(_, item) | DiffItem::Update { new: (_, item), .. } => Some(&item.0),
                DiffItem::Remove(..) => None,
            })
        })
    }

    /// Adds `item`, or replaces the item with its identifier if `item` is newer; returns whether anything changed. Items
    /// without a version always count as newer.
    pub(crate) fn upsert(&mut self, item: &Arc<T>) -> bool {
        let known = self.get(item.identifier()).map_or(0, |it| it.version());
        let is_newer = known <= 0 || item.version() > known;
        if is_newer {
            self.replace(Arc::clone(item));
        }
        is_newer
    }

    /// Adds `item`, or replaces the item with its identifier, whatever their versions.
    pub(crate) fn replace(&mut self, item: Arc<T>) {
        match self.places.get(item.identifier()) {
            Some(place) => drop(self.items.insert(*place, ByAddress(item))),
            None => self.push(item),
        }
    }

    /// Removes an item; returns whether it existed.
    pub(crate) fn remove(&mut self, identifier: &str) -> bool {
        // Upstream never sends an identifier twice, but nothing would be left of it after its deletion.
        if self.items.len() > self.places.len() {
            self.items = self.items.iter().filter(|it| **it.1.0.identifier() != *identifier).map(copied).collect();
        }
        match self.places.remove(identifier) {
            Some(place) => {
                self.items.remove(&place);
                true
            }
            None => false,
        }
    }

    /// Adds an item at the end.
    fn push(&mut self, item: Arc<T>) {
        let place = self.items.get_max().map_or(0, |last| last.0 + 1);
        if !self.places.contains_key(item.identifier()) {
            self.places.insert(Arc::clone(item.identifier()), place);
        }
        self.items.insert(place, ByAddress(item));
    }
}

fn copied<T>((place, item): (&u64, &ByAddress<T>)) -> (u64, ByAddress<T>) {
    (*place, item.clone())
}

impl<T> Default for ItemList<T> {
    fn default() -> Self {
        Self { items: OrdMap::new(), places: OrdMap::new() }
    }
}

impl<T> Clone for ItemList<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), places: self.places.clone() }
    }
}

impl<T: ListItem> FromIterator<Arc<T>> for ItemList<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Self {
        let mut list = Self::default();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}

impl ListItem for Flag {
    fn identifier(&self) -> &Arc<str> {
        &self.feature
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn json(&self) -> &Bytes {
        self.json()
    }
}

impl ListItem for Segment {
    fn identifier(&self) -> &Arc<str> {
        &self.identifier
    }

    fn version(&self) -> i64 {
        self.version
    }

    fn json(&self) -> &Bytes {
        self.json()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn flag(name: usize, version: i64) -> Arc<Flag> {
        Arc::new(Flag::read(json!({"feature": format!("f{name}"), "version": version})).unwrap())
    }

    fn content<'a>(items: impl Iterator<Item = &'a Arc<Flag>>) -> Vec<(String, i64)> {
        items.map(|it| (it.feature.to_string(), it.version)).collect()
    }

    proptest! {
        /// A vector of all items is the model.
        #[test]
        fn a_list_is_a_vector_that_is_searched_by_identifier(
            start in prop::collection::vec((0..6_usize, 0..4_i64), 0..8),
            steps in prop::collection::vec((0..3_u8, 0..6_usize, 0..4_i64), 0..20),
        ) {
            let mut model: Vec<_> = start.iter().map(|(name, version)| flag(*name, *version)).collect();
            let mut list: ItemList<Flag> = model.iter().cloned().collect();
            for (step, name, version) in steps {
                let (item, before) = (flag(name, version), list.clone());
                let known = model.iter().position(|it| it.feature == item.feature);
                match step {
                    0 => {
                        let is_newer = known.is_none_or(|at| model[at].version <= 0 || version > model[at].version);
                        prop_assert_eq!(list.upsert(&item), is_newer);
                        match known {
                            Some(at) if is_newer => model[at] = item,
                            Some(_) => (),
                            None => model.push(item),
                        }
                    }
                    1 => {
                        list.replace(Arc::clone(&item));
                        match known {
                            Some(at) => model[at] = item,
                            None => model.push(item),
                        }
                    }
                    _ => {
                        prop_assert_eq!(list.remove(&item.feature), known.is_some());
                        model.retain(|it| it.feature != item.feature);
                    }
                }
                if let Some(replaced) = list.replaced_since(&before) {
                    let pairs = list.iter().zip(before.iter()).filter(|(new, old)| !Arc::ptr_eq(new, old));
                    prop_assert_eq!(content(replaced), content(pairs.map(|it| it.0)));
                    let names = |list: &ItemList<Flag>| content(list.iter()).into_iter().map(|it| it.0).collect::<Vec<_>>();
                    prop_assert_eq!(names(&list), names(&before));
                }
                prop_assert_eq!(content(list.iter()), content(model.iter()));
                prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
                for name in 0..6 {
                    let name = format!("f{name}");
                    let known = model.iter().find(|it| *it.feature == name).map(|it| it.version);
                    prop_assert_eq!(list.get(&name).map(|it| it.version), known);
                }
            }
        }
    }
}
