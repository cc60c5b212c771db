//! A fake database, which fails on command and counts operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use yardarm_store::{
    Advanced, Collection, Membership, MembershipPatch, Place, Progress, Record, Store, StoreError, TooLarge, Upserted,
};

/// The database.
pub(crate) struct FakeStore {
    content: Mutex<Content>,
    place: Place,
}

#[derive(Default)]
pub(crate) struct Content {
    pub(crate) is_down: bool,
    pub(crate) is_complete: bool,
    pub(crate) collections: BTreeMap<&'static str, BTreeMap<String, Bytes>>,
    pub(crate) memberships: BTreeMap<String, Membership>,
    pub(crate) synchronized_on: Option<u64>,
    /// Number of checks whether it is complete.
    pub(crate) questions: usize,
    /// Number of probes.
    pub(crate) probes: usize,
    /// Whether data is refused although a probe succeeds.
    pub(crate) is_refusing: bool,
    /// Names of operations that were called, without probes.
    pub(crate) calls: Vec<&'static str>,
}

impl FakeStore {
    pub(crate) fn new() -> Arc<Self> {
        let place = Place { database: "redis", server: "".into(), prefix: "".into(), table: "".into() };
        Arc::new(Self { content: Mutex::default(), place })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock()
    }

    /// Removes everything, like a flushed server.
    pub(crate) fn flush(&self) {
        let mut content = self.lock();
        content.is_complete = false;
        content.collections.clear();
    }

    /// Keys of a collection.
    pub(crate) fn keys(&self, collection: &str) -> Vec<String> {
        self.lock().collections.get(collection).map(|it| it.keys().cloned().collect()).unwrap_or_default()
    }

    fn record(&self, call: &'static str) -> Result<MutexGuard<'_, Content>, StoreError> {
        let mut content = self.lock();
        content.calls.push(call);
        if content.is_down { Err(StoreError::TimedOut) } else { Ok(content) }
    }
}

#[async_trait]
impl Store for FakeStore {
    fn place(&self) -> &Place {
        &self.place
    }

    fn is_atomic(&self) -> bool {
        true
    }

    fn has_memberships(&self) -> bool {
        true
    }

    async fn replace(&self, collections: &[Collection]) -> Result<Vec<TooLarge>, StoreError> {
        let mut content = self.record("replace")?;
        if content.is_refusing {
            return Err(StoreError::TimedOut);
        }
        for collection in collections {
            let records = collection.records.iter().map(|it| (it.key.to_string(), it.text.clone())).collect();
            content.collections.insert(collection.name, records);
        }
        content.is_complete = true;
        Ok(Vec::new())
    }

    async fn upsert(&self, collection: &str, record: &Record) -> Result<Upserted, StoreError> {
        let mut content = self.record("upsert")?;
        let name = if collection == "features" { "features" } else { "segments" };
        content.collections.entry(name).or_default().insert(record.key.to_string(), record.text.clone());
        Ok(Upserted::Written)
    }

    async fn read(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let content = self.record("read")?;
        Ok(content.collections.get(collection).cloned().unwrap_or_default().into_iter().collect())
    }

    async fn is_complete(&self) -> Result<bool, StoreError> {
        let mut content = self.lock();
        content.questions += 1;
        if content.is_down { Err(StoreError::TimedOut) } else { Ok(content.is_complete) }
    }

    async fn probe(&self, _collections: &[&'static str]) -> Result<bool, StoreError> {
        let mut content = self.lock();
        content.probes += 1;
        if content.is_down { Err(StoreError::TimedOut) } else { Ok(content.is_complete) }
    }

    async fn membership(&self, subject: &str) -> Result<Membership, StoreError> {
        let membership = self.record("membership")?.memberships.get(subject).cloned().unwrap_or_default();
        // Long enough for other events in the meantime.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        Ok(membership)
    }

    async fn progress(&self) -> Result<Progress, StoreError> {
        let content = self.record("progress")?;
        Ok(Progress { cursor: None, synchronized_on: content.synchronized_on })
    }

    async fn synchronized(&self, at_ms: u64) -> Result<(), StoreError> {
        self.record("synchronized")?.synchronized_on = Some(at_ms);
        Ok(())
    }

    async fn advance(&self, _patch: &MembershipPatch) -> Result<Advanced, StoreError> {
        unreachable!("tested with a real database")
    }
}
