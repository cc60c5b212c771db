//! Compiled items, found by identifier and by number. Versions of a table share what did not change.

use std::sync::Arc;

use imbl::{HashMap, Vector};

/// An entry of a table.
pub(super) trait Entry {
    /// Returns the identifier.
    fn identifier(&self) -> &Arc<str>;

    /// Returns how many comparisons its evaluation takes at most, approximately.
    fn weight(&self) -> usize;
}

/// Compiled items. Numbers are stable until the table is built anew, so that one change moves no other item.
pub(super) struct Table<T> {
    /// By number; nothing at the numbers of removed items.
    entries: Vector<Option<Arc<T>>>,
    numbers: HashMap<Arc<str>, usize>,
    /// Numbers in order of identifier.
    sorted: Vector<usize>,
    weight: usize,
}

impl<T: Entry> Table<T> {
    /// Returns how many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of an identifier.
    pub(super) fn number(&self, identifier: &str) -> Option<usize> {
        self.numbers.get(identifier).copied()
    }

    /// Returns the item with a number.
    pub(super) fn get(&self, number: usize) -> Option<&Arc<T>> {
        self.entries.get(number)?.as_ref()
    }

    /// Returns the item with an identifier.
    pub(super) fn find(&self, identifier: &str) -> Option<&Arc<T>> {
        self.get(self.number(identifier)?)
    }

    /// Returns the numbers of all items in order of identifier.
    pub(super) fn sorted(&self) -> &Vector<usize> {
        &self.sorted
    }

    /// Returns how many comparisons the evaluation of all items takes at most, approximately.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Adds an item, or replaces the one with its identifier.
    pub(super) fn set(&mut self, item: Arc<T>) {
        self.weight += item.weight();
        if let Some(number) = self.number(item.identifier()) {
            let old = self.entries.get_mut(number).and_then(|it| it.replace(item));
            self.weight -= old.map_or(0, |it| it.weight());
            return;
        }
        let number = self.entries.len();
        let place = self.place(item.identifier()).unwrap_or_else(|place| place);
        self.sorted.insert(place, number);
        self.numbers.insert(Arc::clone(item.identifier()), number);
        self.entries.push_back(Some(item));
    }

    /// Removes the item with an identifier.
    pub(super) fn remove(&mut self, identifier: &str) {
        if let Ok(place) = self.place(identifier) {
            self.sorted.remove(place);
        }
        let number = self.numbers.remove(identifier);
        let old = number.and_then(|number| self.entries.get_mut(number)).and_then(Option::take);
        self.weight -= old.map_or(0, |it| it.weight());
        // Numbers of removed items are given back when they are more than the others.
        if self.entries.len() > 2 * self.sorted.len() + 64 {
            *self = self.sorted.iter().filter_map(|number| self.get(*number)).cloned().collect();
        }
    }

    /// Returns the place of an identifier in `sorted`, or where it would be.
    fn place(&self, identifier: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|number| self.get(*number).map_or("", |it| it.identifier()).cmp(identifier))
    }
}

impl<T: Entry> FromIterator<Arc<T>> for Table<T> {
    /// Of several items with one identifier the first counts.
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Self {
        let mut items: Vec<_> = items.into_iter().collect();
        items.sort_by(|left, right| left.identifier().cmp(right.identifier()));
        items.dedup_by(|later, earlier| later.identifier() == earlier.identifier());
        Self {
            numbers: items.iter().enumerate().map(|(number, it)| (Arc::clone(it.identifier()), number)).collect(),
            sorted: (0..items.len()).collect(),
            weight: items.iter().map(|it| it.weight()).sum(),
            entries: items.into_iter().map(Some).collect(),
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vector::new(), numbers: HashMap::new(), sorted: Vector::new(), weight: 0 }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        let Self { entries, numbers, sorted, weight } = self;
        Self { entries: entries.clone(), numbers: numbers.clone(), sorted: sorted.clone(), weight: *weight }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Named(Arc<str>, usize);

    impl Entry for Named {
        fn identifier(&self) -> &Arc<str> {
            &self.0
        }

        fn weight(&self) -> usize {
            self.1
        }
    }

    fn content(table: &Table<Named>) -> Vec<(String, usize)> {
        let items = table.sorted().iter().filter_map(|number| table.get(*number));
        items.map(|it| (it.0.to_string(), it.1)).collect()
    }

    proptest! {
        #[test]
        fn a_table_is_a_sorted_map(steps in prop::collection::vec((0..300_usize, prop::option::weighted(0.4, 0..5_usize)), 0..600)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (name, weight) in steps {
                let name: Arc<str> = format!("n{name}").into();
                match weight {
                    Some(weight) => {
                        table.set(Arc::new(Named(Arc::clone(&name), weight)));
                        model.insert(name.to_string(), weight);
                    }
                    None => {
                        table.remove(&name);
                        model.remove(&*name);
                    }
                }
                prop_assert_eq!(table.find(&name).map(|it| it.1), model.get(&*name).copied());
                prop_assert!(table.len() <= 2 * model.len() + 64, "{} numbers", table.len());
            }
            prop_assert_eq!(table.weight(), model.values().sum::<usize>());
            prop_assert_eq!(content(&table), model.into_iter().collect::<Vec<_>>());
        }
    }
}
