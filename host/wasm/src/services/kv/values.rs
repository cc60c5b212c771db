//! The values of one plugin in memory, bounded in number and size.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{KvEntry, KvError, check};

/// Maximum length of a key in bytes.
pub(super) const LONGEST_KEY: usize = 256;
/// Maximum size of a value in bytes.
pub(super) const LARGEST_VALUE: usize = 64 << 10;
/// Maximum number of keys of a plugin.
pub(super) const MOST_KEYS: usize = 10_000;
/// Maximum number of bytes of all keys and values of a plugin.
pub(super) const MOST_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Values {
    values: HashMap<Arc<str>, Value>,
    /// Keys by the time at which they are gone.
    ends: BTreeSet<(Instant, Arc<str>)>,
    /// Bytes of keys and values.
    bytes: usize,
    /// Version of the newest value.
    version: u64,
}

/// The value of a key, with the time after which it is gone.
pub(super) struct Current {
    pub(super) value: Arc<[u8]>,
    pub(super) version: u64,
    pub(super) left: Option<Duration>,
}

struct Value {
    value: Arc<[u8]>,
    version: u64,
    end: Option<Instant>,
}

impl Values {
    pub(super) fn get(&self, key: &str, now: Instant) -> Option<KvEntry> {
        self.live(key, now).map(|it| KvEntry { value: Arc::clone(&it.value), version: it.version })
    }

    pub(super) fn get_with_life(&self, key: &str, now: Instant) -> Option<Current> {
        let current = |it: &Value| Current {
            value: Arc::clone(&it.value),
            version: it.version,
            left: it.end.map(|end| end.saturating_duration_since(now)),
        };
        self.live(key, now).map(current)
    }

    /// Removes values whose time has passed; returns their keys.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        while let Some((end, key)) = self.ends.first()
            && *end <= now
        {
            let key = Arc::clone(key);
            self.take(&key);
            gone.push(key);
        }
        gone
    }

    /// Writes a value; returns it with its version.
    pub(super) fn put(&mut self, key: &str, value: Vec<u8>, end: Option<Instant>) -> Result<KvEntry, KvError> {
        self.version += 1;
        self.restore(key, value.into(), self.version, end)
    }

    /// Writes a value with the version that it had.
    pub(super) fn restore(
        &mut self,
        key: &str,
        value: Arc<[u8]>,
        version: u64,
        end: Option<Instant>,
    ) -> Result<KvEntry, KvError> {
        check(key, &value)?;
        let old = self.values.get(key).map(|it| key.len() + it.value.len());
        let bytes = self.bytes - old.unwrap_or(0) + key.len() + value.len();
        if bytes > MOST_BYTES || (old.is_none() && self.values.len() >= MOST_KEYS) {
            return Err(KvError::Full);
        }
        self.take(key);
        let key: Arc<str> = key.into();
        if let Some(end) = end {
            self.ends.insert((end, Arc::clone(&key)));
        }
        self.bytes = bytes;
        self.version = self.version.max(version);
        let entry = KvEntry { value: Arc::clone(&value), version };
        self.values.insert(key, Value { value, version, end });
        Ok(entry)
    }

    /// Removes a value; returns whether it was there.
    pub(super) fn remove(&mut self, key: &str, now: Instant) -> bool {
        let is_live = self.live(key, now).is_some();
        self.take(key);
        is_live
    }

    fn live(&self, key: &str, now: Instant) -> Option<&Value> {
        self.values.get(key).filter(|it| it.end.is_none_or(|end| end > now))
    }

    fn take(&mut self, key: &str) {
        let Some((key, old)) = self.values.remove_entry(key) else { return };
        self.bytes -= key.len() + old.value.len();
        if let Some(end) = old.end {
            self.ends.remove(&(end, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_hold_and_leave_what_is_there() {
        let mut values = Values::default();
        assert!(matches!(values.put("", vec![], None), Err(KvError::Invalid(_))));
        assert!(matches!(values.put(&"k".repeat(257), vec![], None), Err(KvError::Invalid(_))));
        assert!(matches!(values.put("k", vec![0; (64 << 10) + 1], None), Err(KvError::Invalid(_))));
        for n in 0..15 {
            values.put(&n.to_string(), vec![0; 64 << 10], None).unwrap();
        }
        assert_eq!(values.put("more", vec![0; 64 << 10], None), Err(KvError::Full));
        assert!(values.get("more", Instant::now()).is_none());
        assert!(values.put("0", vec![1; 64 << 10], None).is_ok());

        let mut values = Values::default();
        (0..MOST_KEYS).for_each(|n| assert!(values.put(&n.to_string(), vec![], None).is_ok()));
        assert_eq!(values.put("more", vec![], None), Err(KvError::Full));
        assert!(values.remove("7", Instant::now()) && values.put("more", vec![], None).is_ok());
    }

    proptest! {
        #[test]
        fn sizes_are_those_of_a_plain_map(
            changes in prop::collection::vec((0..6_u8, prop::option::of((0..40_usize, prop::option::of(0..9_u64)))), 0..60),
        ) {
            let start = Instant::now();
            let mut values = Values::default();
            let mut model: HashMap<String, (usize, Option<u64>)> = HashMap::new();
            for (second, (key, change)) in changes.into_iter().enumerate() {
                let second = second as u64 / 6;
                let now = start + Duration::from_secs(second);
                values.expire(now);
                model.retain(|_, (_, end)| end.is_none_or(|end| end > second));
                let key = format!("key-{key}");
                match change {
                    Some((size, end)) => {
                        let end = end.map(|end| second + 1 + end);
                        values.put(&key, vec![0; size], end.map(|end| start + Duration::from_secs(end))).unwrap();
                        model.insert(key, (size, end));
                    }
                    None => prop_assert_eq!(values.remove(&key, now), model.remove(&key).is_some()),
                }
                let bytes: usize = model.iter().map(|(key, (size, _))| key.len() + size).sum();
                prop_assert_eq!(values.bytes, bytes);
                prop_assert_eq!(values.values.len(), model.len());
                prop_assert_eq!(values.ends.len(), model.values().filter(|(_, end)| end.is_some()).count());
            }
        }
    }
}
