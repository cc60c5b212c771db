//! Flag data: items and changes, and how they are parsed, rendered and persisted.

mod dataset;
pub(crate) mod fdv2;
pub(crate) mod item_changes;
pub(crate) mod item_map;
mod items;
pub(crate) mod message;
pub(crate) mod persistence;
pub(crate) mod render;
mod state;
pub(crate) mod transfer;

pub(crate) use self::dataset::FlagData;
pub(crate) use self::items::{Change, Channel, Item, ItemKind, Items};
pub(crate) use self::state::DataState;
