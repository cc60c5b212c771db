//! Data of environments in offline mode, which are not connected to upstream.

use tokio::sync::{mpsc, oneshot};
use yardarm_core::{InternalError, Supervised};

use super::apply::Applier;
use crate::data::{Change, Items};

/// Data for an environment that is not connected to upstream.
pub(crate) struct OfflineUpdate {
    pub(crate) items: Items,
    /// Completed once the data is served.
    pub(crate) applied: oneshot::Sender<()>,
}

/// The task that applies data in offline mode.
pub(crate) struct OfflineUpdateTask {
    applier: Applier,
    updates: mpsc::Receiver<OfflineUpdate>,
    /// The last data, until it is served. After a panic it is applied again.
    unapplied: Option<Items>,
}

impl OfflineUpdateTask {
    pub(crate) fn new(applier: Applier, updates: mpsc::Receiver<OfflineUpdate>) -> Self {
        Self { applier, updates, unapplied: None }
    }
}

impl Supervised for OfflineUpdateTask {
    /// Runs until the sender is dropped.
    async fn run(&mut self) {
        let Self { applier, updates, unapplied } = self;
        // Dropped by a panic, so that the sender does not wait for data that cannot be applied.
        let mut applied: Option<oneshot::Sender<()>> = None;
        loop {
            if let Some(items) = unapplied.clone() {
                applier.apply(Change::Put(items)).await;
                applier.environment.status.data_received();
                applier.environment.status.message_processed();
                *unapplied = None;
                if let Some(applied) = applied.take() {
                    let _ = applied.send(());
                }
            }
            let Some(update) = applier.run_until(updates.recv()).await else { return };
            (*unapplied, applied) = (Some(update.items), Some(update.applied));
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.applier.environment.status.task_failed(error);
    }
}
