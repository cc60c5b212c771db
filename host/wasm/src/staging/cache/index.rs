//! The index of the cache, in the store of the data folder. A store that fails is logged, and costs a compilation.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yardarm_core::DataStore;
use yardarm_core::data_store::tables::{self, Table};
use yardarm_core::data_store::{Key, StoreError};
use yardarm_core::time::unix_ms;

const TABLE: Table<CompiledPlugin> = tables::COMPILED_PLUGINS.of();
/// A use is recorded this many milliseconds after the one before, so that swaps write little.
const USE_INTERVAL_MS: u64 = 60_000;

/// What is known of a file of compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CompiledPlugin {
    /// Digest of the code.
    pub(super) sha256: [u8; 32],
    /// Size of the code in bytes.
    pub(super) size: u64,
    /// Last use, in milliseconds since 1970.
    pub(super) used_ms: u64,
}

/// The records of this and of other engines. Cheap to clone. All functions block.
#[derive(Clone)]
pub(super) struct Index {
    store: DataStore,
    /// Identifies Wasmtime and its settings.
    engine: Arc<str>,
}

impl CompiledPlugin {
    pub(super) fn used_now(code: &[u8]) -> Self {
        let size = u64::try_from(code.len()).unwrap_or(u64::MAX);
        Self { sha256: Sha256::digest(code).into(), size, used_ms: unix_ms() }
    }
}

impl Index {
    pub(super) fn new(store: DataStore, engine: String) -> Self {
        Self { store, engine: engine.into() }
    }

    pub(super) fn engine(&self) -> &str {
        &self.engine
    }

    pub(super) fn get(&self, component: &[u8; 32]) -> Option<CompiledPlugin> {
        self.store.get(TABLE, &self.key(component)).unwrap_or_else(|error| {
            log(&error);
            None
        })
    }

    pub(super) fn put(&self, component: &[u8; 32], record: &CompiledPlugin) {
        self.store.put(TABLE, &self.key(component), record).unwrap_or_else(|error| log(&error));
    }

    /// Records a use of what is known as `record`.
    pub(super) fn mark_used(&self, component: &[u8; 32], record: CompiledPlugin) {
        let now = unix_ms();
        // A last use in the future is due to a changed clock.
        if now.abs_diff(record.used_ms) >= USE_INTERVAL_MS {
            self.put(component, &CompiledPlugin { used_ms: now, ..record });
        }
    }

    pub(super) fn remove(&self, component: &[u8; 32]) {
        self.remove_key(&self.key(component));
    }

    /// Returns the digests of components and the records of this engine, and removes all other records; `None` if the
    /// store cannot be read.
    pub(super) fn survey(&self) -> Option<Vec<([u8; 32], CompiledPlugin)>> {
        let (mut records, mut foreign) = (Vec::new(), Vec::new());
        let read = self.store.read(TABLE, &Key::default(), |record| match (record.key, record.value) {
            ([engine, component], Some(value)) if *engine == self.engine.as_bytes() && component.len() == 32 => {
                let mut digest = [0; 32];
                digest.copy_from_slice(component);
                records.push((digest, value));
            }
            (key, _) => foreign.push(Key::of(key)),
        });
        match read {
            Ok(()) => {
                foreign.iter().for_each(|key| self.remove_key(key));
                Some(records)
            }
            Err(error) => {
                log(&error);
                None
            }
        }
    }

    fn remove_key(&self, key: &Key) {
        self.store.remove(TABLE, key).unwrap_or_else(|error| log(&error));
    }

    fn key(&self, component: &[u8; 32]) -> Key {
        Key::of(&[self.engine.as_bytes(), component])
    }
}

fn log(error: &StoreError) {
    tracing::warn!(%error, "the index of compiled plugins cannot be used");
}
