//! The payload hook: what do SDKs get to see of the flag data?

use std::sync::Arc;

use bytes::Bytes;

use super::{HookFailure, HookFuture};
use crate::environment::EnvironmentLabel;

/// What a plugin may learn of a change besides the items.
#[derive(Debug, Clone)]
pub struct PayloadFacts {
    /// The environment that the data belongs to.
    pub environment: EnvironmentLabel,
}

/// Names one changed item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemHead {
    /// Kind of item in the vendor's words, such as `flag`.
    pub kind: &'static str,
    /// Key of the item.
    pub key: Arc<str>,
    /// Version of the item.
    pub version: u64,
}

/// The data of one change, read piece by piece: a plugin that is interested in three items costs three items.
pub trait PayloadView: Send + Sync {
    /// The items that changed.
    fn heads(&self) -> &[ItemHead];

    /// JSON text of the changed item at `index`.
    fn json(&self, index: usize) -> Option<Bytes>;

    /// JSON text of any item of the environment.
    fn other(&self, kind: &str, key: &str) -> Option<Bytes>;
}

/// Asks the chain of payload plugins of one environment.
pub trait PayloadTransform: Send + Sync {
    /// Changes whenever a plugin of the chain, its configuration or its place changes, and only then;
    /// the environment is rendered again when it does.
    fn identity(&self) -> u64;

    /// Edits for one change. Indexes are those of the view; a chain's edits are already merged.
    ///
    /// On a failure the caller keeps serving what it served before.
    fn transform<'a>(
        &'a self,
        facts: &'a PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>>;
}

/// One edit of flag data. JSON texts are well-formed objects; vendors check the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadEdit {
    /// Hide the changed item at this index.
    Drop(usize),
    /// Serve this in place of the changed item at this index.
    Replace(usize, Bytes),
    /// Serve this as well.
    Add {
        /// Kind of item in the vendor's words.
        kind: String,
        /// Key of the item.
        key: String,
        /// JSON text of the item.
        json: Bytes,
    },
}
