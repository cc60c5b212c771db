//! The values of one plugin in the store of the data folder. What is in memory is served; the store is for the next start.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use yardarm_core::DataStore;
use yardarm_core::data_store::tables::{self, Table};
use yardarm_core::data_store::{Key, StoreError};
use yardarm_core::time::unix_ms;

use super::KvEntry;
use super::values::Values;

const TABLE: Table<StoredValue> = tables::PLUGIN_VALUES.of();

/// A value as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct StoredValue {
    #[serde(with = "serde_bytes")]
    value: Vec<u8>,
    version: u64,
    /// Unix milliseconds after which the value is gone.
    end_ms: Option<u64>,
}

pub(super) struct Disk {
    plugin: Arc<str>,
    store: DataStore,
}

impl Disk {
    pub(super) fn new(plugin: &Arc<str>, store: DataStore) -> Self {
        Self { plugin: Arc::clone(plugin), store }
    }

    /// Reads all values. Blocks.
    pub(super) fn read(&self) -> Values {
        let mut values = Values::default();
        let (now, now_ms) = (Instant::now(), unix_ms());
        let mut gone = Vec::new();
        let read = self.store.read(TABLE, &Key::of(&[&*self.plugin]), |record| {
            let &[_, key] = record.key else { return };
            let (Ok(key), Some(stored)) = (std::str::from_utf8(key), record.value) else { return };
            let left = stored.end_ms.map(|end| Duration::from_millis(end.saturating_sub(now_ms)));
            if left == Some(Duration::ZERO)
                || values.restore(key, stored.value.into(), stored.version, left.map(|left| now + left)).is_err()
            {
                gone.push(key.to_owned());
            }
        });
        read.unwrap_or_else(|error| self.log(&error));
        gone.iter().for_each(|key| self.remove(key));
        values
    }

    /// Writes a value a moment later.
    pub(super) fn write(&self, key: &str, entry: &KvEntry, ttl: Option<Duration>) {
        let end_ms = ttl.map(|ttl| unix_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
        let stored = StoredValue { value: entry.value.to_vec(), version: entry.version, end_ms };
        self.store.put(TABLE, &self.key(key), &stored).unwrap_or_else(|error| self.log(&error));
    }

    /// Removes a value a moment later.
    pub(super) fn remove(&self, key: &str) {
        self.store.remove(TABLE, &self.key(key)).unwrap_or_else(|error| self.log(&error));
    }

    fn key(&self, key: &str) -> Key {
        Key::of(&[&*self.plugin, key])
    }

    fn log(&self, error: &StoreError) {
        tracing::error!(plugin = %self.plugin, %error, "values of the plugin cannot be kept on disk");
    }
}

#[cfg(test)]
mod tests {
    use yardarm_core::Lifecycle;

    use super::super::local::LocalSpace;
    use super::*;

    #[tokio::test]
    async fn values_outlive_the_process_as_long_as_they_may() {
        let dir = tempfile::tempdir().unwrap();
        let store = DataStore::open(dir.path(), &Lifecycle::new()).await;
        let open = |plugin: &str| LocalSpace::on_disk(&plugin.into(), Some(&store));
        let space = open("one");
        space.set("kept", vec![0, 255], None).unwrap();
        space.set("short", b"x".to_vec(), Some(Duration::from_millis(1))).unwrap();
        space.set("deleted", b"x".to_vec(), None).unwrap();
        assert!(space.delete("deleted"));
        space.increment("hits", 5, Some(Duration::from_secs(600))).unwrap();
        let version = space.get("kept").unwrap().version;
        tokio::time::sleep(Duration::from_millis(5)).await;

        let again = open("one");
        assert_eq!(again.get("kept").map(|it| (it.value.to_vec(), it.version)), Some((vec![0, 255], version)));
        assert_eq!(again.get("short"), None);
        assert_eq!(again.get("deleted"), None);
        assert_eq!(again.increment("hits", 1, None), Ok(6));
        assert!(again.get("hits").unwrap().version > version);
        assert_eq!(open("other").get("kept"), None);
    }
}
