//! In place of the export by OTLP, in builds without the feature `otlp`.

use std::sync::Arc;
use std::time::Duration;

use yardarm_core::Lifecycle;
use yardarm_core::metrics::Registry;

use crate::config::TelemetryConfig;
use crate::request_metrics::RequestObserver;
use crate::state::State;

/// Exporters, of which there are none.
pub(crate) enum Otlp {}

impl Otlp {
    /// Starts nothing.
    ///
    /// # Errors
    /// When the export is turned on, which this build cannot do.
    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub(crate) async fn start(settings: &TelemetryConfig, _: Lifecycle, _: &Registry) -> anyhow::Result<Option<Self>> {
        anyhow::ensure!(!settings.otlp, "`telemetry.otlp` needs a build with the feature `otlp`");
        Ok(None)
    }

    pub(crate) fn requests(&self) -> Arc<dyn RequestObserver> {
        match *self {}
    }

    pub(crate) fn watch(&self, _: &Arc<State>) {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub(crate) async fn stop(self, _: Duration) -> bool {
        match self {}
    }
}
