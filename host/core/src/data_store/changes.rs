//! Changes of one transaction.

use std::ops::Bound;

use redb::WriteTransaction;
use serde::Serialize;

use super::database::definition;
use super::error::StoreError;
use super::key::Key;
use super::tables::Table;

type OpenTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// The changes that are committed together. The first failure is retained, and nothing is written after it.
pub struct Changes<'t> {
    transaction: &'t WriteTransaction,
    tables: Vec<(&'static str, OpenTable<'t>)>,
    buffer: Vec<u8>,
    count: usize,
    outcome: Result<(), StoreError>,
}

impl<'t> Changes<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction) -> Self {
        Self { transaction, tables: Vec::new(), buffer: Vec::new(), count: 0, outcome: Ok(()) }
    }

    /// Writes a record, in place of the one with this key.
    pub fn put<V: Serialize>(&mut self, table: Table<V>, key: &Key, value: &V) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        match rmp_serde::encode::write_named(&mut buffer, value) {
            Ok(()) => self.put_encoded(table.name(), key.bytes(), &buffer),
            Err(error) => self.change(|_| Err(error.into())),
        }
        self.buffer = buffer;
    }

    /// Removes a record, if there is one.
    pub fn remove<V>(&mut self, table: Table<V>, key: &Key) {
        self.remove_encoded(table.name(), key.bytes());
    }

    /// Removes all records whose keys begin with the parts of `prefix`.
    pub fn remove_all<V>(&mut self, table: Table<V>, prefix: &Key) {
        self.change(|this| {
            let (start, end) = prefix.range();
            let table = this.table(table.name())?;
            let mut removed = 0;
            table.retain_in::<&[u8], _>(
                (start, end.as_deref().map_or(Bound::Unbounded, Bound::Excluded)),
                |_, _| {
                    removed += 1;
                    false
                },
            )?;
            this.count += removed;
            Ok(())
        });
    }

    pub(super) fn put_encoded(&mut self, table: &'static str, key: &[u8], value: &[u8]) {
        self.change(|this| {
            this.table(table)?.insert(key, value)?;
            this.count += 1;
            Ok(())
        });
    }

    pub(super) fn remove_encoded(&mut self, table: &'static str, key: &[u8]) {
        self.change(|this| {
            let is_removed = this.table(table)?.remove(key)?.is_some();
            this.count += usize::from(is_removed);
            Ok(())
        });
    }

    /// Returns the number of changes.
    pub(super) fn finish(self) -> Result<usize, StoreError> {
        self.outcome.map(|()| self.count)
    }

    fn change(&mut self, change: impl FnOnce(&mut Self) -> Result<(), StoreError>) {
        if self.outcome.is_ok() {
            self.outcome = change(self);
        }
    }

    fn table(&mut self, name: &'static str) -> Result<&mut OpenTable<'t>, StoreError> {
        let index = match self.tables.iter().position(|(it, _)| *it == name) {
            Some(index) => index,
            None => {
                self.tables.push((name, self.transaction.open_table(definition(name))?));
                self.tables.len() - 1
            }
        };
        Ok(&mut self.tables[index].1)
    }
}
