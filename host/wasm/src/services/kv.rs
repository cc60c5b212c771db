//! Values that a plugin stores, in memory or also on disk. A namespace belongs to a plugin and not to a version of it.

mod disk;
mod values;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use yardarm_core::DataStore;

use self::disk::Disk;
use self::values::Values;
use crate::vocabulary::KvStorage;

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KvError {
    Invalid(String),
    /// The plugin has as many keys or bytes as it may have.
    Full,
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KvEntry {
    pub(crate) value: Arc<[u8]>,
    pub(crate) version: u64,
}

/// The values of one plugin.
pub(crate) struct KvSpace {
    values: Mutex<Values>,
    disk: Option<Disk>,
}

/// The values of plugins by name and place.
type OpenSpaces = HashMap<(Arc<str>, KvStorage), Weak<KvSpace>>;

/// The values of all plugins that run. Those of others are forgotten, unless they are on disk.
pub(crate) struct KvSpaces {
    store: Option<DataStore>,
    open: Mutex<OpenSpaces>,
}

impl KvSpaces {
    pub(super) fn new(store: Option<DataStore>) -> Self {
        Self { store, open: Mutex::default() }
    }

    /// Returns the values of a plugin. Blocks while they are read from the disk.
    pub(super) fn of(&self, plugin: &Arc<str>, storage: KvStorage) -> Arc<KvSpace> {
        let mut open = self.open.lock();
        open.retain(|_, space| space.strong_count() > 0);
        let key = (Arc::clone(plugin), storage);
        if let Some(space) = open.get(&key).and_then(Weak::upgrade) {
            return space;
        }
        let space = Arc::new(match storage {
            KvStorage::Memory => KvSpace::in_memory(),
            KvStorage::Disk => KvSpace::on_disk(plugin, self.store.as_ref()),
        });
        open.insert(key, Arc::downgrade(&space));
        space
    }
}

impl KvSpace {
    /// Creates an empty namespace.
    pub(crate) fn in_memory() -> Self {
        Self { values: Mutex::default(), disk: None }
    }

    fn on_disk(plugin: &Arc<str>, store: Option<&DataStore>) -> Self {
        let Some(store) = store else {
            tracing::warn!(plugin = %plugin, "there is no data folder, so stored values last as long as the plugin runs");
            return Self::in_memory();
        };
        let disk = Disk::new(plugin, store.clone());
        Self { values: Mutex::new(disk.read()), disk: Some(disk) }
    }

    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<KvEntry>, KvError> {
        Ok(self.values.lock().get(key, Instant::now()))
    }

    /// Writes a value.
    pub(crate) fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), KvError> {
        self.write(key, |_| Ok(Some((value, ttl)))).map(|_| ())
    }

    /// Writes a value if the key has this version; returns whether it did.
    pub(crate) fn compare_and_set(
        &self,
        key: &str,
        version: Option<u64>,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<bool, KvError> {
        self.write(key, |entry| Ok((entry.map(|entry| entry.version) == version).then_some((value, ttl))))
    }

    /// Adds to a counter, a decimal text; returns its new value.
    pub(crate) fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        let mut sum = delta;
        self.write(key, |entry| {
            let invalid = || KvError::Invalid("the value is not a number".to_owned());
            // `None` keeps the end of life that the value has.
            let mut kept = ttl;
            if let Some(entry) = entry {
                let text = std::str::from_utf8(&entry.value).map_err(|_| invalid())?;
                sum = text.parse::<i64>().map_err(|_| invalid())?.saturating_add(delta);
                kept = entry.left;
            }
            Ok(Some((sum.to_string().into_bytes(), kept)))
        })?;
        Ok(sum)
    }

    /// Removes a value; returns whether there was one.
    pub(crate) fn delete(&self, key: &str) -> bool {
        let mut values = self.values.lock();
        let existed = values.remove(key, Instant::now());
        if let Some(disk) = self.disk.as_ref().filter(|_| existed) {
            disk.remove(key);
        }
        existed
    }

    /// Removes all values.
    pub(crate) fn clear(&self) {
        *self.values.lock() = Values::default();
    }

    /// Writes what `change` returns for the current value, in one step; returns whether it wrote.
    fn write(
        &self,
        key: &str,
        change: impl FnOnce(Option<&Current>) -> Result<Option<(Vec<u8>, Option<Duration>)>, KvError>,
    ) -> Result<bool, KvError> {
        let now = Instant::now();
        let mut values = self.values.lock();
        let gone = values.expire(now);
        if let Some(disk) = &self.disk {
            gone.iter().for_each(|key| disk.remove(key));
        }
        let current = values.get_with_life(key, now);
        let Some((value, ttl)) = change(current.as_ref())? else { return Ok(false) };
        let entry = values.put(key, value, ttl.map(|ttl| now + ttl))?;
        if let Some(disk) = &self.disk {
            disk.write(key, &entry, ttl);
        }
        Ok(true)
    }
}

/// The value of a key, with the time after which it is gone.
struct Current {
    value: Arc<[u8]>,
    version: u64,
    left: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(space: &KvSpace, key: &str) -> Option<String> {
        space.get(key).unwrap().map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_covers_a_window_from_its_first_increment() {
        let space = KvSpace::in_memory();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(space.increment("a", 1, minute), Ok(1));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(space.increment("a", 2, minute), Ok(3));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(value(&space, "a"), None);
        assert_eq!(space.increment("a", 1, minute), Ok(1));
        space.set("b", b"x".to_vec(), None).unwrap();
        assert_eq!(space.increment("b", 1, None), Err(KvError::Invalid("the value is not a number".to_owned())));
        space.set("c", i64::MAX.to_string().into_bytes(), None).unwrap();
        assert_eq!(space.increment("c", 1, None), Ok(i64::MAX));
    }

    #[test]
    fn only_one_of_two_writers_that_saw_the_same_version_succeeds() {
        let space = KvSpace::in_memory();
        assert_eq!(space.compare_and_set("a", None, b"1".to_vec(), None), Ok(true));
        assert_eq!(space.compare_and_set("a", None, b"2".to_vec(), None), Ok(false));
        let version = space.get("a").unwrap().unwrap().version;
        assert_eq!(space.compare_and_set("a", Some(version), b"2".to_vec(), None), Ok(true));
        assert_eq!(space.compare_and_set("a", Some(version), b"3".to_vec(), None), Ok(false));
        assert_eq!(value(&space, "a").as_deref(), Some("2"));
        assert!(space.delete("a") && !space.delete("a"));
    }

    #[test]
    fn increments_of_many_threads_are_not_lost() {
        let space = KvSpace::in_memory();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| assert!(space.increment("n", 1, None).is_ok())));
            }
        });
        assert_eq!(value(&space, "n").as_deref(), Some("4000"));
    }

    #[test]
    fn a_namespace_lasts_as_long_as_a_version_of_its_plugin() {
        let spaces = KvSpaces::new(None);
        let (one, other) = ("one".into(), "other".into());
        let first = spaces.of(&one, KvStorage::Memory);
        first.set("a", b"1".to_vec(), None).unwrap();
        let second = spaces.of(&one, KvStorage::Memory);
        drop(first);
        assert_eq!(value(&second, "a").as_deref(), Some("1"));
        assert_eq!(value(&spaces.of(&other, KvStorage::Memory), "a"), None);
        drop(second);
        assert_eq!(value(&spaces.of(&one, KvStorage::Memory), "a"), None);
    }
}
