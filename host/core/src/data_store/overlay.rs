//! A storage that can be read and whose changes stay in memory, for a file that cannot be written.
//!
//! The database writes a few pages whenever it is opened, and more when it repairs the file after a crash. Over this
//! storage it can do so on a disk that is full or read-only, and the last good data can be read.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use parking_lot::Mutex;
use redb::StorageBackend;

/// Size of the pieces that are held in memory.
const PAGE: usize = 4096;

/// A storage and the pages that differ from it.
#[derive(Debug)]
pub(super) struct Overlay<B> {
    below: B,
    changed: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    len: u64,
    /// Number of bytes below that still count; zeros follow.
    below_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl<B: StorageBackend> Overlay<B> {
    pub(super) fn new(below: B) -> io::Result<Self> {
        let len = below.len()?;
        Ok(Self { below, changed: Mutex::new(Changed { len, below_len: len, pages: BTreeMap::new() }) })
    }

    /// Reads a page from below, where the first `below_len` bytes count.
    fn below(&self, page: u64, below_len: u64) -> io::Result<Box<[u8; PAGE]>> {
        let mut bytes = Box::new([0; PAGE]);
        let start = page * PAGE as u64;
        let available = below_len.saturating_sub(start).min(PAGE as u64);
        if let Some(part) =
            usize::try_from(available).ok().and_then(|it| bytes.get_mut(..it)).filter(|it| !it.is_empty())
        {
            self.below.read(start, part)?;
        }
        Ok(bytes)
    }
}

/// Splits a range of bytes at the borders of pages: page, offset in it, number of bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let position = offset + done as u64;
        let within = usize::try_from(position % PAGE as u64).unwrap_or(0);
        let size = (PAGE - within).min(length - done);
        done += size;
        (size > 0).then_some((position / PAGE as u64, within, size))
    })
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changed.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changed = self.changed.lock();
        if offset.saturating_add(out.len() as u64) > changed.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (page, within, size) in pieces(offset, rest.len()) {
            let (piece, after) = rest.split_at_mut(size);
            match changed.pages.get(&page) {
                Some(bytes) => piece.copy_from_slice(&bytes[within..within + size]),
                None => piece.copy_from_slice(&self.below(page, changed.below_len)?[within..within + size]),
            }
            rest = after;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changed = self.changed.lock();
        // What is cut off is zero if the storage grows again.
        changed.below_len = changed.below_len.min(len);
        let (last, kept) = (len / PAGE as u64, usize::try_from(len % PAGE as u64).unwrap_or(0));
        changed.pages.retain(|page, _| *page <= last);
        if let Some(bytes) = changed.pages.get_mut(&last) {
            bytes[kept..].fill(0);
        }
        changed.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changed = self.changed.lock();
        changed.len = changed.len.max(offset + data.len() as u64);
        let mut rest = data;
        for (page, within, size) in pieces(offset, rest.len()) {
            let (piece, after) = rest.split_at(size);
            if !changed.pages.contains_key(&page) {
                let bytes = self.below(page, changed.below_len)?;
                changed.pages.insert(page, bytes);
            }
            if let Some(bytes) = changed.pages.get_mut(&page) {
                bytes[within..within + size].copy_from_slice(piece);
            }
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Resize(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let write =
            (0..20_000_u64, prop::collection::vec(any::<u8>(), 1..9_000)).prop_map(|(at, it)| Step::Write(at, it));
        prop_oneof![3 => write, 1 => (0..30_000_u64).prop_map(Step::Resize)]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_file_and_leaves_what_is_below_unchanged(before: Vec<u8>, steps in prop::collection::vec(step(), 0..12)) {
            let below = InMemoryBackend::new();
            below.set_len(before.len() as u64).unwrap();
            below.write(0, &before).unwrap();
            let overlay = Overlay::new(below).unwrap();
            let mut expected = before.clone();
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        let end = usize::try_from(at).unwrap() + bytes.len();
                        if expected.len() < end {
                            expected.resize(end, 0);
                            overlay.set_len(end as u64).unwrap();
                        }
                        expected[end - bytes.len()..end].copy_from_slice(&bytes);
                        overlay.write(at, &bytes).unwrap();
                    }
                    Step::Resize(len) => {
                        expected.resize(usize::try_from(len).unwrap(), 0);
                        overlay.set_len(len).unwrap();
                    }
                }
                let mut read = vec![1; expected.len()];
                overlay.read(0, &mut read).unwrap();
                prop_assert!(read == expected);
            }
            let mut kept = vec![1; before.len()];
            overlay.below.read(0, &mut kept).unwrap();
            prop_assert_eq!(kept, before);
            prop_assert!(overlay.read(expected.len() as u64, &mut [0]).is_err());
        }
    }
}
