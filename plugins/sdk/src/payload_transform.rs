//! The hook `payload-transform`: which flag data do SDKs receive?

use crate::bindings::host::items::{Head, ItemSet};
use crate::bindings::host::types;
use crate::bindings::payload_transform as generated;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, Result};

/// Edits flag data before it is served, once per change and environment and never per client.
///
/// Must be pure: the same input returns the same edits.
pub trait PayloadTransform: Plugin {
    /// Returns the edits of a change, at most one per changed item. Other items are served unchanged.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies; by default SDKs keep the previous data.
    fn transform_payload(&self, items: &dyn Items) -> Result<Vec<Edit>>;
}

/// Flag data that is available during one call: only the items that a plugin reads are copied.
pub trait Items {
    /// Returns the vendor whose environment this is: `launchdarkly` or `harness`.
    fn vendor(&self) -> String;

    /// Returns the configured name of the environment.
    fn environment(&self) -> String;

    /// Returns the items that changed, in order; positions are the indexes of [`get`](Self::get) and of edits.
    fn changed(&self) -> Vec<ItemHead>;

    /// Returns the JSON text of the changed item at `index`; `None` if it was deleted. Needs the grant `flag-data`.
    fn get(&self, index: u32) -> Option<String>;

    /// Returns the index of a changed item.
    fn find(&self, kind: &str, key: &str) -> Option<u32>;

    /// Returns the JSON text of any item of the environment, changed or not; needs the grant `flag-data`. The plugin is
    /// called again with all items when an item that it has read this way changes.
    fn other(&self, kind: &str, key: &str) -> Option<String>;

    /// Returns the keys of all items of a kind, in order. The plugin is called again with all items when an item of this
    /// kind is added or deleted.
    fn list(&self, kind: &str) -> Vec<String>;
}

/// Identifies a changed item.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemHead {
    /// Kind of item: `flag` or `segment`.
    pub kind: String,
    /// Key of the item.
    pub key: String,
    /// Version of the item.
    pub version: u64,
    /// Whether the item was deleted; such an item has no JSON text.
    pub is_deleted: bool,
}

/// An edit of flag data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Hides the changed item at this index.
    Drop(u32),
    /// Serves another item in place of a changed one.
    Replace {
        /// Index of the item.
        index: u32,
        /// JSON text of the whole item; key and version must be unchanged.
        body: Vec<u8>,
    },
    /// Serves an item that upstream does not have.
    Add {
        /// Kind of the item in the vendor's terms.
        kind: String,
        /// Key of the item.
        key: String,
        /// JSON text of the whole item.
        body: Vec<u8>,
        /// Index of the changed item that this one is derived from, and with which it goes.
        derived_from: Option<u32>,
    },
}

impl Edit {
    /// Hides the changed item at `index`.
    #[must_use]
    pub fn drop(index: u32) -> Self {
        Self::Drop(index)
    }

    /// Serves this JSON text in place of the changed item at `index`.
    pub fn replace(index: u32, body: impl Into<Vec<u8>>) -> Self {
        Self::Replace { index, body: body.into() }
    }

    /// Serves an item that upstream does not have.
    pub fn add(kind: impl Into<String>, key: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::Add { kind: kind.into(), key: key.into(), body: body.into(), derived_from: None }
    }

    /// Derives an added item from the changed item at `index`: it is withdrawn once that one is deleted, or changes and
    /// the plugin does not add it again. Does nothing to other edits.
    #[must_use]
    pub fn derived_from(mut self, index: u32) -> Self {
        if let Self::Add { derived_from, .. } = &mut self {
            *derived_from = Some(index);
        }
        self
    }
}

impl Items for ItemSet {
    fn vendor(&self) -> String {
        Self::vendor(self)
    }

    fn environment(&self) -> String {
        Self::environment(self)
    }

    fn changed(&self) -> Vec<ItemHead> {
        let head =
            |head: Head| ItemHead { kind: head.kind, key: head.key, version: head.version, is_deleted: head.deleted };
        Self::changed(self).into_iter().map(head).collect()
    }

    fn get(&self, index: u32) -> Option<String> {
        Self::get(self, index)
    }

    fn find(&self, kind: &str, key: &str) -> Option<u32> {
        Self::find(self, kind, key)
    }

    fn other(&self, kind: &str, key: &str) -> Option<String> {
        Self::other(self, kind, key)
    }

    fn list(&self, kind: &str) -> Vec<String> {
        Self::list(self, kind)
    }
}

impl<P: PayloadTransform + Exported> generated::Guest for Adapter<P> {
    fn transform(items: ItemSet) -> Result<Vec<generated::Edit>, types::PluginError> {
        let edits = call_plugin(|plugin: &P| plugin.transform_payload(&items))?;
        Ok(edits.into_iter().map(generated::Edit::from).collect())
    }
}

impl From<Edit> for generated::Edit {
    fn from(edit: Edit) -> Self {
        match edit {
            Edit::Drop(index) => Self::Drop(index),
            Edit::Replace { index, body } => Self::Replace(generated::Replacement { index, body }),
            Edit::Add { kind, key, body, derived_from } => {
                Self::Add(generated::Addition { kind, key, body, derived_from })
            }
        }
    }
}
