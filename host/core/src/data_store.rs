//! The store of the data folder: one embedded database that holds what the next start needs.
//!
//! An owner, such as an environment, reads its records at its start and then registers its state ([`TrackedState`]),
//! whose changes one task of the process commits, those of all owners together. Records without such a state are
//! written one by one ([`DataStore::put`]). SDKs are never served from here, and nothing waits for the disk: while it
//! is full or read-only, everything goes on, and the newest state is written once that is possible.
//!
//! The database is `redb`, because it verifies its file and never returns less than it committed; the reasons are in
//! `docs/decisions.md`. Values are MessagePack, and this is the only user of `rmp-serde`.

mod changes;
mod database;
mod error;
mod key;
mod medium;
mod overlay;
mod pending;
pub mod tables;
#[cfg(test)]
mod tests;
mod tracked;
mod writer;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

pub use self::changes::Changes;
use self::database::{Connection, TASK, Written};
pub use self::error::StoreError;
pub use self::key::Key;
use self::medium::{FileMedium, Medium};
use self::pending::Pending;
use self::tables::Table;
use self::tracked::Tracked;
pub use self::tracked::TrackedState;
pub use self::writer::Pace;
use self::writer::Writer;
use crate::Lifecycle;
use crate::supervisor::blocking;

/// Name of the file in the data folder.
const FILE: &str = "store.redb";
/// Name of the file with events, which are committed at another pace.
const EVENTS_FILE: &str = "events.redb";

/// The store of the process. Cheap to clone.
#[derive(Clone)]
pub struct DataStore(Arc<Shared>);

/// A record as it was read.
pub struct Record<'a, V> {
    /// The parts of its key.
    pub key: &'a [&'a [u8]],
    /// The value; `None` if this version cannot read it.
    pub value: Option<V>,
}

struct Shared {
    connection: Connection,
    pending: Pending,
    tracked: Mutex<Vec<Arc<dyn Tracked>>>,
    /// Notified when there is something to write.
    wake: Arc<Notify>,
}

impl DataStore {
    /// Opens the store in `folder`, which the caller has locked, and starts the task that writes. A store that cannot
    /// be opened is logged and tried again later; what is in it may be readable nevertheless.
    pub async fn open(folder: &Path, lifecycle: &Lifecycle) -> Self {
        Self::open_medium(Box::new(FileMedium::new(folder.join(FILE))), Pace::Relaxed, lifecycle).await
    }

    /// Opens the store for records that are worth nothing unless they are on disk at once, such as accepted events. It
    /// has a file of its own, because most of what a commit costs does not depend on its size.
    pub async fn open_for_events(folder: &Path, lifecycle: &Lifecycle) -> Self {
        Self::open_medium(Box::new(FileMedium::new(folder.join(EVENTS_FILE))), Pace::Prompt, lifecycle).await
    }

    async fn open_medium(medium: Box<dyn Medium>, pace: Pace, lifecycle: &Lifecycle) -> Self {
        let shared = Arc::new(Shared {
            connection: Connection::new(medium),
            pending: Pending::default(),
            tracked: Mutex::default(),
            wake: Arc::default(),
        });
        let opening = Arc::clone(&shared);
        let opened = blocking(TASK, move || opening.connection.open()).await.unwrap_or(Err(StoreError::Panicked));
        let writer = Writer::new(Arc::clone(&shared), pace, lifecycle.token().clone(), &opened);
        lifecycle.supervise_graceful(TASK, writer);
        Self(shared)
    }

    /// Registers state that is written from now on. `scope` identifies its records. `state` is what the store holds if
    /// `is_known` is on; otherwise the store may hold anything, and everything is written with the first change.
    ///
    /// `difference` writes what differs between a committed state and a newer one. Without a committed state, it first
    /// removes all records that there may be.
    pub fn track<T: Clone + Send + Sync + 'static>(
        &self,
        scope: &str,
        (state, is_known): (T, bool),
        difference: impl Fn(Option<&T>, &T, &mut Changes<'_>) + Send + Sync + 'static,
    ) -> TrackedState<T> {
        let wake = Arc::clone(&self.0.wake);
        let mut all = self.0.tracked.lock();
        // The last changes of an earlier registration may not have been written when the state was read. They are
        // written first.
        let is_known = is_known && !all.iter().any(|it| it.scope() == scope && (it.is_dirty() || !it.is_closed()));
        let tracked = TrackedState::new(scope.to_owned(), state, is_known, Box::new(difference), wake);
        all.push(tracked.tracked());
        tracked
    }

