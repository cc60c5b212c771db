//! The key that is used upstream, and its replacement.

use tokio::sync::watch;

use crate::config::LiveConfig;
use crate::identity::SdkKey;

/// The key of a connection, and the one that should be used.
pub(super) struct UpstreamKey {
    settings: LiveConfig,
    changes: watch::Receiver<()>,
    /// The key of the current connection, or of the last attempt.
    current: SdkKey,
}

impl UpstreamKey {
    pub(super) fn new(settings: LiveConfig) -> Self {
        let changes = settings.changes();
        Self { current: settings.get().credentials.sdk_key().clone(), changes, settings }
    }

    pub(super) fn current(&self) -> &SdkKey {
        &self.current
    }

    /// The key that the settings contain.
    pub(super) fn wanted(&self) -> SdkKey {
        self.settings.get().credentials.sdk_key().clone()
    }

    /// Whether another key should be used.
    pub(super) fn is_replaced(&self) -> bool {
        self.wanted() != self.current
    }

    /// Records that a connection uses `key`.
    pub(super) fn set_current(&mut self, key: SdkKey) {
        self.current = key;
    }

    /// Uses the wanted key from here on.
    pub(super) fn take_wanted(&mut self) {
        self.changes.borrow_and_update();
        self.current = self.wanted();
    }

    /// Waits for a change of the settings. Cancel-safe.
    pub(super) async fn wait_for_settings(&mut self) {
        // The sender lives as long as the settings.
        let _ = self.changes.changed().await;
    }

    /// Waits for a change after which another key should be used. Cancel-safe.
    pub(super) async fn wait_until_replaced(&mut self) {
        loop {
            self.wait_for_settings().await;
            if self.is_replaced() {
                return;
            }
        }
    }
}
