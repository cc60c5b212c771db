//! The hook `payload-transform`: which flag data do SDKs receive?

use crate::bindings::host::items::ItemSet;
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
    fn transform_payload(&self, facts: &PayloadFacts, changed: &dyn Items) -> Result<Vec<Edit>>;
}

/// Flag data that is available during one call: only the items that a plugin reads are copied.
pub trait Items {
    /// Returns the items that changed, in order; positions are the indexes of [`json`](Self::json) and of edits.
    fn heads(&self) -> Vec<ItemHead>;

    /// Returns the JSON text of the changed item at `index`; needs the grant `flag-data`.
    fn json(&self, index: u32) -> Option<String>;

    /// Returns the index of a changed item.
    fn find(&self, kind: &str, key: &str) -> Option<u32>;

    /// Returns the JSON text of any item of the environment, changed or not; needs the grant `flag-data`.
    fn other(&self, kind: &str, key: &str) -> Option<String>;
}

/// Identifies a changed item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemHead {
    /// Kind of item in the vendor's terms, such as `flag` or `segment`.
    pub kind: String,
    /// Key of the item.
    pub key: String,
    /// Version of the item.
    pub version: u64,
}

/// Facts about a change besides the items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PayloadFacts {
    /// The vendor whose environment this is: `launchdarkly` or `harness`.
    pub vendor: String,
    /// Configured name of the environment.
    pub environment: String,
    /// Reserved for later releases of the host.
    pub extra: Vec<(String, String)>,
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
        json: Vec<u8>,
    },
    /// Serves an item that upstream does not have.
    Add {
        /// Kind of the item in the vendor's terms.
        kind: String,
        /// Key of the item.
        key: String,
        /// JSON text of the whole item.
        json: Vec<u8>,
    },
}

impl Edit {
    /// Hides the changed item at `index`.
    #[must_use]
    pub fn drop(index: u32) -> Self {
        Self::Drop(index)
    }

    /// Serves this JSON text in place of the changed item at `index`.
    pub fn replace(index: u32, json: impl Into<Vec<u8>>) -> Self {
        Self::Replace { index, json: json.into() }
    }

    /// Serves an item that upstream does not have.
    pub fn add(kind: impl Into<String>, key: impl Into<String>, json: impl Into<Vec<u8>>) -> Self {
        Self::Add { kind: kind.into(), key: key.into(), json: json.into() }
    }
}

impl Items for ItemSet {
    fn heads(&self) -> Vec<ItemHead> {
        let heads = ItemSet::heads(self).into_iter();
        heads.map(|head| ItemHead { kind: head.kind, key: head.key, version: head.version }).collect()
    }

    fn json(&self, index: u32) -> Option<String> {
        ItemSet::json(self, index)
    }

    fn find(&self, kind: &str, key: &str) -> Option<u32> {
        ItemSet::find(self, kind, key)
    }

    fn other(&self, kind: &str, key: &str) -> Option<String> {
        ItemSet::other(self, kind, key)
    }
}

impl<P: PayloadTransform + Exported> generated::Guest for Adapter<P> {
    fn transform(
        facts: generated::PayloadFacts,
        changed: &ItemSet,
    ) -> Result<Vec<generated::Edit>, crate::bindings::host::types::PluginError> {
        let facts = PayloadFacts { vendor: facts.vendor, environment: facts.environment, extra: facts.extra };
        let edits = call_plugin(|plugin: &P| plugin.transform_payload(&facts, changed))?;
        Ok(edits.into_iter().map(generated::Edit::from).collect())
    }
}

impl From<Edit> for generated::Edit {
    fn from(edit: Edit) -> Self {
        match edit {
            Edit::Drop(index) => Self::Drop(index),
            Edit::Replace { index, json } => Self::Replace(generated::Replacement { index, json }),
            Edit::Add { kind, key, json } => Self::Add(generated::Addition { kind, key, json }),
        }
    }
}
