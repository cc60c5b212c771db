//! What is remembered of plugins across restarts: which version was active, what it must not be bypassed in, and whether
//! it is retired. Without a store, this lasts as long as the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use yardarm_core::DataStore;
use yardarm_core::data_store::tables::{self, Table};
use yardarm_core::data_store::{Key, StoreError};

use super::entry::Identity;
use super::kept::KeptVersion;
use crate::vocabulary::Bind;

const TABLE: Table<PluginRecord> = tables::PLUGIN_STATES.of();

/// What is remembered of one plugin, by file stem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PluginRecord {
    /// Name of the plugin.
    pub(super) name: Option<Arc<str>>,
    /// Whether it has been active, and is not forgotten.
    pub(super) was_active: bool,
    /// The required bindings of the binding file that was parsed last.
    pub(super) required_bindings: Vec<Bind>,
    /// Unix milliseconds since when it is retired by an operator.
    pub(super) retired_ms: Option<u64>,
    /// The version that ran last, and may run again.
    pub(super) current: Option<KeptVersion>,
    /// The version before it, to which an operator can return.
    pub(super) previous: Option<KeptVersion>,
    /// Versions that were rolled back and are not loaded again, the newest last.
    pub(super) quarantined: Vec<QuarantinedVersion>,
    /// Whether an operator has pinned the version that runs.
    pub(super) is_pinned: bool,
}

/// A version that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QuarantinedVersion {
    pub(super) identity: Identity,
    /// Version that the plugin declared.
    pub(super) version: String,
    /// The version that it was rolled back to.
    pub(super) to: String,
    /// Why, with figures.
    pub(super) reason: String,
}

/// The records of all plugins. Cheap to clone. A store that fails is logged; the records then last as long as the process.
#[derive(Clone)]
pub(super) struct Records(Option<DataStore>);

impl Records {
    pub(super) fn new(store: Option<DataStore>) -> Self {
        Self(store)
    }

    /// Returns whether records outlive the process.
    pub(super) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Reads all records. Blocks.
    pub(super) fn read(&self) -> BTreeMap<Arc<str>, PluginRecord> {
        let mut records = BTreeMap::new();
        let Some(store) = &self.0 else { return records };
        let read = store.read(TABLE, &Key::default(), |record| {
            if let (&[stem], Some(value)) = (record.key, record.value)
                && let Ok(stem) = std::str::from_utf8(stem)
            {
                records.insert(stem.into(), value);
            }
        });
        read.unwrap_or_else(|error| log(&error));
        records
    }

    /// Writes a record a moment later.
    pub(super) fn put(&self, stem: &str, record: &PluginRecord) {
        if let Some(store) = &self.0 {
            store.put(TABLE, &Key::of(&[stem]), record).unwrap_or_else(|error| log(&error));
        }
    }

    /// Removes a record a moment later.
    pub(super) fn remove(&self, stem: &str) {
        if let Some(store) = &self.0 {
            store.remove(TABLE, &Key::of(&[stem])).unwrap_or_else(|error| log(&error));
        }
    }
}

fn log(error: &StoreError) {
    tracing::error!(%error, "the state of plugins cannot be remembered across restarts");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use yardarm_core::Lifecycle;

    use super::*;
    use crate::vocabulary::{Hook, Required};

    #[tokio::test]
    async fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(Some(DataStore::open(dir.path(), &Lifecycle::new()).await));
        let bind = Bind {
            environments: vec!["prod-*".into()],
            sdk: vec!["server".into()],
            routes: vec!["server.*".into()],
            required: Required::Always,
            deadline: Duration::from_millis(7),
            ..Bind::automatic(Hook::RequestAuth)
        };
        let record = PluginRecord {
            name: Some("gate".into()),
            was_active: true,
            required_bindings: vec![bind, Bind { required: Required::Yes, ..Bind::automatic(Hook::EventFilter) }],
            retired_ms: Some(1),
            current: Some(KeptVersion { version: "1.2.3".to_owned(), identity: ([7; 32], Some([8; 32])) }),
            previous: None,
            quarantined: vec![QuarantinedVersion {
                identity: ([9; 32], None),
                version: "1.2.4".to_owned(),
                to: "1.2.3".to_owned(),
                reason: "3 of 3 calls failed".to_owned(),
            }],
            is_pinned: true,
        };
        records.put("gate", &record);
        records.put("other", &PluginRecord::default());
        assert_eq!(records.read()["gate"], record);
        records.remove("gate");
        assert_eq!(records.read().keys().map(|it| &**it).collect::<Vec<_>>(), ["other"]);
    }
}
