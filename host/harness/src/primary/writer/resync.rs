//! Brings the database up to date when it is not known what it holds: after the start, after an outage, and when data is
//! gone.

use std::collections::BTreeSet;

use bytes::Bytes;
use yardarm_store::{StoreError, TextChange};

use super::PrimaryWriter;
use crate::data::items::Items;
use crate::data::received::{ReadList, Received};
use crate::primary::differences::{Written, removal};
use crate::primary::state;
use crate::shared_store::{ALL_INVENTORIES, EnvironmentKeys, Inventory, environment_of, hash_of};

/// Keys that are removed in one transaction.
const BATCH: usize = 256;

impl PrimaryWriter {
    /// Compares everything with the database, and writes what differs.
    pub(super) async fn resynchronize(&mut self) -> Result<(), StoreError> {
        let earlier = std::mem::take(&mut self.written);
        self.inventory = None;
        self.stale = self.listed().await?;
        let newest = state::environments(&self.environments);
        let all: Vec<_> = newest.values().map(|it| (it.id.clone(), Written::of(it))).collect();
        self.announce(&all).await?;
        for (id, after) in all {
            let before = self.read(&id, &after, earlier.get(&id)).await?;
            self.commit(&id, before, Some(after)).await?;
        }
        self.coming.clear();
        // Environments that were removed during an outage.
        for (id, before) in earlier {
            if self.environments.by_id(&id).is_none() {
                self.stale.extend(before.assets().cloned());
            }
        }
        self.remove_stale().await?;
        self.write_inventory().await?;
        tracing::info!(environments = self.written.len(), "shared Redis is up to date");
        Ok(())
    }

    /// Removes keys of environments that do not exist any more, once all environments are known.
    pub(super) async fn remove_stale(&mut self) -> Result<(), StoreError> {
        // The data of an environment that is served, and that upstream has not confirmed yet, stays.
        let are_confirmed = || self.environments.all().iter().all(|it| self.written.contains_key(&it.identity.id));
        if self.stale.is_empty() || !self.environments.are_listed() || !are_confirmed() {
            return Ok(());
        }
        let stale = std::mem::take(&mut self.stale);
        let ids: BTreeSet<_> = stale.iter().filter_map(|it| environment_of(it)).collect();
        let gone: Vec<_> = ids.into_iter().filter(|id| self.environments.by_id(id).is_none()).collect();
        let digests = gone.iter().flat_map(|id| EnvironmentKeys(id).digests());
        let keys = stale.iter().filter(|it| !self.is_used(it)).cloned().chain(digests);
        let changes: Vec<_> = keys.map(TextChange::Remove).collect();
        for batch in changes.chunks(BATCH) {
            self.store.texts().apply(batch).await?;
        }
        self.write_inventory().await?;
        let events: Vec<_> = gone.iter().map(|id| removal(id)).collect();
        self.store.texts().apply(&events).await
    }

    /// Returns the keys that the inventories in the database list, also those of other proxy keys, as the vendor's relay
    /// cleans up after a key was replaced. With them, the other inventories are removed.
    async fn listed(&self) -> Result<BTreeSet<String>, StoreError> {
        let Some(own) = &self.inventory_key else { return Ok(BTreeSet::new()) };
        let texts = self.store.texts();
        let mut names = texts.matching(ALL_INVENTORIES).await?;
        let mut listed = BTreeSet::new();
        for inventory in texts.get(&names).await?.into_iter().flatten() {
            listed.extend(Inventory::read(&inventory).unwrap_or_default().0);
        }
        names.retain(|it| it != own);
        listed.extend(names);
        Ok(listed)
    }

    /// Returns what the database holds of an environment, at the keys that are about to be written and at those that it was
    /// written to before.
    pub(super) async fn read(
        &self,
        id: &str,
        after: &Written,
        earlier: Option<&Written>,
    ) -> Result<Written, StoreError> {
        let names = EnvironmentKeys(id);
        let lists = [names.api_keys(), names.flags(), names.segments()];
        let prefixes = [names.flag(""), names.segment("")];
        let mut keys: BTreeSet<String> = after.texts.keys().cloned().collect();
        keys.extend(self.stale.iter().filter(|it| prefixes.iter().any(|prefix| it.starts_with(prefix))).cloned());
        let values = self.store.texts().get(&lists).await?;
        let api_keys: Option<Vec<String>> = values[0].as_ref().and_then(|it| serde_json::from_slice(it).ok());
        let hashes = api_keys.as_ref().map(|it| it.iter().filter_map(|it| hash_of(it)).collect());
        keys.extend(api_keys.unwrap_or_default());
        let stored = items(&values[1], &values[2]);
        let items = match (stored, earlier) {
            (Some(items), _) => items,
            (None, Some(earlier)) => earlier.items.clone(),
            (None, None) => Items::default(),
        };
        keys.extend(items.flags.iter().map(|it| names.flag(&it.feature)));
        keys.extend(items.segments.iter().map(|it| names.segment(&it.identifier)));
        let keys: Vec<_> = keys.into_iter().collect();
        let values = self.store.texts().get(&keys).await?;
        let texts = keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?))).collect();
        let known = || earlier.map(|it| it.keys.clone()).unwrap_or_default();
        Ok(Written { keys: hashes.unwrap_or_else(known), items, texts })
    }
}

/// Returns the flags and segments in the database; `None` if there are none.
fn items(flags: &Option<Bytes>, segments: &Option<Bytes>) -> Option<Items> {
    let text = |list: &Option<Bytes>| list.as_deref().map(|it| String::from_utf8_lossy(it).into_owned());
    let (flags, segments) = (text(flags), text(segments));
    if flags.is_none() && segments.is_none() {
        return None;
    }
    let received = Received {
        flags: flags.and_then(|it| ReadList::from_json(&it).ok()),
        segments: segments.and_then(|it| ReadList::from_json(&it).ok()),
    };
    Some(received.complete(None).0)
}
