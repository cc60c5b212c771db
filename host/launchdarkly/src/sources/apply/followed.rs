//! Data that another gateway has received from upstream and published.

use super::Applier;
use super::change_set::change_between;
use crate::data::item_changes::{ItemChange, changes};
use crate::data::{Change, Items};

impl Applier {
    /// Serves what another gateway has published: `after`, in place of `before`, or of everything. Items that are newer or
    /// unknown there stay, because this gateway may have been connected to upstream itself a moment ago, unless what is
    /// published `is_exact`.
    pub(crate) async fn follow(&mut self, before: Option<&Items>, after: &Items, is_exact: bool) {
        let change = match self.upstream_items() {
            None => Some(Change::Put(after.clone())),
            Some(held) if is_exact && before.is_none() => change_between(&held, after.clone()),
            Some(held) => {
                let mut merged = held.clone();
                for change in changes(Some(before.unwrap_or(&held)), after) {
                    match change {
                        ItemChange::Put(_, item) if !is_exact && held.version_of(&item) > Some(item.version()) => (),
                        ItemChange::Put(_, item) => merged.insert(item),
                        ItemChange::Remove(kind, key) if before.is_some() => merged.remove(kind, &key),
                        ItemChange::Remove(..) => (),
                    }
                }
                change_between(&held, merged)
            }
        };
        let Some(change) = change else { return };
        self.forget_basis();
        match change {
            Change::Put(items) => self.put(items, super::Announce::Differences).await,
            change => self.apply_unkept(change).await,
        }
        self.persist();
        if let (Some(store), Some(items)) = (&self.store, self.upstream_items()) {
            store.taken_over(items);
        }
    }
}
