//! Tasks that watch one environment: readiness, the start, outages.

use std::sync::Arc;
use std::time::Duration;

use yardarm_core::readiness::ReadyLatch;
use yardarm_core::status::Connection;

use crate::environments::{LdEnvironment, Phase};

/// Holds readiness until there is data to serve.
pub(super) async fn wait_for_data(environment: Arc<LdEnvironment>, latch: Arc<ReadyLatch>) {
    let mut changes = environment.status.changes();
    while environment.phase() != Phase::Ready {
        if changes.changed().await.is_err() {
            return;
        }
    }
    latch.release();
}

/// Ends the phase "starting" when an environment has data, is rejected, or after `timeout`.
pub(super) async fn watch_start(environment: Arc<LdEnvironment>, timeout: Duration) {
    let mut changes = environment.status.changes();
    let settled = async {
        while matches!(environment.phase(), Phase::Starting) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(timeout, settled).await.is_err() {
        tracing::warn!("no data from upstream within the initial timeout, retrying");
    }
    environment.start_timed_out();
}

/// Logs when updates have been unavailable for longer than `limit`, and when they are available again.
pub(super) async fn watch_outages(environment: Arc<LdEnvironment>, limit: Duration) {
    let mut changes = environment.status.changes();
    loop {
        let is_well = |it: &LdEnvironment| it.status.current().connection == Connection::Valid;
        let has_recovered = async { while !is_well(&environment) && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, has_recovered).await.is_err() {
            let error = environment.status.current().last_error.map(|it| it.message).unwrap_or_default();
            tracing::error!(last_error = %error, "data source outage, updates have been unavailable for `disconnected_status_time`");
            while !is_well(&environment) && changes.changed().await.is_ok() {}
            tracing::info!("data source outage is over");
        }
        while is_well(&environment) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}
