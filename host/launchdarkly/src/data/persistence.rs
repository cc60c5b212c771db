//! Last good data on disk, per environment: the data from upstream, before plugins.

mod restore;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;
use yardarm_core::data_store::tables::{ENVIRONMENTS, Table};
use yardarm_core::data_store::{Changes, DataStore, Key, TrackedState};
use yardarm_launchdarkly_eval::model::{FlagFacts, ItemFacts, SegmentFacts};
use yardarm_vendor::persisted::{SAVED_ITEMS, SavedItem};

use super::item_changes::{ItemChange, changes};
use super::items::{Item, ItemKind, Items};
use super::transfer::Selector;
use crate::config::{EnvironmentConfig, LiveConfig};

pub(crate) use self::restore::{Restored, read};

/// Digest of the ID or key of the environment: data of another project must not be served.
const OWNERS: Table<String> = ENVIRONMENTS.of();
/// The last part of its key.
const OWNER: &str = "owner";
/// Selector of the state that the data is in, after the number of the rules by which the data was checked: other rules may
/// accept items that these refused, which upstream would not send again.
const SELECTORS: Table<String> = ENVIRONMENTS.of();
/// The last part of its key.
const SELECTOR: &str = "selector";
/// Number of the rules by which items are checked when they arrive, and of the facts that are kept. It is raised when
/// either changes, so that items that an earlier version wrote are checked again.
const RULES: u32 = 1;

/// Persists the newest data of one environment.
pub(crate) struct LastGoodData {
    tracked: TrackedState<Option<Content>>,
    settings: LiveConfig,
}

/// What is known of a stored item that was checked by the rules of this number.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SavedFacts {
    rules: u32,
    kind: FactsOfKind,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum FactsOfKind {
    Flag(ItemFacts<FlagFacts>),
    Segment(ItemFacts<SegmentFacts>),
}

/// What is persisted.
#[derive(Clone)]
struct Content {
    /// The settings that name the owner.
    config: Arc<EnvironmentConfig>,
    items: Items,
    /// The state of the items at upstream, if they are exactly that state.
    selector: Option<Selector>,
}

impl LastGoodData {
    /// Starts to persist the data of an environment, of which `restored` is in the store.
    pub(crate) fn start(
        store: &DataStore,
        label: &EnvironmentLabel,
        settings: &LiveConfig,
        restored: Option<&Restored>,
    ) -> Self {
        let is_complete = restored.is_some_and(|it| it.is_complete);
        let content = restored.map(|it| Content {
            config: settings.get(),
            items: it.items.clone(),
            selector: it.selector.clone(),
        });
        let scope = scope(label);
        let tracked = store.track(
            &label.to_string(),
            (content.filter(|_| is_complete), is_complete),
            move |before: Option<&Option<Content>>, after, changes| {
                if let Some(after) = after {
                    write(&scope, before.and_then(Option::as_ref), after, changes);
                }
            },
        );
        Self { tracked, settings: settings.clone() }
    }

    /// Replaces the data, and the selector of its state. Both are written together.
    pub(crate) fn replace(&self, items: Items, selector: Option<Selector>) {
        self.tracked.replace(Some(Content { config: self.settings.get(), items, selector }));
    }
}

impl SavedFacts {
    fn of(item: &Item) -> Option<Self> {
        let kind = match item {
            Item::Flag(flag) => FactsOfKind::Flag(flag.item_facts()?),
            Item::Segment(segment) => FactsOfKind::Segment(segment.item_facts()?),
        };
        Some(Self { rules: RULES, kind })
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text and numbers are always JSON")
    }
}

/// Writes what differs between the committed content and the newest one.
fn write(scope: &Key, before: Option<&Content>, after: &Content, all: &mut Changes<'_>) {
    if before.is_none() {
        all.remove_all(SAVED_ITEMS, scope);
    }
    if before.is_none_or(|it| !Arc::ptr_eq(&it.config, &after.config)) {
        all.put(OWNERS, &scope.with(OWNER), &owner(&after.config));
    }
    if before.is_none_or(|it| it.selector != after.selector) {
        let key = scope.with(SELECTOR);
        match &after.selector {
            Some(selector) => all.put(SELECTORS, &key, &saved_selector(selector)),
            None => all.remove(SELECTORS, &key),
        }
    }
    let key = |kind, key: &str| scope.with(kind_part(kind)).with(key);
    for change in changes(before.map(|it| &it.items), &after.items) {
        match change {
            ItemChange::Remove(kind, name) => all.remove(SAVED_ITEMS, &key(kind, &name)),
            ItemChange::Put(kind, item) => {
                let json = (!item.is_deleted()).then(|| String::from_utf8_lossy(item.json()));
                let saved = SavedItem {
                    version: item.version(),
                    json,
                    facts: SavedFacts::of(&item).map(|it| it.to_json().into()),
                };
                all.put(SAVED_ITEMS, &key(kind, item.key()), &saved);
            }
        }
    }
}

fn saved_selector(selector: &Selector) -> String {
    format!("{RULES} {}", selector.as_str())
}

/// The selector in a record, if the data was checked by the present rules.
fn selector(saved: &str) -> Option<Selector> {
    let (rules, selector) = saved.split_once(' ')?;
    Selector::new(selector).filter(|_| rules.parse() == Ok(RULES))
}

/// The first parts of the keys of an environment.
fn scope(label: &EnvironmentLabel) -> Key {
    Key::of(&[label.vendor(), &**label.name()])
}

fn kind_part(kind: ItemKind) -> &'static [u8] {
    match kind {
        ItemKind::Flag => b"flag",
        ItemKind::Segment => b"segment",
    }
}

fn owner(config: &EnvironmentConfig) -> String {
    // If LaunchDarkly lists the environment, its ID outlives its keys.
    let name = match (&config.identity, config.credentials.env_id()) {
        (Some(_), Some(id)) => id.as_str(),
        _ => config.credentials.sdk_key().expose(),
    };
    hex::encode(Sha256::digest(name.as_bytes()))
}

#[cfg(test)]
mod tests;
