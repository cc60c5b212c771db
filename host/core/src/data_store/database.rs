//! The open database: verified when it is opened, set aside when it is damaged, replaced when its file is gone.

use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Builder, Database, ReadableDatabase, TableDefinition, TableError};

use super::changes::Changes;
use super::error::StoreError;
use super::key::{self, Key};
use super::medium::Medium;
use crate::supervisor;

/// Memory for pages of the database. Everything is read once, at the start, so a larger cache would only cost memory.
const CACHE: usize = 1 << 20;

/// Name of the store's task in logs and metrics.
pub(super) const TASK: &str = "data store";

/// A record: the parts of its key, and its value in MessagePack.
pub(super) type Record<'a> = (&'a [&'a [u8]], &'a [u8]);

/// The database on its medium.
pub(super) struct Connection {
    medium: Box<dyn Medium>,
    open: Mutex<Open>,
}

enum Open {
    Closed,
    ReadOnly(Arc<Database>),
    Writable(Arc<Database>),
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The changes are on the disk, or there were none.
    All,
    /// Nothing was written. The database was opened again, and what it holds is not known.
    Reopened,
}

pub(super) const fn definition(name: &'static str) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(name)
}

impl Connection {
    pub(super) fn new(medium: Box<dyn Medium>) -> Self {
        Self { medium, open: Mutex::new(Open::Closed) }
    }

    pub(super) fn name(&self) -> String {
        self.medium.name()
    }

    /// Opens the database, for reading only where it cannot be written. A damaged one is set aside, and an empty one is
    /// created in its place. Blocks.
    ///
    /// # Errors
    /// When it cannot be written. It may be readable then.
    pub(super) fn open(&self) -> Result<(), StoreError> {
        let mut open = self.open.lock();
        let opened = self.open_writable(&mut open);
        if opened.is_err() {
            let read_only = guarded(|| self.medium.open_read_only(&builder()));
            *open = read_only.map_or(Open::Closed, |it| Open::ReadOnly(Arc::new(it)));
        }
        opened
    }

    /// Closes the database, so that the next process need not repair it. Blocks.
    pub(super) fn close(&self) {
        let open = std::mem::replace(&mut *self.open.lock(), Open::Closed);
        // A panic in the database must not prevent the end of the process.
        let _ = guarded(|| {
            drop(open);
            Ok(())
        });
    }

    /// Commits what `write` changes. If the database has to be opened again, `write` is not called. Blocks.
    ///
    /// # Errors
    /// When the changes were not written, or it is not known whether they were.
    pub(super) fn commit(&self, write: impl FnOnce(&mut Changes<'_>)) -> Result<Written, StoreError> {
        let mut open = self.open.lock();
        let database = match &*open {
            Open::Writable(database) if self.medium.is_current() => Arc::clone(database),
            _ => {
                *open = Open::Closed;
                return self.open_writable(&mut open).map(|()| Written::Reopened);
            }
        };
        drop(open);
        let committed = guarded(|| {
            let transaction = database.begin_write()?;
            let mut changes = Changes::new(&transaction);
            write(&mut changes);
            match changes.finish()? {
                0 => transaction.abort()?,
                _ => transaction.commit()?,
            }
            Ok(Written::All)
        });
        if committed.is_err() {
            // After an error the database refuses everything until it is opened again, which verifies it.
            drop(database);
            self.close();
        }
        committed
    }

    /// Calls `visit` for each record of a table whose key begins with the parts of `prefix`. Blocks.
    ///
    /// # Errors
    /// When the database is not open or cannot be read. Some records may have been visited.
    pub(super) fn read(
        &self,
        table: &'static str,
        prefix: &Key,
        mut visit: impl FnMut(Record<'_>),
    ) -> Result<(), StoreError> {
        let database = match &*self.open.lock() {
            Open::Closed => return Err(StoreError::Unavailable(format!("`{}` is not open", self.name()))),
            Open::ReadOnly(database) | Open::Writable(database) => Arc::clone(database),
        };
        guarded(|| {
            let transaction = database.begin_read()?;
            let table = match transaction.open_table(definition(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                table => table?,
            };
            let (start, end) = prefix.range();
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for record in table.range::<&[u8]>((start, end))? {
                let (key, value) = record?;
                let parts = key::parts(key.value()).ok_or_else(|| StoreError::Damaged("a key is malformed".into()))?;
                visit((&parts, value.value()));
            }
            Ok(())
        })
    }

    fn open_writable(&self, open: &mut Open) -> Result<(), StoreError> {
        let opened = match guarded(|| self.medium.open(&builder())) {
            Err(error @ (StoreError::Damaged(_) | StoreError::Panicked)) => {
                let (file, reason) = (self.medium.name(), error.to_string());
                let aside = self.medium.set_aside().map_err(|error| {
                    StoreError::Unavailable(format!("`{file}` is damaged ({reason}) and cannot be renamed: {error}"))
                })?;
                tracing::error!(file, reason, aside, "kept data cannot be used: the file is damaged and was set aside");
                guarded(|| self.medium.open(&builder()))
            }
            opened => opened,
        };
        *open = Open::Writable(Arc::new(opened?));
        Ok(())
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // The database verifies pages when it is opened and trusts them later, so a damaged file would end in panics or in
    // wrong data.
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

/// Calls the database, which may panic if its file was changed after it was opened.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    supervisor::part(TASK, &mut (), |()| None, |()| work()).unwrap_or(Err(StoreError::Panicked))
}
