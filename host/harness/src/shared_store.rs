//! The Redis database through which gateways share their data, in the layout of version 2 of the vendor's relay: one of
//! them, the primary, writes what it serves, and read replicas serve from there.

mod events;
mod layout;
mod reading;
mod targets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use yardarm_core::Lifecycle;
use yardarm_store::{RedisTexts, StoreError};

pub(crate) use self::events::{CONTROL_EVENTS, ControlState, ITEM_EVENTS, METRICS, SharedEvent, entry, metrics_entry};
pub(crate) use self::layout::{
    ALL_INVENTORIES, EnvironmentKeys, HEALTH, Inventory, SharedEnvironment, environment_of, hash_of, inventory_key,
    is_asset,
};
pub(crate) use self::reading::{Contents, Known, StoredEnvironment, read};
use self::targets::SharedTargets;
use crate::config::RedisConfig;

/// The database, and whether it works. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SharedStore(Arc<Shared>);

struct Shared {
    texts: RedisTexts,
    targets: SharedTargets,
    /// Number of posts of metrics that the database keeps for the primary.
    metrics_length: usize,
    is_available: AtomicBool,
}

impl SharedStore {
    /// Creates access to the database, and starts the task that writes targets.
    pub(crate) fn start(config: &RedisConfig, lifecycle: &Lifecycle) -> Self {
        let store = Self(Arc::new(Shared {
            texts: RedisTexts::new(&config.address),
            targets: SharedTargets::default(),
            metrics_length: config.metrics_length,
            is_available: AtomicBool::new(true),
        }));
        let task = store.clone();
        lifecycle.supervise("shared targets", move || {
            let store = task.clone();
            async move { store.0.targets.write(&store.0.texts).await }
        });
        store
    }

    pub(crate) fn texts(&self) -> &RedisTexts {
        &self.0.texts
    }

    pub(crate) fn targets(&self) -> &SharedTargets {
        &self.0.targets
    }

    /// Returns the number of posts of metrics that the database keeps.
    pub(crate) fn metrics_length(&self) -> usize {
        self.0.metrics_length
    }

    /// Returns whether the last operation succeeded.
    pub(crate) fn is_available(&self) -> bool {
        self.0.is_available.load(Ordering::Relaxed)
    }

    /// Notes that an operation succeeded; logs the end of an outage.
    pub(crate) fn mark_available(&self) {
        if !self.0.is_available.swap(true, Ordering::Relaxed) {
            tracing::warn!(server = %self.0.texts.server(), "shared Redis is available again");
        }
    }

    /// Notes that an operation failed; logs the beginning of an outage.
    pub(crate) fn mark_failed(&self, error: &StoreError) {
        let (server, trouble) = (self.0.texts.server(), error.trouble().as_str());
        if self.0.is_available.swap(false, Ordering::Relaxed) {
            tracing::warn!(%server, %error, trouble, "shared Redis is unavailable, serving from memory");
        } else {
            tracing::debug!(%server, %error, trouble, "shared Redis is still unavailable");
        }
    }
}
