//! The persistent store of an environment: data from upstream in a database that other programs read too.
//!
//! SDKs are always served from memory, so a failing database affects none of them. A task ([`writer`]) takes applied
//! changes from a bounded [`write_queue`] and writes them. While upstream cannot be reached, a [`follower`] reads what
//! other gateways write. The layout of keys and values is LaunchDarkly's ([`layout`]), because server-side SDKs in daemon
//! mode read the same database.

pub(crate) mod big_segments;
pub(crate) mod content;
mod event;
#[cfg(test)]
pub(crate) mod fake;
mod follower;
mod layout;
mod reading;
mod status;
mod write_queue;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use yardarm_core::Lifecycle;
use yardarm_core::status::Status;
use yardarm_launchdarkly_eval::model::Segment;
use yardarm_store::{Consul, ItemSet, Place, Redis, RedisItems, Store};
#[cfg(feature = "dynamodb")]
use yardarm_store::{DynamoDb, DynamoDbItems};

use self::big_segments::{BigSegments, CurrentKey};
pub(crate) use self::event::StoreEvent;
use self::follower::Follower;
use self::layout::LAYOUT;
pub(crate) use self::status::{StoreStatus, advice};
use self::write_queue::WriteQueue;
use self::writer::{StoreTask, Writer};
use crate::config::{Config, DatabaseConfig, EnvironmentConfig, EnvironmentSource, StoreConfig};
use crate::data::{Change, Item, Items};
use crate::upstream::HttpClients;

/// Capacity of the channel to the applier: at most one full set and a few notifications, of which one suffices.
const EVENTS: usize = 4;

/// The reading side of an environment's database, for requests and operators.
pub(crate) struct EnvironmentStore {
    database: Arc<dyn Store>,
    pub(crate) status: StoreStatus,
    /// `None` in databases that cannot hold them.
    pub(crate) big_segments: Option<BigSegments>,
    /// Whether it is still unknown if the database holds data to serve.
    is_unread: AtomicBool,
}

/// The applier's side.
pub(crate) struct StoreLink {
    store: Arc<EnvironmentStore>,
    queue: Arc<WriteQueue>,
    events: mpsc::Receiver<StoreEvent>,
}

impl EnvironmentStore {
    /// The database of an environment or of a filtered variant; `None` where none is configured. Connects to nothing.
    pub(crate) fn open(config: &StoreConfig, settings: &EnvironmentConfig, filter: &str) -> Option<Arc<Self>> {
        let database = config.database.as_ref()?;
        let part = database.part(settings, filter);
        let store: Arc<dyn Store> = match database {
            DatabaseConfig::Redis(address) => Arc::new(Redis::new(address, &part.prefix, LAYOUT)),
            DatabaseConfig::Consul(address) => Arc::new(Consul::new(address, &part.prefix, LAYOUT)),
            #[cfg(feature = "dynamodb")]
            DatabaseConfig::DynamoDb { address, .. } => {
                Arc::new(DynamoDb::new(address, &part.table, &part.prefix, LAYOUT))
            }
        };
        Some(Arc::new(Self::new(store)))
    }

    fn new(database: Arc<dyn Store>) -> Self {
        Self {
            big_segments: database.has_memberships().then(|| BigSegments::new(Arc::clone(&database))),
            status: StoreStatus::new(),
            is_unread: AtomicBool::new(true),
            database,
        }
    }

    /// Whether it is still unknown if the database holds data to serve. That takes seconds at most.
    pub(crate) fn is_unread(&self) -> bool {
        self.is_unread.load(Ordering::Relaxed)
    }

    /// Marks the database as read: it holds nothing, it cannot be read, or its data is served.
    fn mark_restored(&self) {
        self.is_unread.store(false, Ordering::Relaxed);
    }

    /// Address, table and prefix in the database.
    pub(crate) fn place(&self) -> &Place {
        self.database.place()
    }
}

/// The set of items of a name; `None` without a database that has sets. Connects to nothing.
pub(crate) fn open_item_set(config: &StoreConfig, name: &str) -> Option<Arc<dyn ItemSet>> {
    match config.database.as_ref()? {
        DatabaseConfig::Redis(address) => Some(Arc::new(RedisItems::new(address, name))),
        DatabaseConfig::Consul(_) => None,
        #[cfg(feature = "dynamodb")]
        DatabaseConfig::DynamoDb { address, table } => {
            Some(Arc::new(DynamoDbItems::new(address, table.as_deref()?, name)))
        }
    }
}

