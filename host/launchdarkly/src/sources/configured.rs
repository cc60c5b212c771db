//! Environments from the configuration.

use tokio::sync::watch;
use yardarm_core::{InternalError, Supervised};

use super::assembly::EnvironmentAssembly;
use super::variant::Variant;
use crate::config::EnvironmentConfig;

/// Serves the environments of the configuration, which may be reloaded.
pub(crate) struct ConfiguredTask {
    pub(crate) assembly: EnvironmentAssembly,
    pub(crate) wanted: watch::Receiver<Vec<EnvironmentConfig>>,
}

impl Supervised for ConfiguredTask {
    async fn run(&mut self) {
        while self.wanted.changed().await.is_ok() {
            let all = self.wanted.borrow_and_update().clone();
            self.assembly.reconcile(all.into_iter().flat_map(Variant::all_of).collect()).await;
        }
    }

    fn recover(&mut self, _: &InternalError) {
        self.wanted.mark_changed();
    }
}
