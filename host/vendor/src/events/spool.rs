//! Accepted posts of events on disk, from before their response until upstream has their events.
//!
//! The end of the process, however sudden, loses none of them: the next one sends what the last one did not. While
//! upstream does not answer, posts stay on disk only ([`SpoolLane::defer`]), and are read again in the order of their
//! acceptance. A loss of events to the vendor is preferred to none at all: where the disk cannot be written, or the
//! space is used up, posts are kept in memory as if there were no spool.

mod lane;
mod post;
mod record;

use std::sync::Arc;
use std::time::Duration;

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
/// Age above which a post is dropped when the spool is opened: nobody waits for its events any more, and the environment
/// may not exist any more.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The spool of all environments of one vendor. Cheap to clone.
#[derive(Clone)]
pub struct Spool(Arc<Shared>);

struct Shared {
    store: DataStore,
    vendor: &'static str,
    seal: Option<Seal>,
    room: ByTrust<Budget>,
}

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key cannot be derived.
    #[error(transparent)]
    Seal(#[from] SealError),
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
        let spool = Self(Arc::new(Shared { store, vendor, seal, room }));
        spool.0.remove_old()?;
        Ok(spool)
    }

    /// Opens the lane for one kind of credential of an environment. Posts that an earlier process left wait in it. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn lane(&self, label: &EnvironmentLabel, trust: Trust) -> Result<Arc<SpoolLane>, SpoolError> {
        let scope = Key::of(&[self.0.vendor, &**label.name(), name_of(trust)]);
        SpoolLane::open(Arc::clone(&self.0), scope, self.0.room.get(trust).account())
    }
}

impl Shared {
    fn remove_old(&self) -> Result<(), SpoolError> {
        let oldest = unix_ms().saturating_sub(u64::try_from(MAX_AGE.as_millis()).unwrap_or(u64::MAX));
        let (mut old, mut events) = (Vec::new(), 0);
        self.store.read(HEADERS, &Key::of(&[self.vendor]), |record| {
            let header = record.value.unwrap_or_default();
            if header.at_ms < oldest {
                events += header.events;
                old.push(Key::of(record.key));
            }
        })?;
        if !old.is_empty() {
            tracing::warn!(
                events,
                posts = old.len(),
                "events that have waited on disk for more than a week were dropped"
            );
        }
        // A record that cannot be removed now is found again at the next start.
        old.iter().try_for_each(|key| self.store.remove(POSTS, key)).map_err(SpoolError::from)
    }
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
