//! Items that a chain of payload plugins has added, and what each is derived from.

use std::collections::HashMap;
use std::sync::Arc;

use yardarm_core::hooks::ItemHead;

use super::PayloadItem;

/// Kind and key of an item.
type Name = (&'static str, Arc<str>);

/// The additions that are served.
pub(super) struct Additions<I>(HashMap<Name, Addition<I>>);

struct Addition<I> {
    item: I,
    /// The item that it is derived from.
    source: Option<Name>,
}

impl<I> Default for Additions<I> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<I: PayloadItem> Additions<I> {
    /// Replaces all additions by those of a pass over everything.
    pub(super) fn replace(&mut self, added: &[(I, Option<ItemHead>)]) {
        self.0 = added.iter().map(entry).collect();
    }

    /// Whether an item of this name is an addition.
    pub(super) fn contains(&self, head: &ItemHead) -> bool {
        // Most chains add nothing.
        !self.0.is_empty() && self.0.contains_key(&name(head))
    }

    /// Takes over what the chain added for one changed item. Returns false, and changes nothing, if that cannot be served
    /// as a change: an addition that was derived from the item is missing, or differs without a higher version, which SDKs
    /// would ignore.
    pub(super) fn follow(&mut self, changed: &ItemHead, added: &[(I, Option<ItemHead>)]) -> bool {
        let source = name(changed);
        let is_missing = |known: &Name| !added.iter().any(|(item, _)| name(&item.head()) == *known);
        if self.0.iter().any(|(known, it)| it.source.as_ref() == Some(&source) && is_missing(known)) {
            return false;
        }
        let is_ignored = |item: &I| {
            let known = self.0.get(&name(&item.head())).map(|it| &it.item);
            known.is_some_and(|known| known.head().version >= item.head().version && known.json() != item.json())
        };
        if I::NEEDS_HIGHER_VERSION && added.iter().any(|(item, _)| is_ignored(item)) {
            return false;
        }
        self.0.extend(added.iter().map(entry));
        true
    }

    /// Forgets all additions.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn entry<I: PayloadItem>((item, source): &(I, Option<ItemHead>)) -> (Name, Addition<I>) {
    (name(&item.head()), Addition { item: item.clone(), source: source.as_ref().map(name) })
}

fn name(head: &ItemHead) -> Name {
    (head.kind, Arc::clone(&head.key))
}
