//! Change sets of FDv2: each is applied as one change, and leads to a state that the next request can continue from.

use super::events::MAX_PATCHES;
use super::{Announce, Applier};
use crate::data::item_changes::{ItemChange, changes};
use crate::data::transfer::{ChangeSet, Selector};
use crate::data::{Change, Item, Items};

/// What is known of the state that the data from upstream is in.
#[derive(Default)]
pub(super) struct Basis {
    /// `None` if the data is not in a state that upstream has named.
    selector: Option<Selector>,
    /// Whether items were refused since the last full transfer, so that present ones stand in their place.
    has_refused: bool,
}

impl Basis {
    /// The selector of the state, if the data is exactly that state. Only then may it outlive the process, because another
    /// version may accept what this one has refused.
    pub(super) fn exact(&self) -> Option<Selector> {
        self.selector.clone().filter(|_| !self.has_refused)
    }
}

impl Applier {
    /// The selector of the state that the data from upstream is in.
    pub(crate) fn basis(&self) -> Option<&Selector> {
        self.basis.selector.as_ref()
    }

    /// Records that the data that was restored is in a state.
    pub(crate) fn resume_from(&mut self, selector: Option<Selector>) {
        self.basis = Basis { selector, has_refused: false };
    }

    /// Records that the data is in no known state, so that the next request receives everything.
    pub(crate) fn forget_basis(&mut self) {
        self.basis.selector = None;
    }

    /// Applies a change set as one change: SDKs, plugins and the database see all of it or nothing.
    pub(crate) async fn apply_change_set(&mut self, set: ChangeSet) {
        // Until it is applied: after a panic in between, everything is requested again.
        self.forget_basis();
        let held = self.upstream_items();
        let merged = set.merged(held.as_ref());
        let has_refused = !set.refused.is_empty() || (!set.is_full && self.basis.has_refused);
        let change = match &held {
            Some(held) if set.is_full => Some(Change::Put(merged.reusing(held))),
            Some(held) => change_between(held, merged),
            None => Some(Change::Put(merged)),
        };
        if let Some(change) = change.clone() {
            match change {
                // Unlike a `put`, a full transfer says nothing about a difference: each reconnection without a known state
                // has one, and so has each poll.
                Change::Put(items) if set.is_full => self.put(items, Announce::Differences).await,
                change => self.apply_unkept(change).await,
            }
        }
        self.basis = Basis { selector: set.selector, has_refused };
        self.persist();
        self.publish();
        if let (Some(store), Some(change), Some(items)) = (&self.store, change, self.upstream_items()) {
            store.applied(&change, items);
        }
    }

    /// Records that upstream has confirmed the data.
    pub(crate) fn confirm(&mut self) {
        self.publish();
        // Data from disk is written into the database now that it is known to be the newest.
        if let (Some(store), Some(items)) = (&self.store, self.upstream_items())
            && !self.environment.status.current().has_received_data
        {
            store.applied(&Change::Put(items.clone()), items);
        }
    }
}

/// The change that leads from `held` to `merged`; `None` if they are equal.
///
/// SDKs and databases ignore an item whose version is not higher, so such a change replaces everything.
pub(super) fn change_between(held: &Items, merged: Items) -> Option<Change> {
    let mut newer: Vec<Item> = Vec::new();
    for change in changes(Some(held), &merged) {
        match change {
            ItemChange::Put(_, item) if held.version_of(&item).is_none_or(|it| it < item.version()) => newer.push(item),
            ItemChange::Put(..) | ItemChange::Remove(..) => return Some(Change::Put(merged)),
        }
    }
    // Segments first, because flags refer to them.
    newer.sort_by_key(|it| matches!(it, Item::Flag(_)));
    match newer.len() {
        0 => None,
        1 => newer.pop().map(Change::Patch),
        2..=MAX_PATCHES => Some(Change::Group(newer)),
        _ => Some(Change::Put(merged)),
    }
}

#[cfg(test)]
mod tests;
