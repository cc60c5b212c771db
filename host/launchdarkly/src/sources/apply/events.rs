//! The applier's own events, which arrive besides those of the source: from the database's tasks, of the plan, and of a
//! plugin that failed.

use std::future::Future;

use tokio::time::{Instant, sleep_until};
use yardarm_core::status::Connection;

use super::{Announce, Applier};
use crate::config::PLUGIN_RETRY;
use crate::data::{Change, Item};
use crate::store::StoreEvent;

/// Most items that are announced one by one when several change at once.
pub(super) const MAX_PATCHES: usize = 64;

/// An event that the applier handles itself.
enum ApplierEvent {
    /// The database's tasks have data, or memberships have changed.
    Store(StoreEvent),
    /// Another plan is in force.
    PlanChanged,
    /// A payload plugin failed some time ago and is called again.
    RetryDue,
}

impl Applier {
    /// Handles the applier's own events until `source` is ready. Every loop that owns an applier waits here for its source.
    ///
    /// While an event is handled, `source` is not polled. It is polled again afterwards, so it need not be cancel-safe.
    pub(crate) async fn run_until<T>(&mut self, source: impl Future<Output = T>) -> T {
        tokio::pin!(source);
        loop {
            tokio::select! {
                output = &mut source => return output,
                // On the heap: rare, and large in a future that lives as long as a connection.
                event = self.next_event() => Box::pin(self.handle(event)).await,
            }
        }
    }

    /// Receives the next event. Cancel-safe.
    async fn next_event(&mut self) -> ApplierEvent {
        let Self { store, plans, retry_at, .. } = self;
        let store_event = async {
            match store {
                Some(store) => store.recv_event().await,
                None => std::future::pending().await,
            }
        };
        let retry_due = async {
            match retry_at {
                Some(at) => sleep_until(*at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            store_event = store_event => ApplierEvent::Store(store_event),
            // The hooks live as long as the pipeline.
            _ = plans.changed() => ApplierEvent::PlanChanged,
            () = retry_due => ApplierEvent::RetryDue,
        }
    }

    async fn handle(&mut self, event: ApplierEvent) {
        match event {
            ApplierEvent::Store(store_event) => self.handle_store_event(store_event).await,
            ApplierEvent::PlanChanged => self.transform_if_outdated().await,
            ApplierEvent::RetryDue => {
                // Set first, so that a panic does not lead to a retry without delay.
                self.schedule_retry();
                self.transform_if_outdated().await;
            }
        }
    }

    /// Schedules the next call of a payload plugin that failed.
    pub(super) fn schedule_retry(&mut self) {
        self.retry_at = self.pipeline.is_behind().then(|| Instant::now() + PLUGIN_RETRY);
    }

    async fn handle_store_event(&mut self, store_event: StoreEvent) {
        match store_event {
            StoreEvent::SegmentsChanged => self.serve(&Change::SegmentsChanged),
            StoreEvent::Newer(items) => self.take_over(items).await,
            StoreEvent::Stored(items) => {
                // Present data came from upstream in the meantime.
                if self.upstream_items().is_none() {
                    self.restore(items).await;
                    tracing::info!("serving data kept in the persistent store until upstream answers");
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
        self.forget_basis();
        tracing::info!(items = newer.len(), "serving newer data that another gateway wrote into the persistent store");
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

    /// If payload plugins have changed or one has failed, all data is transformed again and only a real difference is
    /// announced.
    async fn transform_if_outdated(&mut self) {
        if self.pipeline.is_outdated()
            && let Some(items) = self.upstream_items()
        {
            let is_first = self.writer.snapshot().is_none();
            self.put(items, Announce::Differences).await;
            if is_first && self.writer.snapshot().is_some() {
                self.environment.status.data_served();
            }
        }
    }
}
