//! Digests that are not compiled, because their compilation had to be stopped before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use yardarm_core::DataStore;
use yardarm_core::data_store::tables::{self, Table};
use yardarm_core::data_store::{Key, StoreError};
use yardarm_core::time::unix_ms;

use super::limits::Limits;
use crate::runtime::engine::code_key;
use crate::vocabulary::CompileStop;

const TABLE: Table<Record> = tables::PLUGIN_QUARANTINE.of();
/// Maximum number of digests; the oldest are released.
const MOST_DIGESTS: usize = 1_000;

/// Digests in quarantine, for one version of the compiler. They are kept in the store, if there is one, and last longer
/// than the process. Cheap to clone. All functions block.
#[derive(Clone)]
pub(crate) struct Quarantine(Arc<Shared>);

struct Shared {
    /// Identifies the compiler and its settings.
    engine: String,
    store: Option<DataStore>,
    /// What this process has found out, in case that there is no store or that it fails.
    found: Mutex<HashMap<[u8; 32], Record>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    stop: CompileStop,
    /// Unix milliseconds.
    at_ms: u64,
}

impl Quarantine {
    pub(super) fn new(engine: &wasmtime::Engine, store: Option<DataStore>) -> Self {
        Self(Arc::new(Shared { engine: code_key(engine), store, found: Mutex::default() }))
    }

    /// Returns why a digest is in quarantine; `None` if it is not, or if `limits` are so much larger now that its
    /// compilation may succeed.
    pub(super) fn find(&self, sha256: &[u8; 32], limits: &Limits) -> Option<CompileStop> {
        let found = self.0.found.lock().get(sha256).cloned();
        let record = found.or_else(|| {
            let get = |store: &DataStore| store.get(TABLE, &self.key(sha256));
            self.0.store.as_ref().and_then(|store| get(store).unwrap_or_else(log_none))
        })?;
        record.holds(limits).then_some(record.stop)
    }

    /// Puts a digest into quarantine.
    pub(super) fn add(&self, sha256: [u8; 32], stop: CompileStop) {
        tracing::warn!(sha256 = %hex::encode(sha256), %stop, "the component is in quarantine");
        let record = Record { stop, at_ms: unix_ms() };
        let mut found = self.0.found.lock();
        if found.len() >= MOST_DIGESTS
            && let Some(oldest) = found.iter().min_by_key(|(_, record)| record.at_ms).map(|(digest, _)| *digest)
        {
            found.remove(&oldest);
        }
        found.insert(sha256, record.clone());
        drop(found);
        if let Some(store) = &self.0.store {
            store.put(TABLE, &self.key(&sha256), &record).unwrap_or_else(|error| log(&error));
            self.tidy(store);
        }
    }

    /// Releases a digest from quarantine, so that it is compiled when it is loaded again; returns whether it was there.
    pub(crate) fn clear(&self, sha256: &[u8; 32]) -> bool {
        let was_found = self.0.found.lock().remove(sha256).is_some();
        let Some(store) = &self.0.store else { return was_found };
        let key = self.key(sha256);
        let was_stored = store.get(TABLE, &key).unwrap_or_else(log_none).is_some();
        store.remove(TABLE, &key).unwrap_or_else(|error| log(&error));
        was_found || was_stored
    }

    /// Removes the records of other versions, and the oldest ones beyond the maximum.
    fn tidy(&self, store: &DataStore) {
        let (mut own, mut surplus) = (Vec::new(), Vec::new());
        let read = store.read(TABLE, &Key::default(), |record| match (record.key, record.value) {
            ([engine, _], Some(value)) if *engine == self.0.engine.as_bytes() => {
                own.push((value.at_ms, Key::of(record.key)));
            }
            (key, _) => surplus.push(Key::of(key)),
        });
        read.unwrap_or_else(|error| log(&error));
        own.sort_by_key(|(at_ms, _)| std::cmp::Reverse(*at_ms));
        surplus.extend(own.into_iter().skip(MOST_DIGESTS).map(|(_, key)| key));
        for key in surplus {
            store.remove(TABLE, &key).unwrap_or_else(|error| log(&error));
        }
    }

