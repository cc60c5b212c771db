//! Consul's key/value store: a key per record, read by prefix.
//!
//! A full write is not atomic: Consul limits a transaction to 64 operations and half a megabyte, so readers may see a part
//! of it. Memberships of groups are not available.

mod address;
mod agent;
mod transactions;

pub use self::address::{ConsulAddress, InvalidConsulAddress};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use self::agent::Agent;
use self::transactions::{Operation, Step, steps};
use crate::http::{QUICK, within};
use crate::{
    Advanced, Collection, Failure, Layout, Membership, MembershipPatch, Place, Progress, Record, Store, StoreError,
    TooLarge, Trouble, Upserted,
};

/// Time limit of an operation on whole collections.
const LARGE: Duration = Duration::from_secs(60);
/// Largest value that Consul accepts by default, in bytes.
const MAX_VALUE: usize = 512 << 10;

/// One environment's part of Consul's key/value store. Keys are `<prefix>/<collection>/<key>`.
pub struct Consul {
    agent: Agent,
    place: Place,
    layout: Layout,
}

impl Consul {
    /// Creates a store at `address`; connections are opened when needed.
    #[must_use]
    pub fn new(address: &ConsulAddress, prefix: &str, layout: Layout) -> Self {
        let place =
            Place { database: "consul", server: Arc::clone(address.shown()), prefix: prefix.into(), table: "".into() };
        Self { agent: Agent::new(address), place, layout }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.place.prefix)
    }

    fn record_key(&self, collection: &str, key: &str) -> String {
        format!("{}/{collection}/{key}", self.place.prefix)
    }

    async fn replace_all(&self, collections: &[Collection]) -> Result<Vec<TooLarge>, StoreError> {
        // The slash belongs to the prefix: keys of `ld2` begin with `ld` as well.
        let mut stale = BTreeSet::new();
        for collection in collections {
            stale.extend(self.agent.keys(&self.record_key(collection.name, "")).await?);
        }
        let (mut operations, mut left_out) = (Vec::new(), Vec::new());
        for collection in collections {
            for record in &collection.records {
                if !accepts(record) {
                    left_out.push(TooLarge { collection: collection.name, key: Arc::clone(&record.key) });
                    continue;
                }
                let key = self.record_key(collection.name, &record.key);
                stale.remove(&key);
                operations.push(Operation::Set { key, value: record.text.clone() });
            }
        }
        operations.extend(stale.into_iter().map(|key| Operation::Delete { key }));
        operations.push(Operation::Set { key: self.key(self.layout.marker), value: Bytes::new() });
        for step in steps(operations) {
            match step {
                Step::Transaction(body) => self.agent.transact(body).await?,
                Step::Put { key, value } => self.agent.put(&key, value).await?,
            }
        }
        Ok(left_out)
    }

    /// Compares and writes, and retries while other clients change the key in between; the caller's time limit ends the
    /// retries.
    async fn upsert_one(&self, collection: &str, record: &Record) -> Result<Upserted, StoreError> {
        let key = self.record_key(collection, &record.key);
        loop {
            let present = self.agent.entry(&key).await?;
            let version = present.as_ref().and_then(|it| (self.layout.version_of)(&it.value));
            if version.is_some_and(|it| it >= record.version) {
                return Ok(Upserted::Older);
            }
            // An index of 0 means that the key must not exist.
            let index = present.map_or(0, |it| it.modify_index);
            if self.agent.put_if(&key, record.text.clone(), index).await? {
                return Ok(Upserted::Written);
            }
        }
    }
}

#[async_trait]
impl Store for Consul {
    fn place(&self) -> &Place {
        &self.place
    }

    fn is_atomic(&self) -> bool {
        false
    }

    fn has_memberships(&self) -> bool {
        false
    }

    async fn replace(&self, collections: &[Collection]) -> Result<Vec<TooLarge>, StoreError> {
        within(LARGE, self.replace_all(collections)).await
    }

    async fn upsert(&self, collection: &str, record: &Record) -> Result<Upserted, StoreError> {
        if !accepts(record) {
            return Ok(Upserted::TooLarge);
        }
        within(QUICK, self.upsert_one(collection, record)).await
    }

    async fn read(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let prefix = self.record_key(collection, "");
        let entries = within(LARGE, self.agent.entries(&prefix)).await?;
        let name = |key: &str| key.strip_prefix(&prefix).map(str::to_owned);
        Ok(entries.into_iter().filter_map(|it| Some((name(&it.key)?, it.value))).collect())
    }

    async fn is_complete(&self) -> Result<bool, StoreError> {
        let marker = self.key(self.layout.marker);
        Ok(within(QUICK, self.agent.entry(&marker)).await?.is_some())
    }

    async fn probe(&self, _collections: &[&'static str]) -> Result<bool, StoreError> {
        let key = self.key(self.layout.probe);
        // One transaction, so other clients never see the key.
        let operations = vec![Operation::Set { key: key.clone(), value: Bytes::new() }, Operation::Delete { key }];
        let write = async {
            for step in steps(operations) {
                if let Step::Transaction(body) = step {
                    self.agent.transact(body).await?;
                }
            }
            Ok(())
        };
        within(QUICK, write).await?;
        self.is_complete().await
    }

    async fn membership(&self, _subject: &str) -> Result<Membership, StoreError> {
        Err(no_memberships())
    }

    async fn progress(&self) -> Result<Progress, StoreError> {
        Err(no_memberships())
    }

    async fn synchronized(&self, _at_ms: u64) -> Result<(), StoreError> {
        Err(no_memberships())
    }

    async fn advance(&self, _patch: &MembershipPatch) -> Result<Advanced, StoreError> {
        Err(no_memberships())
    }
}

/// Whether Consul can store a record under its key. Names that a URL treats as steps between folders cannot be requested.
fn accepts(record: &Record) -> bool {
    record.text.len() <= MAX_VALUE && !record.key.split('/').any(|it| matches!(it, "." | ".."))
}

fn no_memberships() -> StoreError {
    Failure::new(Trouble::Refused, "memberships of groups are not available with Consul").into()
}

#[cfg(test)]
mod tests;
