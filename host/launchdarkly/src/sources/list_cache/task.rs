//! The task that reads the cache at the start and writes every list that LaunchDarkly sends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use yardarm_core::Supervised;
use yardarm_core::backoff::Backoff;
use yardarm_store::{ItemSet, StoreError};
use yardarm_vendor::upstream::LogThrottle;

use super::cipher::ListCipher;
use super::item;
use crate::sources::auto_config_state::CachedItem;
use crate::sources::persisted_list::PersistedList;

/// Delays between attempts while the database fails.
const RETRY: Backoff = Backoff::literal(Duration::from_millis(500), Duration::from_secs(30));
/// Log lines about a database that fails.
static FAILURES: LogThrottle = LogThrottle::new(Duration::from_secs(60));

/// The task.
pub(in crate::sources) struct ListCacheTask {
    set: Arc<dyn ItemSet>,
    cipher: ListCipher,
    /// The newest list from LaunchDarkly; `None` before there is one.
    newest: watch::Receiver<Option<PersistedList>>,
    /// Where the items go that the database has; taken once they are sent or no longer needed.
    found: Option<oneshot::Sender<Vec<CachedItem>>>,
    /// Digests of what the database has, by name; `None` if that is not known.
    written: Option<BTreeMap<String, [u8; 32]>>,
}

impl ListCacheTask {
    pub(in crate::sources) fn new(
        set: Arc<dyn ItemSet>,
        cipher: ListCipher,
        newest: watch::Receiver<Option<PersistedList>>,
        found: oneshot::Sender<Vec<CachedItem>>,
    ) -> Self {
        Self { set, cipher, newest, found: Some(found), written: None }
    }

    /// Sends what the database has, unless LaunchDarkly answers first.
    async fn restore(&mut self) {
        if self.found.is_none() {
            return;
        }
        let mut newest = self.newest.clone();
        let items = tokio::select! {
            items = self.read() => items,
            // The sender ends with the process.
            _ = newest.wait_for(Option::is_some) => Vec::new(),
        };
        if let Some(found) = self.found.take() {
            // Nobody waits for them if another gateway of the fleet has sent its list.
            let _ = found.send(items);
        }
    }

    async fn read(&self) -> Vec<CachedItem> {
        let mut retry = RETRY.clone();
        loop {
            match self.set.read().await {
                Ok(items) => return items.iter().filter_map(|(name, item)| self.open(name, item)).collect(),
                Err(error) => self.wait_after(&error, &mut retry).await,
            }
        }
    }

    /// V041: an item that cannot be used affects no other.
    fn open(&self, name: &str, item: &[u8]) -> Option<CachedItem> {
        let set = &*self.set.place().prefix;
        let plain = self.cipher.decrypt(item).map_err(|error| {
            tracing::warn!(set, name, %error, "item of the cached list of environments is ignored");
        });
        let read = item::read(name, &plain.ok()?).map_err(|error| {
            tracing::warn!(set, name, %error, "item of the cached list of environments is ignored");
        });
        read.ok()
    }

    /// Writes the newest list, and retries until it or a newer one is written.
    async fn write(&mut self) {
        let mut retry = RETRY.clone();
        loop {
            let Some(list) = self.newest.borrow_and_update().clone() else { return };
            let items = item::items(&list);
            let digests = items.iter().map(|(name, plain)| (name.clone(), Sha256::digest(plain).into())).collect();
            let outcome = match self.written.take() {
                Some(written) => self.change(&written, &digests, &items).await,
                None => self.replace(&items).await,
            };
            match outcome {
                Ok(left_out) => {
                    for name in left_out {
                        tracing::error!(name, "environment is too large for the cached list in the database");
                    }
                    self.written = Some(digests);
                    return;
                }
                Err(error) => self.wait_after(&error, &mut retry).await,
            }
        }
    }

    async fn replace(&self, items: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>, StoreError> {
        let encrypted = |(name, plain): (&String, &Vec<u8>)| Some((name.clone(), self.cipher.encrypt(plain)?));
        let items: Vec<_> = items.iter().filter_map(encrypted).collect();
        self.set.replace(&items).await
    }

    /// Writes what differs from what was written.
    async fn change(
        &self,
        written: &BTreeMap<String, [u8; 32]>,
        digests: &BTreeMap<String, [u8; 32]>,
        items: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Vec<String>, StoreError> {
        let removed = written.keys().filter(|it| !digests.contains_key(*it)).map(|it| (it.clone(), None));
        let mut changes: Vec<(String, Option<Bytes>)> = removed.collect();
        for (name, plain) in items {
            if written.get(name) != digests.get(name) {
                changes.extend(self.cipher.encrypt(plain).map(|it| (name.clone(), Some(it))));
            }
        }
        if changes.is_empty() { Ok(Vec::new()) } else { self.set.change(&changes).await }
    }

    async fn wait_after(&self, error: &StoreError, retry: &mut Backoff) {
        if let Some(suppressed) = FAILURES.next_line() {
            let server = &*self.set.place().server;
            tracing::warn!(%error, server, suppressed, "the cached list of environments cannot be read or written, trying again");
        }
        sleep(retry.next_delay()).await;
    }
}

impl Supervised for ListCacheTask {
    /// Runs until dropped, or until the list is no longer received.
    async fn run(&mut self) {
        self.restore().await;
        loop {
            self.write().await;
            if self.newest.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
