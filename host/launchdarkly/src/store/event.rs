//! Events of a store's tasks.

use crate::data::{Item, Items};

/// An event of a store's tasks for the applier.
pub(crate) enum StoreEvent {
    /// Data that an earlier process wrote, or another gateway that shares the database.
    Stored(Items),
    /// Items that other gateways wrote while upstream could not be reached, and that are newer than those that are served.
    Newer(Vec<Item>),
    /// Memberships in Big Segments have changed.
    SegmentsChanged,
}
