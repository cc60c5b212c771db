//! The differences between what is in the database and what belongs there, as changes and as events.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use yardarm_store::TextChange;

use crate::data::items::Items;
use crate::identity::KeyHash;
use crate::shared_store::{ITEM_EVENTS, SharedEnvironment, SharedEvent, entry, is_asset};

/// Events of one write. The stream does not keep more.
const MAX_EVENTS: usize = 1000;

/// What is known to be in the database of one environment.
#[derive(Default)]
pub(super) struct Written {
    pub(super) keys: BTreeSet<KeyHash>,
    pub(super) items: Items,
    /// All keys with their values.
    pub(super) texts: BTreeMap<String, Bytes>,
}

impl Written {
    /// Returns what is in the database once `environment` is written.
    pub(super) fn of(environment: &SharedEnvironment) -> Self {
        Self { keys: environment.keys.clone(), items: environment.items.clone(), texts: environment.texts() }
    }

    /// Returns the names of all keys that an inventory lists.
    pub(super) fn assets(&self) -> impl Iterator<Item = &String> {
        self.texts.keys().filter(|it| is_asset(it))
    }

    /// Returns the changes that turn `before` into this. Keys that `is_used` by another environment stay.
    pub(super) fn changes_since(&self, before: &Self, is_used: impl Fn(&str) -> bool) -> Vec<TextChange> {
        let is_new = |(name, text): &(&String, &Bytes)| before.texts.get(*name) != Some(*text);
        let set = self.texts.iter().filter(is_new).map(|(name, text)| TextChange::Set(name.clone(), text.clone()));
        let gone = before.texts.keys().filter(|it| !self.texts.contains_key(*it) && !is_used(it));
        set.chain(gone.map(|it| TextChange::Remove(it.clone()))).collect()
    }

    /// Returns the events that announce the changes that turn `before` into this.
    pub(super) fn events_since(&self, before: &Self, id: &str) -> Vec<TextChange> {
        let changes = self.items.differences(&before.items);
        let skipped = changes.len().saturating_sub(MAX_EVENTS);
        let items = changes.iter().skip(skipped).map(|it| SharedEvent::item(id, it));
        let keys = before.keys.difference(&self.keys).map(|it| SharedEvent::key_removed(id, it));
        items.chain(keys).map(|it| TextChange::Append(entry(ITEM_EVENTS, &it))).collect()
    }
}

/// Returns the event of an environment that is no longer served.
pub(super) fn removal(id: &str) -> TextChange {
    TextChange::Append(entry(ITEM_EVENTS, &SharedEvent::environment_removed(id)))
}
