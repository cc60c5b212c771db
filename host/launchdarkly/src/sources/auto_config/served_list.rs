//! The list of environments as it is served: received, reconciled, persisted, and freed of expired credentials.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};
use yardarm_core::data_store::TrackedState;
use yardarm_core::time::unix_ms;
use yardarm_fleet::Publisher;
use yardarm_vendor::persisted::seal::Seal;

use crate::sources::assembly::EnvironmentAssembly;
use crate::sources::auto_config_state::AutoConfigState;
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
    cleanup: Interval,
}

impl ServedList {
    /// A list whose expired credentials are removed every `cleanup_interval`.
    pub(super) fn new(state: AutoConfigState, assembly: EnvironmentAssembly, cleanup_interval: Duration) -> Self {
        let mut cleanup = tokio::time::interval_at(Instant::now() + cleanup_interval, cleanup_interval);
        cleanup.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { state, assembly, persisted: None, publisher: None, cleanup }
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
        // A list from an earlier process may be older than what other gateways have.
        if let Some((publisher, seal)) = self.publisher.as_ref().filter(|_| !self.state.is_restored()) {
            publisher.publish(SharedList { list: self.state.to_persisted(), seal: seal.clone() });
        }
    }

    /// Removes expired credentials until `source` is ready. While that is done, `source` is not polled.
    pub(super) async fn clean_up_until<T>(&mut self, source: impl Future<Output = T>) -> T {
        tokio::pin!(source);
        loop {
            tokio::select! {
                output = &mut source => return output,
                _ = self.cleanup.tick() => if self.state.expire(unix_ms()) {
                    self.reconcile().await;
                },
            }
        }
    }
}
