//! Reads everything that a primary, or the vendor's relay, has written.
//!
//! A primary writes step by step, so a reader may come in between, and the database may have been emptied. So something
//! that is missing counts as removed only if the inventory, which lists all keys, does not list it either.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_core::Secret;
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::or_default;
use yardarm_store::StoreError;

use super::SharedStore;
use super::layout::{ALL_INVENTORIES, EnvironmentKeys, Inventory, environment_of, hash_of, proxy_key_of};
use crate::data::received::{ReadList, Received};
use crate::identity::KeyHash;

/// Digests of flags and segments, as they are in the database.
pub(crate) type Digests = Vec<Option<Bytes>>;

/// Everything in the database.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) environments: BTreeMap<String, StoredEnvironment>,
    /// Whether environments that are missing were removed.
    pub(crate) is_complete: bool,
    /// API keys that an inventory or a list names, and that do not exist. They may be about to be written.
    pub(crate) missing_keys: BTreeSet<KeyHash>,
    /// Value of the state of the upstream stream.
    pub(crate) health: Option<Bytes>,
}

/// An environment in the database.
pub(crate) struct StoredEnvironment {
    /// Identifiers of environment and project, which are empty unless an item names them.
    pub(crate) environment: String,
    pub(crate) project: String,
    /// The proxy key whose inventory lists the environment.
    pub(crate) proxy_key: Option<Secret>,
    pub(crate) keys: BTreeSet<KeyHash>,
    pub(crate) digests: Digests,
    /// `None` if nothing has changed, or not everything is there yet.
    pub(crate) items: Option<Result<Received, String>>,
}

/// The environment and project that an item names.
#[derive(Default, Deserialize)]
struct ItemOrigin {
    #[serde(default, deserialize_with = "or_default")]
    environment: String,
    #[serde(default, deserialize_with = "or_default")]
    project: String,
}

/// Names of keys, each with the inventory that lists it, if any.
type Assets = BTreeMap<String, Option<Secret>>;

/// What was read before.
#[derive(Default)]
pub(crate) struct Known {
    /// Digests by environment.
    pub(crate) digests: BTreeMap<String, Digests>,
    /// Names of the inventories, which are searched for only if one of them is gone.
    pub(crate) inventories: Vec<String>,
}

/// Reads everything. Lists whose digests are known are left out.
///
/// # Errors
/// If the database does not answer in time.
pub(crate) async fn read(store: &SharedStore, known: &mut Known) -> Result<Contents, StoreError> {
    let texts = store.texts();
    let (assets, is_complete) = assets(store, known).await?;
    let ids: BTreeSet<_> = assets.keys().filter_map(|it| environment_of(it)).map(str::to_owned).collect();
    let lists: Vec<_> = ids.iter().map(|id| EnvironmentKeys(id).api_keys()).collect();
    let mut names: BTreeSet<String> = assets.keys().filter(|it| hash_of(it).is_some()).cloned().collect();
    for list in texts.get(&lists).await?.into_iter().flatten() {
        names.extend(serde_json::from_slice::<Vec<String>>(&list).unwrap_or_default());
    }
    let names: Vec<_> = names.into_iter().collect();
    let mut keys: BTreeMap<String, BTreeSet<KeyHash>> = BTreeMap::new();
    let mut missing_keys = BTreeSet::new();
    for (name, value) in names.iter().zip(texts.get(&names).await?) {
        let Some(hash) = hash_of(name) else { continue };
        match value.and_then(|it| serde_json::from_slice::<String>(&it).ok()) {
            Some(id) => _ = keys.entry(id).or_default().insert(hash),
            None => _ = missing_keys.insert(hash),
        }
    }
    let names: Vec<_> = ids.iter().flat_map(|id| EnvironmentKeys(id).digests()).collect();
    let digests = texts.get(&names).await?;
    let mut environments = BTreeMap::new();
    for (id, digests) in ids.into_iter().zip(digests.chunks(2)) {
        let keys = keys.remove(&id).unwrap_or_default();
        let before = known.digests.get(&id);
        let stored = environment(store, &id, (&assets, is_complete), keys, (digests.to_vec(), before)).await?;
        environments.insert(id, stored);
    }
    let health = texts.get(&[super::HEALTH.to_owned()]).await?.into_iter().next().flatten();
    Ok(Contents { is_complete: is_complete && !environments.is_empty(), environments, missing_keys, health })
}

/// Returns the names of all keys, and whether these are certainly all.
async fn assets(store: &SharedStore, known: &mut Known) -> Result<(Assets, bool), StoreError> {
    let texts = store.texts();
    let mut values = texts.get(&known.inventories).await?;
    if values.is_empty() || values.iter().any(Option::is_none) {
        known.inventories = texts.matching(ALL_INVENTORIES).await?;
        values = texts.get(&known.inventories).await?;
    }
    let mut assets = Assets::new();
    let mut is_complete = !known.inventories.is_empty();
    for (name, value) in known.inventories.iter().zip(values) {
        match value.and_then(|it| Inventory::read(&it)) {
            Some(inventory) => assets.extend(inventory.0.into_iter().map(|it| (it, proxy_key_of(name)))),
            None => is_complete = false,
        }
    }
    if known.inventories.is_empty() {
        // Version 1 of the vendor's relay has no inventory.
        for pattern in ["auth-key-*", "env-*-api-configs", "env-*-feature-configs", "env-*-segments"] {
            assets.extend(texts.matching(pattern).await?.into_iter().map(|it| (it, None)));
        }
    }
    Ok((assets, is_complete))
}

async fn environment(
    store: &SharedStore,
    id: &str,
    (assets, is_complete): (&Assets, bool),
    keys: BTreeSet<KeyHash>,
    (digests, known): (Digests, Option<&Digests>),
) -> Result<StoredEnvironment, StoreError> {
    let names = EnvironmentKeys(id);
    let lists = [names.flags(), names.segments()];
    let proxy_key = [names.api_keys()].iter().chain(&lists).find_map(|it| assets.get(it).cloned().flatten());
    let is_known = digests.iter().all(Option::is_some) && known == Some(&digests);
    let mut stored =
        StoredEnvironment { environment: String::new(), project: String::new(), proxy_key, keys, digests, items: None };
    if is_known {
        return Ok(stored);
    }
    let values = store.texts().get(&lists).await?;
    let is_pending = |(name, value): (&String, &Option<Bytes>)| value.is_none() && assets.contains_key(name);
    // Without an inventory, a missing list may be one that is not written yet, unless the other one is there.
    let is_unsure = !is_complete && values.iter().all(Option::is_none);
    if is_unsure || lists.iter().zip(&values).any(is_pending) {
        return Ok(stored);
    }
    let texts: Vec<_> = values.iter().map(|it| lenient_json::text(it.as_deref().unwrap_or(b"[]"))).collect();
    let origin = texts.iter().find_map(|it| origin(it)).unwrap_or_default();
    (stored.environment, stored.project) = (origin.environment, origin.project);
    let received = ReadList::from_json(&texts[0])
        .and_then(|flags| Ok(Received { flags: Some(flags), segments: Some(ReadList::from_json(&texts[1])?) }));
    stored.items = Some(received.map_err(|error| error.to_string()));
    Ok(stored)
}

/// Returns what the first item of a list that names an environment says.
fn origin(list: &str) -> Option<ItemOrigin> {
    let entries: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let read = |it: &&RawValue| serde_json::from_str::<ItemOrigin>(it.get()).ok();
    entries.iter().filter_map(read).find(|it| !it.environment.is_empty())
}