    /// Calls `visit` for each record whose key begins with the parts of `prefix`, in the order of keys. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read. Some records may have been visited.
    pub fn read<V: DeserializeOwned>(
        &self,
        table: Table<V>,
        prefix: &Key,
        mut visit: impl FnMut(Record<'_, V>),
    ) -> Result<(), StoreError> {
        let mut pending = self.0.pending.starting_with(table.name(), prefix);
        let mut visit = |key: &[&[u8]], value: &[u8]| visit(Record { key, value: rmp_serde::from_slice(value).ok() });
        if pending.is_empty() {
            return self.0.connection.read(table.name(), prefix, |(key, value)| visit(key, value));
        }
        self.0.connection.read(table.name(), prefix, |(key, value)| {
            pending.entry(Key::of(key).bytes().to_vec()).or_insert_with(|| Some(value.into()));
        })?;
        for (key, value) in pending {
            if let (Some(parts), Some(value)) = (key::parts(&key), value) {
                visit(&parts, &value);
            }
        }
        Ok(())
    }

    /// Returns the value of one record; `None` if there is none, or this version cannot read it. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get<V: DeserializeOwned>(&self, table: Table<V>, key: &Key) -> Result<Option<V>, StoreError> {
        let mut found = None;
        let depth = key.depth();
        self.read(table, key, |record| {
            if record.key.len() == depth {
                found = record.value;
            }
        })?;
        Ok(found)
    }

    /// Schedules a record to be written, in place of the one with this key. Reads find it at once.
    ///
    /// # Errors
    /// When the value cannot be encoded, or too much waits to be written.
    pub fn put<V: Serialize>(&self, table: Table<V>, key: &Key, value: &V) -> Result<(), StoreError> {
        let value = rmp_serde::to_vec_named(value)?;
        self.0.add(table.name(), key, Some(value.into()))
    }

    /// Waits until the records are on disk that were scheduled before; forever while they cannot be written.
    pub async fn committed(&self) {
        self.0.pending.committed().await;
    }

    /// Schedules a record to be removed. Reads no longer find it.
    ///
    /// # Errors
    /// When too much waits to be written.
    pub fn remove<V>(&self, table: Table<V>, key: &Key) -> Result<(), StoreError> {
        self.0.add(table.name(), key, None)
    }
}

impl Shared {
    fn add(&self, table: &'static str, key: &Key, value: Option<Arc<[u8]>>) -> Result<(), StoreError> {
        self.pending.add(table, key, value)?;
        self.wake.notify_one();
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        self.pending.is_dirty() || self.tracked.lock().iter().any(|it| it.is_dirty())
    }

    /// Commits all changes. Blocks.
    fn commit(&self) -> Result<(), StoreError> {
        // A database that was opened again is written completely, in a second attempt.
        for _ in 0..2 {
            let tracked = self.tracked.lock().clone();
            let dirty: Vec<&dyn Tracked> = tracked.iter().map(|it| &**it).filter(|it| it.is_dirty()).collect();
            let committed = self.connection.commit(|changes| {
                dirty.iter().for_each(|it| it.write(changes));
                self.pending.write(changes);
            });
            match committed {
                Ok(Written::All) => {
                    dirty.iter().for_each(|it| it.mark_committed());
                    self.pending.mark_committed();
                    return Ok(());
                }
                // After an error, some changes may have reached the disk.
                Ok(Written::Reopened) => tracked.iter().for_each(|it| it.forget()),
                Err(error) => {
                    tracked.iter().for_each(|it| it.forget());
                    return Err(error);
                }
            }
        }
        Err(StoreError::Unavailable(format!("`{}` is replaced repeatedly", self.connection.name())))
    }

    /// Removes states that do not change any more and have been written.
    fn remove_closed(&self) {
        self.tracked.lock().retain(|it| !it.is_closed() || it.is_dirty());
    }
}
