//! Flags, segments and targets of one environment: as they are received, served, and persisted.

pub(crate) mod dataset;
mod item_list;
pub(crate) mod items;
mod payload;
pub(crate) mod persisted;
pub(crate) mod received;
pub(crate) mod targets;
