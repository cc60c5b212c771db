//! A simulated disk: what is not flushed may be lost in any part, and any write may fail.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::{Builder, Database, StorageBackend};

use crate::data_store::error::StoreError;
use crate::data_store::medium::Medium;

/// The unit that a disk writes completely or not at all.
const SECTOR: usize = 512;

/// A disk, which survives the databases on it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What the process reads back.
    present: Vec<u8>,
    /// What is on the disk for certain.
    flushed: Vec<u8>,
    /// Changes since the last flush.
    unflushed: Vec<Change>,
    /// Number of changes and flushes until the disk fails; `None` is never.
    remaining: Option<u64>,
    /// Number of databases that were set aside.
    set_aside: usize,
    /// Number of times the database was opened.
    opened: usize,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

impl Disk {
    /// Lets the disk fail after this number of changes and flushes, or never.
    pub(super) fn fail_after(&self, remaining: Option<u64>) {
        self.0.lock().remaining = remaining;
    }

    /// Ends the process, or cuts the power: changes that were not flushed are lost in an arbitrary part, which `seed`
    /// determines.
    pub(super) fn crash(&self, seed: u64) {
        let mut state = self.0.lock();
        let mut bytes = state.flushed.clone();
        for (index, change) in std::mem::take(&mut state.unflushed).into_iter().enumerate() {
            match change {
                Change::Resize(len) if is_kept(seed, index, 0) => bytes.resize(usize::try_from(len).unwrap(), 0),
                Change::Resize(_) => (),
                Change::Write(offset, data) => {
                    let mut position = usize::try_from(offset).unwrap();
                    for part in data.chunks(SECTOR) {
                        if is_kept(seed, index, position) {
                            bytes.resize(bytes.len().max(position + part.len()), 0);
                            bytes[position..position + part.len()].copy_from_slice(part);
                        }
                        position += part.len();
                    }
                }
            }
        }
        (state.present, state.flushed, state.remaining) = (bytes.clone(), bytes, None);
    }

    pub(super) fn set_aside(&self) -> usize {
        self.0.lock().set_aside
    }

    pub(super) fn opened(&self) -> usize {
        self.0.lock().opened
    }
}

fn is_kept(seed: u64, index: usize, position: usize) -> bool {
    let mut hasher = DefaultHasher::new();
    (seed, index, position).hash(&mut hasher);
    // Some crashes lose nothing, and some everything.
    match seed % 8 {
        0 => false,
        1 => true,
        _ => hasher.finish().is_multiple_of(2),
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.remaining {
            Some(0) => Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())),
            Some(remaining) => {
                *remaining -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().present.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, offset) = (self.0.lock(), usize::try_from(offset).unwrap());
        let read = state.present.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.present.resize(usize::try_from(len).unwrap(), 0);
        state.unflushed.push(Change::Resize(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.flushed = state.present.clone();
        state.unflushed.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let start = usize::try_from(offset).unwrap();
        let end = start + data.len();
        if state.present.len() < end {
            state.present.resize(end, 0);
        }
        state.present[start..end].copy_from_slice(data);
        state.unflushed.push(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

impl Medium for Disk {
    fn open(&self, builder: &Builder) -> Result<Database, StoreError> {
        self.0.lock().opened += 1;
        Ok(builder.create_with_backend(self.clone())?)
    }

    fn open_read_only(&self, _: &Builder) -> Result<Database, StoreError> {
        Err(StoreError::Unavailable("not supported".into()))
    }

    fn is_current(&self) -> bool {
        true
    }

    fn set_aside(&self) -> io::Result<String> {
        let mut state = self.0.lock();
        state.set_aside += 1;
        (state.present, state.flushed) = (Vec::new(), Vec::new());
        state.unflushed.clear();
        Ok("aside".into())
    }

    fn name(&self) -> String {
        "simulated".into()
    }
}
