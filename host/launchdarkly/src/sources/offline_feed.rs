//! Environments that are not connected to upstream: their data comes from a file or an archive.

use tokio::sync::{mpsc, oneshot};
use yardarm_core::{InternalError, Supervised};

use super::apply::Applier;
use crate::config::PLUGIN_RETRY;
use crate::data::{Change, Items};

/// Data for an environment that is not connected to upstream.
pub(crate) struct OfflineUpdate {
    pub(crate) items: Items,
    /// Completed once the data is served.
    pub(crate) applied: oneshot::Sender<()>,
}

/// Applies what it is fed.
pub(crate) struct OfflineFeedTask {
    applier: Applier,
    fed: mpsc::Receiver<OfflineUpdate>,
    /// What came last and is not served yet. After a panic it is applied again.
    unapplied: Option<Items>,
}

impl OfflineFeedTask {
    pub(crate) fn new(applier: Applier, fed: mpsc::Receiver<OfflineUpdate>) -> Self {
        Self { applier, fed, unapplied: None }
    }
}

impl Supervised for OfflineFeedTask {
    /// Runs until the other side is gone.
    async fn run(&mut self) {
        let Self { applier, fed, unapplied } = self;
        let mut plans = applier.hooks.changed();
        // Dropped by a panic, so that the other side does not wait for data that cannot be applied.
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
            tokio::select! {
                fed = fed.recv() => {
                    let Some(fed) = fed else { return };
                    (*unapplied, applied) = (Some(fed.items), Some(fed.applied));
                },
                _ = plans.changed() => applier.plan_changed().await,
                store_event = applier.recv_event() => applier.handle_event(store_event).await,
                () = tokio::time::sleep(PLUGIN_RETRY), if applier.is_behind() => applier.plan_changed().await,
            }
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.applier.environment.status.task_failed(error);
    }
}
