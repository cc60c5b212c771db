//! Records of last good data, and secret values that are sealed before they are stored.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use yardarm_core::data_store::tables::{ITEMS, Table};

pub mod seal;

/// An item as it is stored.
#[derive(Serialize, Deserialize)]
pub struct SavedItem<'a> {
    /// The version by upstream's count.
    pub version: i64,
    /// The item as upstream sent it; `None` for a deleted item.
    pub json: Option<Cow<'a, str>>,
    /// What the vendor's side knows of the item and need not find out again, as JSON. A version that cannot read it does
    /// without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Cow<'a, str>>,
}

/// Items by environment, kind and key.
pub const SAVED_ITEMS: Table<SavedItem<'static>> = ITEMS.of();