    fn key(&self, sha256: &[u8; 32]) -> Key {
        Key::of(&[self.0.engine.as_bytes(), sha256])
    }
}

impl Record {
    fn holds(&self, limits: &Limits) -> bool {
        // What is free changes all the time, so a little more is no reason.
        let is_much_larger = |now: u64, before: u64| now.saturating_mul(2) >= before.saturating_mul(3);
        let is_larger = match self.stop {
            CompileStop::Memory { limit } => is_much_larger(limits.memory, limit),
            CompileStop::Processor { seconds } => is_much_larger(limits.processor, seconds),
            CompileStop::Deadline { seconds } => is_much_larger(limits.time, seconds),
            CompileStop::Killed | CompileStop::Crashed { .. } => false,
        };
        // A time in the future is due to a changed clock.
        let age = Duration::from_millis(unix_ms().saturating_sub(self.at_ms));
        !is_larger && self.stop.lapses_after().is_none_or(|after| age < after)
    }
}

fn log_none<T>(error: StoreError) -> Option<T> {
    log(&error);
    None
}

fn log(error: &StoreError) {
    tracing::warn!(%error, "the quarantine of plugins cannot be read or written");
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Runtime;
    use yardarm_core::Lifecycle;

    use super::*;
    use crate::runtime::engine::{EngineKind, on_demand};

    const SOME: Limits = Limits { memory: 1_000, processor: 10, time: 100 };

    #[test]
    fn a_digest_is_kept_by_the_store_for_one_version_of_the_compiler() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), on_demand(EngineKind::Plain, false).unwrap());
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(async { DataStore::open(dir.path(), &Lifecycle::new()).await });
        let open = || Quarantine::new(&engine, Some(store.clone()));
        let stop = CompileStop::Crashed { how: "SIGSEGV".to_owned() };
        open().add([1; 32], stop.clone());
        assert_eq!(open().find(&[1; 32], &SOME), Some(stop.clone()));
        assert_eq!(open().find(&[2; 32], &SOME), None);
        let newer = Quarantine::new(&wasmtime::Engine::default(), Some(store.clone()));
        assert_eq!(newer.find(&[1; 32], &SOME), None);
        newer.add([2; 32], stop);
        assert_eq!(open().find(&[1; 32], &SOME), None, "records of other versions are removed");
        open().add([3; 32], CompileStop::Killed);
        assert!(open().clear(&[3; 32]) && !open().clear(&[3; 32]));
        assert_eq!(open().find(&[3; 32], &SOME), None);
    }

    #[test]
    fn larger_limits_and_time_release_a_digest() {
        let is_held =
            |stop: CompileStop, age_ms: u64, limits: Limits| Record { stop, at_ms: unix_ms() - age_ms }.holds(&limits);
        let memory = CompileStop::Memory { limit: 1_000 };
        let year = 365 * 24 * 3600 * 1000;
        assert!(is_held(memory.clone(), year, SOME));
        assert!(is_held(memory.clone(), 0, Limits { memory: 1_499, processor: 99, time: 999 }));
        assert!(!is_held(memory, 0, Limits { memory: 1_500, ..SOME }));
        assert!(!is_held(CompileStop::Processor { seconds: 10 }, 0, Limits { processor: 15, ..SOME }));
        assert!(is_held(CompileStop::Crashed { how: String::new() }, year, Limits { memory: u64::MAX, ..SOME }));
        for doubtful in [CompileStop::Killed, CompileStop::Deadline { seconds: 100 }] {
            assert!(is_held(doubtful.clone(), 3_500_000, SOME));
            assert!(!is_held(doubtful, 3_700_000, SOME));
        }
    }

    #[test]
    fn the_number_of_digests_is_bounded() {
        let quarantine = Quarantine::new(&on_demand(EngineKind::Plain, false).unwrap(), None);
        for number in 0..MOST_DIGESTS + 50 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            quarantine.add(digest, CompileStop::Killed);
        }
        assert_eq!(quarantine.0.found.lock().len(), MOST_DIGESTS);
    }
}
