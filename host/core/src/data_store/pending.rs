//! Single records that wait to be written: the newest value of each key, within a bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::changes::Changes;
use super::error::StoreError;
use super::key::Key;
use super::tracked::Tracked;

/// Maximum size of keys and values that wait, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// What a record takes beside its key and value.
const OVERHEAD: usize = 64;

/// Records that wait.
#[derive(Default)]
pub(super) struct Pending {
    waiting: Mutex<Waiting>,
    /// The version up to which all changes are on disk.
    committed: watch::Sender<u64>,
}

type RecordId = (&'static str, Vec<u8>);

#[derive(Default)]
struct Waiting {
    records: BTreeMap<RecordId, Record>,
    bytes: usize,
    /// Grows with each change.
    version: u64,
    /// The version up to which records were written last.
    written: u64,
}

struct Record {
    /// `None` removes the record.
    value: Option<Arc<[u8]>>,
    version: u64,
}

impl Pending {
    /// Adds a value, or `None` for a removal, in place of what waits for this key.
    ///
    /// # Errors
    /// When too much waits already.
    pub(super) fn add(&self, table: &'static str, key: &Key, value: Option<Arc<[u8]>>) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        let id = (table, key.bytes().to_vec());
        let before = waiting.records.get(&id).map_or(0, |it| size(&id, it.value.as_deref()));
        let bytes = waiting.bytes - before + size(&id, value.as_deref());
        if bytes > MAX_BYTES {
            return Err(StoreError::Full);
        }
        waiting.bytes = bytes;
        waiting.version += 1;
        let version = waiting.version;
        waiting.records.insert(id, Record { value, version });
        Ok(())
    }

    /// Waits until everything is on disk that waits now.
    pub(super) async fn committed(&self) {
        let version = self.waiting.lock().version;
        // The sender lives as long as `self`.
        let _ = self.committed.subscribe().wait_for(|committed| *committed >= version).await;
    }

    /// Returns what waits for keys that begin with the parts of `prefix`: key, and value or `None` for a removal.
    pub(super) fn starting_with(&self, table: &'static str, prefix: &Key) -> BTreeMap<Vec<u8>, Option<Arc<[u8]>>> {
        let waiting = self.waiting.lock();
        let first = (table, prefix.bytes().to_vec());
        let all = waiting.records.range(first..);
        let is_in = |id: &RecordId| id.0 == table && id.1.starts_with(prefix.bytes());
        all.take_while(|(id, _)| is_in(id)).map(|(id, it)| (id.1.clone(), it.value.clone())).collect()
    }
}

fn size(id: &RecordId, value: Option<&[u8]>) -> usize {
    OVERHEAD + id.1.len() + value.map_or(0, <[u8]>::len)
}

impl Tracked for Pending {
    fn scope(&self) -> &str {
        ""
    }

    fn is_dirty(&self) -> bool {
        !self.waiting.lock().records.is_empty()
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn write(&self, changes: &mut Changes<'_>) {
        let mut waiting = self.waiting.lock();
        for ((table, key), record) in &waiting.records {
            match &record.value {
                Some(value) => changes.put_encoded(table, key, value),
                None => changes.remove_encoded(table, key),
            }
        }
        waiting.written = waiting.version;
    }

    fn mark_committed(&self) {
        let mut waiting = self.waiting.lock();
        let (written, mut freed) = (waiting.written, 0);
        waiting.records.retain(|id, record| {
            let is_newer = record.version > written;
            freed += if is_newer { 0 } else { size(id, record.value.as_deref()) };
            is_newer
        });
        waiting.bytes -= freed;
        self.committed.send_replace(written);
    }

    fn forget(&self) {}
}
