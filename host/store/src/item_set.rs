//! A set of items with names, which several programs share.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Place, StoreError};

/// A set of items of bytes with names.
///
/// Every operation completes within seconds, if need be with an error. A change that failed may have been made, in part
/// where the database has no transactions.
#[async_trait]
pub trait ItemSet: Send + Sync + 'static {
    /// Returns the location of the set, for display. The prefix is the name of the set.
    fn place(&self) -> &Place;

    /// Returns all items.
    async fn read(&self) -> Result<Vec<(String, Bytes)>, StoreError>;

    /// Replaces all items. Returns the names of those that are too large for the database, which are left out.
    async fn replace(&self, items: &[(String, Bytes)]) -> Result<Vec<String>, StoreError>;

    /// Writes items, or removes those without content, in this order. Returns the names of those that are too large for the
    /// database, which are left out.
    async fn change(&self, items: &[(String, Option<Bytes>)]) -> Result<Vec<String>, StoreError>;
}
