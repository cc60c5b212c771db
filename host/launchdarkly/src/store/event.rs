//! Events of a store's tasks.

use crate::data::{Item, Items};

/// What a store's tasks have to say to the applier.
pub(crate) enum StoreEvent {
    /// What an earlier process wrote, or another one that shares the database.
    Stored(Items),
    /// What other gateways wrote since upstream was lost: items that are newer than those that are known.
    Newer(Vec<Item>),
    /// Members of Big Segments have changed.
    SegmentsChanged,
}
