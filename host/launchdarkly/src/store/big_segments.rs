//! Big Segments: groups too large for flag data, whose members are kept in the database.
//!
//! A [`synchronizer`] brings the database up to date once flag data contains such a segment; a [`lookup`] returns the
//! memberships of a context, for evaluations in the gateway. Without a database there are none.

mod lookup;
mod patch;
mod source;
mod synchronizer;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use yardarm_core::{Lifecycle, Supervised};
use yardarm_launchdarkly_eval::evaluation::{HashedKey, Memberships};
use yardarm_store::Store;

pub(crate) use self::lookup::Freshness;
use self::lookup::MembershipLookup;
use self::source::Source;
use self::synchronizer::Synchronizer;
use super::event::StoreEvent;
use crate::config::Config;
use crate::identity::SdkKey;
use crate::upstream::HttpClients;

/// Gives the key that upstream accepts at this moment.
pub(crate) type CurrentKey = Arc<dyn Fn() -> SdkKey + Send + Sync>;

/// Big Segments of one environment.
pub(crate) struct BigSegments {
    database: Arc<dyn Store>,
    lookup: Arc<MembershipLookup>,
    /// Whether flag data has contained a Big Segment. Never reset.
    has_appeared: watch::Sender<bool>,
}

/// Synchronizes once a Big Segment has appeared.
struct SyncTask {
    appeared: watch::Receiver<bool>,
    synchronizer: Synchronizer,
}

impl Supervised for SyncTask {
    async fn run(&mut self) {
        if self.appeared.wait_for(|it| *it).await.is_ok() {
            self.synchronizer.run().await;
        }
    }
}

impl BigSegments {
    pub(crate) fn new(database: Arc<dyn Store>) -> Self {
        Self {
            lookup: Arc::new(MembershipLookup::new(Arc::clone(&database))),
            database,
            has_appeared: watch::Sender::new(false),
        }
    }

    /// Starts the tasks, which sleep until a Big Segment appears.
    pub(crate) fn start(
        &self,
        key: CurrentKey,
        config: &Config,
        http: &HttpClients,
        sender: mpsc::Sender<StoreEvent>,
        lifecycle: &Lifecycle,
    ) {
        let source = Source::new(http.clone(), config, key);
        let synchronizer =
            Synchronizer::new(Arc::clone(&self.database), source, Arc::clone(&self.lookup), sender, config);
        lifecycle.supervise("big segments", SyncTask { appeared: self.has_appeared.subscribe(), synchronizer });
        let (appeared, lookup) = (self.has_appeared.subscribe(), Arc::clone(&self.lookup));
        lifecycle.supervise("big segment freshness", move || {
            let (mut appeared, lookup) = (appeared.clone(), Arc::clone(&lookup));
            async move {
                if appeared.wait_for(|it| *it).await.is_ok() {
                    lookup.watch().await;
                }
            }
        });
    }

    /// Records that flag data contains a Big Segment.
    pub(crate) fn appear(&self) {
        self.has_appeared.send_if_modified(|it| !std::mem::replace(it, true));
    }

    /// How fresh the memberships are; `None` as long as there is no Big Segment.
    pub(crate) fn freshness(&self) -> Option<Freshness> {
        self.has_appeared.borrow().then(|| self.lookup.freshness())
    }

    /// The memberships of these context keys. Waits for the database, for a second at most.
    pub(crate) async fn memberships(&self, keys: &[HashedKey]) -> Memberships {
        self.lookup.memberships(keys).await
    }
}
