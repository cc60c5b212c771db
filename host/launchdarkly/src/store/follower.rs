//! The task that reads what other gateways write into the database while upstream cannot be reached from here.
//!
//! It polls, because that needs no settings of the database and notices every change during an interruption. Items are
//! compared one by one: only items that are newer than those that are served are sent to the applier, deletions included.
//! An item that is missing from the database without a tombstone stays, because its version cannot be compared.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use yardarm_core::status::{Connection, Status};
use yardarm_core::{Backoff, Supervised};
use yardarm_store::StoreError;

use super::event::StoreEvent;
use super::write_queue::WriteQueue;
use super::{EnvironmentStore, reading};

/// Longest delay after failed polls, unless the interval itself is longer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Follower {
    pub(super) store: Arc<EnvironmentStore>,
    pub(super) queue: Arc<WriteQueue>,
    pub(super) events: mpsc::Sender<StoreEvent>,
    /// State of the connection to upstream.
    pub(super) upstream: Status,
    pub(super) poll_interval: Duration,
}

impl Supervised for Follower {
    /// Runs until dropped.
    async fn run(&mut self) {
        let mut pauses = Backoff::literal(self.poll_interval, self.poll_interval.max(MAX_PAUSE));
        // Digest of the last data without newer items.
        let mut seen = None;
        let mut pause = self.poll_interval;
        loop {
            if self.is_upstream_valid() {
                seen = None;
                self.wait_for_outage().await;
            }
            sleep(pause).await;
            if self.is_upstream_valid() {
                continue;
            }
            pause = match self.poll(&mut seen).await {
                Ok(()) => {
                    pauses.reset();
                    self.poll_interval
                }
                // The writer reports the state of the database.
                Err(error) => {
                    tracing::debug!(%error, "persistent store cannot be read");
                    pauses.next_delay().max(self.poll_interval)
                }
            };
        }
    }
}

impl Follower {
    fn is_upstream_valid(&self) -> bool {
        self.upstream.current().connection == Connection::Valid
    }

    async fn wait_for_outage(&self) {
        let mut changes = self.upstream.changes();
        while self.is_upstream_valid() {
            // Closed only at shutdown.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn poll(&self, seen: &mut Option<u64>) -> Result<(), StoreError> {
        let Some(stored) = reading::read(&*self.store.database).await? else { return Ok(()) };
        let digest = stored.digest();
        if *seen == Some(digest) {
            return Ok(());
        }
        let Some(items) = stored.parse().await else {
            *seen = Some(digest);
            tracing::warn!("data in the persistent store does not fit this version and is ignored");
            return Ok(());
        };
        let event = match self.queue.newest() {
            None => StoreEvent::Stored(items),
            Some(known) => {
                let newer = items.newer_than(&known);
                if newer.is_empty() {
                    *seen = Some(digest);
                    return Ok(());
                }
                StoreEvent::Newer(newer)
            }
        };
        // The applier ends only at shutdown.
        let _ = self.events.send(event).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
