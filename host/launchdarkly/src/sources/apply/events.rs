//! Events besides those of the source: of the database's tasks, and of the plan.

use yardarm_core::status::Connection;

use super::{Announce, Applier};
use crate::data::{Change, Item};
use crate::store::StoreEvent;

/// Most items that are announced one by one when several change at once.
const MAX_PATCHES: usize = 64;

impl Applier {
    /// Receives the next event of the store's tasks; pending without a store. Cancel-safe.
    pub(crate) async fn recv_event(&mut self) -> StoreEvent {
        match &mut self.store {
            Some(store) => store.recv_event().await,
            None => std::future::pending().await,
        }
    }

    /// Handles an event of the store's tasks.
    pub(crate) async fn handle_event(&mut self, store_event: StoreEvent) {
        match store_event {
            StoreEvent::SegmentsChanged => self.serve(&Change::SegmentsChanged),
            StoreEvent::Newer(items) => self.take_over(items).await,
            StoreEvent::Stored(items) => {
                // Present data came from upstream in the meantime.
                if self.upstream_items().is_none() {
                    self.restore(items).await;
                    tracing::info!(environment = %self.environment.label, "serving data kept in the persistent store until upstream answers");
                }
                if let Some(store) = &self.store {
                    store.mark_restored();
                }
            }
        }
    }

    /// Applies items that other gateways received from upstream and wrote into the database, unless upstream is connected
    /// again. Only newer versions count.
    async fn take_over(&mut self, items: Vec<Item>) {
        if self.environment.status.current().connection == Connection::Valid {
            return;
        }
        let Some(mut merged) = self.upstream_items() else { return };
        let newer: Vec<Item> = items.into_iter().filter(|it| merged.upsert(it)).collect();
        if newer.is_empty() {
            return;
        }
        tracing::info!(environment = %self.environment.label, items = newer.len(), "serving newer data that another gateway wrote into the persistent store");
        if newer.len() > MAX_PATCHES {
            self.apply_unkept(Change::Put(merged.clone())).await;
        } else {
            for item in newer {
                self.apply_unkept(Change::Patch(item)).await;
            }
        }
        self.persist();
        if let Some(store) = &self.store {
            store.taken_over(merged);
        }
    }

    /// Handles a change of the plan: if payload plugins have changed, all data is transformed again and only a real
    /// difference is announced.
    pub(crate) async fn plan_changed(&mut self) {
        if self.pipeline.is_outdated()
            && let Some(items) = self.upstream_items()
        {
            self.put(items, Announce::Differences).await;
        }
    }
}
