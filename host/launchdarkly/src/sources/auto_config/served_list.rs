//! The list of environments as it is served: received, reconciled, persisted, and freed of expired credentials.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use yardarm_core::data_store::TrackedState;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::status::Status;
use yardarm_core::time::unix_ms;
use yardarm_fleet::Publisher;
use yardarm_vendor::persisted::seal::Seal;

use crate::sources::assembly::EnvironmentAssembly;
use crate::sources::auto_config_state::{AutoConfigState, CachedItem};
use crate::sources::persisted_list::PersistedList;
use crate::sources::shared_list::SharedList;

/// The list, with the environments that are started from it.
pub(super) struct ServedList {
    pub(super) state: AutoConfigState,
    pub(super) assembly: EnvironmentAssembly,
    /// Persists the list, if there is a data folder.
    pub(super) persisted: Option<TrackedState<Option<PersistedList>>>,
    /// Publishes the list to other gateways, with its seal.
    pub(super) publisher: Option<(Publisher<SharedList>, Seal)>,
    /// Where every list from LaunchDarkly goes to be cached in the database.
    pub(super) cache: Option<watch::Sender<Option<PersistedList>>>,
    /// The cached list, until it arrives or is no longer needed.
    pub(super) cached: Option<oneshot::Receiver<Vec<CachedItem>>>,
    /// State of the stream, for operators.
    pub(super) status: Status,
    /// Holds readiness back until the list is known.
    pub(super) unlisted: Option<ReadyLatch>,
    cleanup: Interval,
}

impl ServedList {
    /// A list whose expired credentials are removed every `cleanup_interval`.
    pub(super) fn new(
        state: AutoConfigState,
        assembly: EnvironmentAssembly,
        (status, unlisted): (Status, ReadyLatch),
        cleanup_interval: Duration,
    ) -> Self {
        let mut cleanup = tokio::time::interval_at(Instant::now() + cleanup_interval, cleanup_interval);
        cleanup.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            state,
            assembly,
            persisted: None,
            publisher: None,
            cache: None,
            cached: None,
            status,
            unlisted: Some(unlisted),
            cleanup,
        }
    }

    /// Serves the list, and persists it if it has changed.
    pub(super) async fn reconcile(&mut self) {
        self.assembly.reconcile(self.state.variants()).await;
        if let Some(persisted) = &self.persisted {
            let newest = self.state.to_persisted();
            persisted.change(|list| {
                let is_new = list.as_ref() != Some(&newest);
                if is_new {
                    *list = Some(newest);
                }
                is_new
            });
        }
        // A list from elsewhere may be older than what others have.
        if self.state.is_restored() {
            return;
        }
        if let Some((publisher, seal)) = &self.publisher {
            publisher.publish(SharedList { list: self.state.to_persisted(), seal: seal.clone() });
        }
        if let Some(cache) = &self.cache {
            cache.send_replace(Some(self.state.to_persisted()));
        }
    }

    /// Serves the list that was restored from `place`, until LaunchDarkly answers.
    pub(super) async fn serve_restored(&mut self, place: &str) {
        // A list without environments serves no SDK, so it counts as none.
        if self.state.len() > 0 {
            let environments = self.state.len();
            tracing::info!(
                environments,
                "serving the environments of the list kept {place} until LaunchDarkly answers"
            );
            self.reconcile().await;
            self.assembly.settle();
            self.status.data_restored();
            self.unlisted = None;
        }
    }

    /// Records that the list is complete; what is cached is no longer needed.
    pub(super) fn complete(&mut self, source: &str) {
        self.cached = None;
        self.assembly.settle();
        if self.unlisted.take().is_some() {
            tracing::info!("the list of environments is complete, from {source}");
        }
    }

    /// Removes expired credentials, and serves the cached list when it arrives, until `source` is ready. While that is done,
    /// `source` is not polled.
    pub(super) async fn clean_up_until<T>(&mut self, source: impl Future<Output = T>) -> T {
        tokio::pin!(source);
        loop {
            tokio::select! {
                output = &mut source => return output,
                items = arrival(&mut self.cached) => {
                    self.state.take_cached(items, unix_ms());
                    self.serve_restored("in the database").await;
                }
                _ = self.cleanup.tick() => if self.state.expire(unix_ms()) {
                    self.reconcile().await;
                },
            }
        }
    }
}

/// Waits for the cached list; forever if none is going to arrive.
async fn arrival(cached: &mut Option<oneshot::Receiver<Vec<CachedItem>>>) -> Vec<CachedItem> {
    if let Some(receiver) = cached {
        let received = receiver.await;
        *cached = None;
        if let Ok(items) = received {
            return items;
        }
    }
    std::future::pending().await
}
