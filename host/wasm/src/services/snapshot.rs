//! What the background task of a plugin published last.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

/// Limit of a publication: number of values.
pub(crate) const MOST_VALUES: usize = 10_000;
/// Limit of a publication: bytes of keys and values.
pub(crate) const MOST_BYTES: usize = 4 << 20;
/// Maximum length of a key in bytes.
pub(crate) const LONGEST_KEY: usize = 256;

/// The published values of one version of a plugin, replaced as a whole.
#[derive(Default)]
pub(crate) struct Snapshot(ArcSwap<Published>);

/// One publication.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) values: BTreeMap<String, Bytes>,
    /// Number of publications so far.
    pub(crate) version: u64,
}

impl Snapshot {
    /// Returns the newest publication.
    pub(crate) fn get(&self) -> Arc<Published> {
        self.0.load_full()
    }

    /// Publishes values; returns whether they differ from those before. Called by one task at a time.
    pub(crate) fn publish(&self, values: BTreeMap<String, Bytes>) -> bool {
        let before = self.0.load();
        let differs = before.version == 0 || before.values != values;
        if differs {
            self.0.store(Arc::new(Published { values, version: before.version + 1 }));
        }
        differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_not_a_new_publication() {
        let snapshot = Snapshot::default();
        let values = |text: &'static str| BTreeMap::from([("a".to_owned(), Bytes::from_static(text.as_bytes()))]);
        assert_eq!(snapshot.get().version, 0);
        assert!(snapshot.publish(BTreeMap::new()), "the first one counts even if it is empty");
        assert!(snapshot.publish(values("1")) && !snapshot.publish(values("1")) && snapshot.publish(values("2")));
        assert_eq!((snapshot.get().version, &*snapshot.get().values["a"]), (3, &b"2"[..]));
    }
}
