//! Environments and filters from the cache in the database.

use super::{AutoConfigState, Filter, Versioned};
use crate::sources::representation::Representation;

/// An item of the cache.
#[derive(Debug)]
pub(crate) enum CachedItem {
    /// An environment.
    Environment(Box<Representation>),
    /// A payload filter, with its ID.
    Filter(String, Filter),
}

impl AutoConfigState {
    /// Takes what is newer than what is known. Like a restored list, it is replaced by the one that the service sends.
    pub(crate) fn take_cached(&mut self, items: Vec<CachedItem>, now_ms: u64) {
        for item in items {
            match item {
                CachedItem::Environment(representation) => {
                    let id = representation.id.clone();
                    let known = self.environments.get(&id);
                    if known.is_some_and(|it| it.version >= representation.version) {
                        continue;
                    }
                    match representation.settings(None, &self.common, now_ms) {
                        Ok(config) => {
                            let known = Versioned { version: representation.version, item: Some(config) };
                            self.environments.insert(id, known);
                        }
                        Err(error) => tracing::warn!(id, %error, "cached environment cannot be used and is ignored"),
                    }
                }
                CachedItem::Filter(id, filter) => self.upsert_filter(id, filter),
            }
        }
        self.is_restored = true;
        self.expire(now_ms);
    }
}
