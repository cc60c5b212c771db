//! Environments that are not connected to upstream: their data comes from a file or an archive.

use tokio::sync::{mpsc, oneshot};
use yardarm_core::{InternalError, Supervised};

use super::apply::{Applier, PLUGIN_RETRY};
use crate::dataset::{Change, Items};

/// Data for an environment that is not connected to upstream.
pub(crate) struct Feed {
    pub(crate) items: Items,
    /// Told once the data is served.
    pub(crate) applied: oneshot::Sender<()>,
}

/// Applies what it is fed.
pub(crate) struct FeedTask {
    pub(crate) applier: Applier,
    pub(crate) fed: mpsc::Receiver<Feed>,
}

impl Supervised for FeedTask {
    /// Runs until the other side is gone.
    async fn run(&mut self) {
        let Self { applier, fed } = self;
        let mut plans = applier.hooks.changed();
        loop {
            tokio::select! {
                fed = fed.recv() => {
                    let Some(Feed { items, applied }) = fed else { return };
                    applier.apply(Change::Put(items)).await;
                    applier.environment.status.data_received();
                    applier.environment.status.message_processed();
                    let _ = applied.send(());
                },
                _ = plans.changed() => applier.plan_changed().await,
                word = applier.next_word() => applier.hear(word).await,
                () = tokio::time::sleep(PLUGIN_RETRY), if applier.is_behind() => applier.plan_changed().await,
            }
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.applier.environment.status.task_failed(error);
    }
}
