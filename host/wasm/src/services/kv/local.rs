//! The values of one plugin in this process, and in the data folder if they are to outlive it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use yardarm_core::DataStore;

use super::disk::Disk;
use super::values::{Current, Values};
use super::{KvEntry, KvError};

pub(super) struct LocalSpace {
    values: Mutex<Values>,
    disk: Option<Disk>,
}

impl LocalSpace {
    /// Creates an empty namespace.
    pub(super) fn in_memory() -> Self {
        Self { values: Mutex::default(), disk: None }
    }

    /// Reads the values of a plugin. Blocks.
    pub(super) fn on_disk(plugin: &Arc<str>, store: Option<&DataStore>) -> Self {
        let Some(store) = store else {
            tracing::warn!(plugin = %plugin, "there is no data folder, so stored values last as long as the plugin runs");
            return Self::in_memory();
        };
        let disk = Disk::new(plugin, store.clone());
        Self { values: Mutex::new(disk.read()), disk: Some(disk) }
    }

    pub(super) fn get(&self, key: &str) -> Option<KvEntry> {
        self.values.lock().get(key, Instant::now())
    }

    pub(super) fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), KvError> {
        self.write(key, |_| Ok(Some((value, ttl)))).map(|_| ())
    }

    pub(super) fn compare_and_set(
        &self,
        key: &str,
        version: Option<u64>,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<bool, KvError> {
        self.write(key, |entry| Ok((entry.map(|entry| entry.version) == version).then_some((value, ttl))))
    }

    pub(super) fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
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

    pub(super) fn delete(&self, key: &str) -> bool {
        let mut values = self.values.lock();
        let existed = values.remove(key, Instant::now());
        if let Some(disk) = self.disk.as_ref().filter(|_| existed) {
            disk.remove(key);
        }
        existed
    }

    pub(super) fn clear(&self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments_of_many_threads_are_not_lost() {
        let space = LocalSpace::in_memory();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| assert!(space.increment("n", 1, None).is_ok())));
            }
        });
        assert_eq!(space.get("n").unwrap().value[..], *b"4000");
    }
}
