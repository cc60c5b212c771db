//! Accepted posts of events on disk, from before their response until upstream has their events.
//!
//! The end of the process, however sudden, loses none of them: the next one sends what the last one did not. While
//! upstream does not answer, posts stay on disk only ([`SpoolLane::defer`]), and are read again in the order of their
//! acceptance. A loss of events to the vendor is preferred to none at all: where the disk cannot be written, or the
//! space is used up, posts are kept in memory as if there were no spool.

mod lane;
mod post;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use yardarm_core::budget::{Budget, ByTrust, Trust};
use yardarm_core::data_store::tables::{EVENTS, Table};
use yardarm_core::data_store::{Key, StoreError};
use yardarm_core::time::unix_ms;
use yardarm_core::{DataStore, EnvironmentLabel, InternalError, Secret};

pub use self::lane::SpoolLane;
pub use self::post::{Ack, SpooledPost};
pub use self::record::{Entry, RecordError};
use self::record::{Header, Record};
use crate::persisted::seal::{Seal, SealError};

/// Posts by environment, kind of credential and number.
const POSTS: Table<Record> = EVENTS.of();
/// The same without their content.
const HEADERS: Table<Header> = EVENTS.of();
/// Age above which a post is removed when the spool is opened. Its environment may not exist any more.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The spool of all environments of one vendor. Cheap to clone.
#[derive(Clone)]
pub struct Spool(Arc<Shared>);

struct Shared {
    store: DataStore,
    vendor: &'static str,
    seal: Option<Seal>,
    room: ByTrust<Budget>,
    /// Number of the next post of any lane, so that a lane that is opened again uses no number twice.
    next: AtomicU64,
    /// What an earlier process left, by lane, until the lane is opened.
    left: Mutex<BTreeMap<Key, Vec<(u64, Header)>>>,
}

/// Why the spool, or a post in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be derived.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A post cannot be encrypted.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Reading has panicked.
    #[error(transparent)]
    Internal(#[from] InternalError),
}

impl Spool {
    /// Creates the spool of `vendor` for at most `size` bytes: half for secret credentials, a quarter each for the others.
    /// With `key`, a generated secret, posts are encrypted. Posts of more than a week ago are removed. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(store: DataStore, vendor: &'static str, size: u64, key: Option<&Secret>) -> Result<Self, SpoolError> {
        let seal = key.map(|key| Seal::new(key, "events")).transpose()?;
        let room = Budget::by_trust(usize::try_from(size).unwrap_or(usize::MAX));
        let left = read_left(&store, vendor)?;
        let last = left.values().flatten().map(|(number, _)| *number).max();
        let next = AtomicU64::new(last.map_or(0, |last| last + 1));
        Ok(Self(Arc::new(Shared { store, vendor, seal, room, next, left: Mutex::new(left) })))
    }

    /// Opens the lane for one kind of credential of an environment. When it is opened first, the posts that an earlier process
    /// left wait in it.
    #[must_use]
    pub fn lane(&self, label: &EnvironmentLabel, trust: Trust) -> Arc<SpoolLane> {
        let scope = Key::of(&[self.0.vendor, &**label.name(), name_of(trust)]);
        let left = self.0.left.lock().remove(&scope).unwrap_or_default();
        SpoolLane::open(Arc::clone(&self.0), scope, self.0.room.get(trust).account(), left)
    }
}

/// Reads what an earlier process left, by lane and in order, and removes what is too old. Blocks.
fn read_left(store: &DataStore, vendor: &str) -> Result<BTreeMap<Key, Vec<(u64, Header)>>, SpoolError> {
    let oldest = unix_ms().saturating_sub(u64::try_from(MAX_AGE.as_millis()).unwrap_or(u64::MAX));
    let (mut left, mut old, mut events) = (BTreeMap::<_, Vec<_>>::new(), Vec::new(), 0);
    store.read(HEADERS, &Key::of(&[vendor]), |record| {
        let header = record.value.unwrap_or_default();
        let number = record.key.split_last().and_then(|(last, scope)| Some((<[u8; 8]>::try_from(*last).ok()?, scope)));
        match number {
            Some((number, scope)) if header.at_ms >= oldest => {
                left.entry(Key::of(scope)).or_default().push((u64::from_be_bytes(number), header));
            }
            _ => {
                events += header.events;
                old.push(Key::of(record.key));
            }
        }
    })?;
    if !old.is_empty() {
        tracing::warn!(events, posts = old.len(), "events that have waited on disk for more than a week were dropped");
    }
    // A record that cannot be removed now is found again at the next start.
    old.iter().try_for_each(|key| store.remove(POSTS, key))?;
    Ok(left)
}

fn name_of(trust: Trust) -> &'static str {
    match trust {
        Trust::Secret => "secret",
        Trust::Embedded => "embedded",
        Trust::Public => "public",
    }
}

#[cfg(test)]
mod tests;
