//! Last good data on disk, per environment: the data from upstream, before plugins.

use std::sync::Arc;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;
use yardarm_core::data_store::tables::{ENVIRONMENTS, Table};
use yardarm_core::data_store::{Changes, DataStore, Key, Record, StoreError, TrackedState};
use yardarm_launchdarkly_eval::model::{Flag, MAX_VERSION, Segment};
use yardarm_vendor::persisted::{SAVED_ITEMS, SavedItem};

use super::item_changes::{ItemChange, changes};
use super::items::{ItemKind, Items};
use super::message;
use crate::config::{EnvironmentConfig, LiveConfig};

/// Digest of the ID or key of the environment: data of another project must not be served.
const OWNERS: Table<String> = ENVIRONMENTS.of();
/// The last part of its key.
const OWNER: &str = "owner";

/// Data that an earlier process persisted.
pub(crate) struct Restored {
    pub(crate) items: Items,
    /// Whether the store holds these items and no others.
    is_complete: bool,
}

/// Persists the newest data of one environment.
pub(crate) struct LastGoodData {
    tracked: TrackedState<Option<Content>>,
    settings: LiveConfig,
}

/// What is persisted.
#[derive(Clone)]
struct Content {
    /// The settings that name the owner.
    config: Arc<EnvironmentConfig>,
    items: Items,
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
        let content = restored.map(|it| Content { config: settings.get(), items: it.items.clone() });
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

    /// Replaces the data.
    pub(crate) fn replace(&self, items: Items) {
        self.tracked.replace(Some(Content { config: self.settings.get(), items }));
    }
}

/// Reads the data that an earlier process persisted; `None` without usable data, which is logged. Blocks.
pub(crate) fn read(store: &DataStore, label: &EnvironmentLabel, config: &EnvironmentConfig) -> Option<Restored> {
    let scope = scope(label);
    let read = || {
        let Some(stored) = store.get(OWNERS, &scope.with(OWNER))? else { return Ok(None) };
        if stored != owner(config) {
            tracing::warn!("kept data belongs to another SDK key and is ignored");
            return Ok(None);
        }
        read_items(store, &scope).map(Some)
    };
    let (items, unusable) = match read() {
        Ok(found) => found?,
        Err(error) => {
            tracing::warn!(%error, "kept data cannot be used");
            return None;
        }
    };
    if unusable > 0 {
        tracing::warn!(unusable, "kept items do not fit this version and are left out");
    }
    let is_usable = unusable == 0 || !items.is_empty();
    is_usable.then_some(Restored { items, is_complete: unusable == 0 })
}

/// All usable items, and the number of unusable ones, which would be refused from upstream too.
fn read_items(store: &DataStore, scope: &Key) -> Result<(Items, usize), StoreError> {
    let (mut items, mut unusable) = (Items::default(), 0);
    store.read(SAVED_ITEMS, scope, |record| {
        if add(&mut items, record).is_none() {
            unusable += 1;
        }
    })?;
    Ok((items, unusable))
}

/// Adds an item, if it is usable.
fn add(items: &mut Items, record: Record<'_, SavedItem<'static>>) -> Option<()> {
    let [_, _, kind, key] = record.key else { return None };
    let key = std::str::from_utf8(key).ok()?;
    let SavedItem { version, json } = record.value?;
    let json = json.map(|it| RawValue::from_string(it.into_owned())).transpose().ok()?;
    if *kind == kind_part(ItemKind::Flag) {
        let flag = match json {
            None => Flag::tombstone(key, valid(version)?),
            Some(json) => message::flag(key, &json).ok()?,
        };
        items.flags.insert(Arc::new(flag));
    } else if *kind == kind_part(ItemKind::Segment) {
        let segment = match json {
            None => Segment::tombstone(key, valid(version)?),
            Some(json) => message::segment(key, &json).ok()?,
        };
        items.segments.insert(Arc::new(segment));
    } else {
        return None;
    }
    Some(())
}

/// Writes what differs between the committed content and the newest one.
fn write(scope: &Key, before: Option<&Content>, after: &Content, all: &mut Changes<'_>) {
    if before.is_none() {
        all.remove_all(SAVED_ITEMS, scope);
    }
    if before.is_none_or(|it| !Arc::ptr_eq(&it.config, &after.config)) {
        all.put(OWNERS, &scope.with(OWNER), &owner(&after.config));
    }
    let key = |kind, key: &str| scope.with(kind_part(kind)).with(key);
    for change in changes(before.map(|it| &it.items), &after.items) {
        match change {
            ItemChange::Remove(kind, name) => all.remove(SAVED_ITEMS, &key(kind, &name)),
            ItemChange::Put(kind, item) => {
                let json = (!item.is_deleted()).then(|| String::from_utf8_lossy(item.json()));
                let saved = SavedItem { version: item.version(), json };
                all.put(SAVED_ITEMS, &key(kind, item.key()), &saved);
            }
        }
    }
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

/// The version of a deleted item, if it is valid; an invalid one would block every later version of the item.
fn valid(version: i64) -> Option<i64> {
    Some(version).filter(|it| (0..=MAX_VERSION).contains(it))
}

#[cfg(test)]
mod tests;