/// The environment of a store, for its tasks.
pub(crate) struct StoreContext<'a> {
    /// State of the connection to upstream.
    pub(crate) upstream: &'a Status,
    /// Gives the key that upstream accepts at this moment.
    pub(crate) key: CurrentKey,
    pub(crate) config: &'a Config,
    pub(crate) http: &'a HttpClients,
    pub(crate) lifecycle: &'a Lifecycle,
}

/// Starts the tasks of an environment's store. With `may_restore`, data in the database is sent to the applier as long as
/// there is nothing newer.
pub(crate) fn start(store: Arc<EnvironmentStore>, context: StoreContext<'_>, may_restore: bool) -> StoreLink {
    let StoreContext { upstream, key, config, http, lifecycle } = context;
    let (sender, events) = mpsc::channel(EVENTS);
    let queue = Arc::new(WriteQueue::default());
    let writer = Writer {
        store: Arc::clone(&store),
        queue: Arc::clone(&queue),
        events: sender.clone(),
        upstream: upstream.clone(),
        check_interval: config.store.check_interval,
    };
    // Graceful: the last change before the end of the process is still written.
    lifecycle.supervise_graceful("store writer", StoreTask::new(writer, may_restore, lifecycle.token().clone()));
    // In offline mode the archive is the only source, and nothing is sent to LaunchDarkly.
    let is_offline = matches!(config.environments, EnvironmentSource::Offline { .. });
    if !is_offline {
        let follower = Follower {
            store: Arc::clone(&store),
            queue: Arc::clone(&queue),
            events: sender.clone(),
            upstream: upstream.clone(),
            poll_interval: config.store.poll_interval,
        };
        lifecycle.supervise("store follower", follower);
        if let Some(big_segments) = &store.big_segments {
            big_segments.start(key, config, http, sender, lifecycle);
        }
    }
    StoreLink { store, queue, events }
}

impl StoreLink {
    /// Queues a change from upstream to be written. `items` is all data with the change.
    pub(crate) fn applied(&self, change: &Change, items: Items) {
        match change {
            Change::Put(_) => {
                self.look_for_big_segments(&items);
                self.queue.put(items);
            }
            Change::Patch(item) => self.item_applied(item, items),
            Change::Group(changed) => changed.iter().for_each(|it| self.item_applied(it, items.clone())),
            Change::SegmentsChanged => (),
        }
    }

    fn item_applied(&self, item: &Item, items: Items) {
        if matches!(item, Item::Segment(segment) if is_big(segment)) {
            self.expect_big_segments();
        }
        // An old version does not change the database either.
        if items.version_of(item) == Some(item.version()) {
            self.queue.patch(item.clone(), items);
        }
    }

    /// Marks the data in the database as served, or as not needed.
    pub(crate) fn mark_restored(&self) {
        self.store.mark_restored();
    }

    /// Records data that did not come from upstream. It is written only into an empty database.
    pub(crate) fn restored(&self, items: Items) {
        self.look_for_big_segments(&items);
        self.queue.restored(items);
    }

    /// Records items that other gateways wrote into the database. They are not written back.
    pub(crate) fn taken_over(&self, items: Items) {
        self.look_for_big_segments(&items);
        self.queue.taken_over(items);
    }

    /// Receives the next event of the store's tasks. Cancel-safe.
    pub(crate) async fn recv_event(&mut self) -> StoreEvent {
        match self.events.recv().await {
            Some(store_event) => store_event,
            None => std::future::pending().await,
        }
    }

    fn look_for_big_segments(&self, items: &Items) {
        if items.segments.iter().any(|it| is_big(it)) {
            self.expect_big_segments();
        }
    }

    fn expect_big_segments(&self) {
        if let Some(big_segments) = &self.store.big_segments {
            big_segments.appear();
        }
    }
}

fn is_big(segment: &Segment) -> bool {
    segment.is_unbounded() && !segment.is_deleted()
}
