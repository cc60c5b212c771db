//! The payload hook: which flag data do SDKs receive?

use std::sync::Arc;

use bytes::Bytes;

use super::{HookFailure, HookFuture};
use crate::label::EnvironmentLabel;

/// Facts about a change that plugins may read besides the items.
#[derive(Debug, Clone)]
pub struct PayloadFacts {
    /// The environment that the data belongs to.
    pub environment: EnvironmentLabel,
}

/// Names one changed item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemHead {
    /// Kind of item in the vendor's terms, such as `flag`.
    pub kind: &'static str,
    /// Key of the item.
    pub key: Arc<str>,
    /// Version of the item.
    pub version: u64,
    /// Whether the item was deleted; such an item has no JSON text.
    pub is_deleted: bool,
}

/// The data of one change, read item by item: a plugin that reads three items pays for three items.
pub trait PayloadView: Send + Sync {
    /// Returns the items that changed.
    fn heads(&self) -> &[ItemHead];

    /// Returns the JSON text of the changed item at `index`.
    fn json(&self, index: usize) -> Option<Bytes>;

    /// Returns the JSON text of any item of the environment.
    fn other(&self, kind: &str, key: &str) -> Option<Bytes>;

    /// Returns the keys of all items of a kind, in order.
    fn list(&self, kind: &str) -> Vec<Arc<str>>;
}

/// Calls the chain of payload plugins of one environment.
pub trait PayloadTransform: Send + Sync {
    /// Returns a number that changes if and only if a plugin of the chain, its configuration or its position changes;
    /// the environment is then rendered again.
    fn identity(&self) -> u64;

    /// Returns the edits for one change. Indexes refer to the view; the edits of a chain are already merged.
    ///
    /// On a failure the caller keeps serving the previous data.
    fn transform<'a>(
        &'a self,
        facts: &'a PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>>;
}

/// One edit of flag data. JSON texts are well-formed objects; vendors validate the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadEdit {
    /// Hide the changed item at this index.
    Drop(usize),
    /// Serve this in place of the changed item at this index.
    Replace(usize, Bytes),
    /// Serve this item in addition.
    Add {
        /// Kind of item in the vendor's terms.
        kind: String,
        /// Key of the item.
        key: String,
        /// JSON text of the item.
        json: Bytes,
        /// Index of the changed item that it is derived from.
        derived_from: Option<usize>,
    },
}
