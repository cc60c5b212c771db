//! Reads all data of an environment from its database.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use yardarm_store::{Store, StoreError};

use super::layout;
use crate::data::Items;

/// Stored items, not parsed yet.
pub(super) struct Stored {
    flags: Vec<(String, Bytes)>,
    segments: Vec<(String, Bytes)>,
}

/// Reads everything; `None` when no complete set has been written yet.
///
/// # Errors
/// When the database cannot be reached, or rejects the request.
pub(super) async fn read(database: &dyn Store) -> Result<Option<Stored>, StoreError> {
    if !database.is_complete().await? {
        return Ok(None);
    }
    let (flags, segments) = (database.read(layout::FLAGS).await?, database.read(layout::SEGMENTS).await?);
    Ok(Some(Stored { flags, segments }))
}

impl Stored {
    /// A digest of the content, independent of order, because databases do not guarantee one.
    pub(super) fn digest(&self) -> u64 {
        fn of(kind: u8, pair: &(String, Bytes)) -> u64 {
            let mut hasher = DefaultHasher::new();
            (kind, pair).hash(&mut hasher);
            hasher.finish()
        }
        let flags = self.flags.iter().map(|it| of(0, it));
        flags.chain(self.segments.iter().map(|it| of(1, it))).fold(0, u64::wrapping_add)
    }

    /// The items; `None` when something is not an item of this version. Parsing runs off the serving
    /// threads.
    pub(super) async fn parse(self) -> Option<Items> {
        yardarm_core::supervisor::blocking("store reader", move || layout::items(self.flags, self.segments))
            .await
            .ok()
            .flatten()
    }
}
