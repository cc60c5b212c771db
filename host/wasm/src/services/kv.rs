//! Values that a plugin stores: in memory, also on disk, or in a database that gateways share. A namespace belongs to a
//! plugin and not to a version of it.

mod disk;
mod local;
mod redis;
mod values;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use yardarm_core::{DataStore, Lifecycle};

use self::local::LocalSpace;
use self::redis::{KvDatabase, RedisSpace};
pub use self::redis::{KvDatabaseStatus, RedisSettings};
use self::values::{LARGEST_VALUE, LONGEST_KEY};
use crate::vocabulary::KvStorage;

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KvError {
    Invalid(String),
    /// The plugin has as many keys or bytes as it may have.
    Full,
    /// The database is not reachable, or refused the operation, which may have been executed.
    Unavailable(String),
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KvEntry {
    pub(crate) value: Arc<[u8]>,
    pub(crate) version: u64,
}

/// The values of one plugin.
pub(crate) struct KvSpace(Place);

enum Place {
    Local(LocalSpace),
    Redis(RedisSpace),
}

/// The values of plugins by name and place.
type OpenSpaces = HashMap<(Arc<str>, KvStorage), Weak<KvSpace>>;

/// The values of all plugins that run. Those of others are forgotten, unless they are on disk or in a database.
pub(crate) struct KvSpaces {
    store: Option<DataStore>,
    database: Option<KvDatabase>,
    /// Whether all values are in memory, wherever they should be.
    is_memory_only: bool,
    open: Mutex<OpenSpaces>,
}

impl KvSpaces {
    /// Values on disk are in `store`; those in Redis need its settings.
    pub(super) fn new(store: Option<DataStore>, redis: Option<&RedisSettings>, lifecycle: &Lifecycle) -> Self {
        let database = redis.map(|redis| KvDatabase::new(redis, lifecycle));
        Self { store, database, is_memory_only: false, open: Mutex::default() }
    }

    /// All values are in memory, for checks without a gateway.
    pub(super) fn in_memory() -> Self {
        Self { store: None, database: None, is_memory_only: true, open: Mutex::default() }
    }

    /// Returns the values of a plugin. Blocks while they are read from the disk.
    ///
    /// # Errors
    /// The setting that is missing.
    pub(super) fn of(&self, plugin: &Arc<str>, storage: KvStorage) -> Result<Arc<KvSpace>, &'static str> {
        let mut open = self.open.lock();
        open.retain(|_, space| space.strong_count() > 0);
        let key = (Arc::clone(plugin), storage);
        if let Some(space) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(space);
        }
        let place = match storage {
            KvStorage::Redis if !self.is_memory_only => {
                let database = self.database.as_ref().ok_or("plugins.kv_redis.url")?;
                Place::Redis(database.open(plugin))
            }
            KvStorage::Disk if !self.is_memory_only => Place::Local(LocalSpace::on_disk(plugin, self.store.as_ref())),
            KvStorage::Memory | KvStorage::Disk | KvStorage::Redis => Place::Local(LocalSpace::in_memory()),
        };
        let space = Arc::new(KvSpace(place));
        open.insert(key, Arc::downgrade(&space));
        Ok(space)
    }

    /// Returns the status of the database, if there is one.
    pub(super) fn database(&self) -> Option<KvDatabaseStatus> {
        self.database.as_ref().map(KvDatabase::status)
    }
}

/// An operation returns within `limit`, if need be with [`KvError::Unavailable`].
impl KvSpace {
    /// Creates an empty namespace.
    pub(crate) fn in_memory() -> Self {
        Self(Place::Local(LocalSpace::in_memory()))
    }

    /// Returns the value of a key.
    pub(crate) async fn get(&self, key: &str, limit: Duration) -> Result<Option<KvEntry>, KvError> {
        match &self.0 {
            Place::Local(space) => Ok(space.get(key)),
            Place::Redis(_) if check(key, &[]).is_err() => Ok(None),
            Place::Redis(space) => space.get(key, limit).await,
        }
    }

    /// Writes a value.
    pub(crate) async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
        limit: Duration,
    ) -> Result<(), KvError> {
        check(key, &value)?;
        match &self.0 {
            Place::Local(space) => space.set(key, value, ttl),
            Place::Redis(space) => space.set(key, &value, ttl, limit).await,
        }
    }

    /// Writes a value if the key has this version; returns whether it did.
    pub(crate) async fn compare_and_set(
        &self,
        key: &str,
        version: Option<u64>,
        (value, ttl): (Vec<u8>, Option<Duration>),
        limit: Duration,
    ) -> Result<bool, KvError> {
        check(key, &value)?;
        match &self.0 {
            Place::Local(space) => space.compare_and_set(key, version, value, ttl),
            Place::Redis(space) => space.compare_and_set(key, version, (&value, ttl), limit).await,
        }
    }

    /// Adds to a counter, a decimal text; returns its new value, which ends at the limits of 64 bits.
    pub(crate) async fn increment(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
        limit: Duration,
    ) -> Result<i64, KvError> {
        check(key, &[])?;
        match &self.0 {
            Place::Local(space) => space.increment(key, delta, ttl),
            Place::Redis(space) => space.increment(key, delta, ttl, limit).await,
        }
    }

    /// Removes a value; returns whether there was one.
    pub(crate) async fn delete(&self, key: &str, limit: Duration) -> Result<bool, KvError> {
        match &self.0 {
            Place::Local(space) => Ok(space.delete(key)),
            Place::Redis(_) if check(key, &[]).is_err() => Ok(false),
            Place::Redis(space) => space.delete(key, limit).await,
        }
    }

    /// Replaces all values; only of those in memory.
    pub(crate) fn fill<'a>(&self, values: impl IntoIterator<Item = (&'a String, &'a String)>) {
        let Place::Local(space) = &self.0 else { return };
        space.clear();
        for (key, value) in values {
            // The plugin could not have stored a value that does not fit.
            let _ = check(key, value.as_bytes()).and_then(|()| space.set(key, value.clone().into_bytes(), None));
        }
    }
}

/// Requires that a key and a value are within their limits.
fn check(key: &str, value: &[u8]) -> Result<(), KvError> {
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(KvError::Invalid(format!("a key has 1 to {LONGEST_KEY} bytes")));
    }
    if value.len() > LARGEST_VALUE {
        return Err(KvError::Invalid(format!("a value has at most {LARGEST_VALUE} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
