//! Settings of an environment that may change while it is served.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::EnvironmentConfig;

/// Settings that may change while the environment is served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LiveConfig(Arc<(ArcSwap<EnvironmentConfig>, watch::Sender<()>)>);

impl LiveConfig {
    pub(crate) fn new(config: EnvironmentConfig) -> Self {
        Self(Arc::new((ArcSwap::from_pointee(config), watch::Sender::new(()))))
    }

    pub(crate) fn get(&self) -> Arc<EnvironmentConfig> {
        self.0.0.load_full()
    }

    pub(crate) fn set(&self, config: EnvironmentConfig) {
        self.0.0.store(Arc::new(config));
        self.0.1.send_replace(());
    }

    /// A receiver that is notified of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.1.subscribe()
    }
}
