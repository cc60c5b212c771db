//! The task that writes an environment's data into its database, and brings it up to date after an outage.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;
use yardarm_core::EnvironmentLabel;
use yardarm_store::StoreError;

use super::mailbox::{Mailbox, Work};
use super::{EnvironmentStore, Word, layout};
use crate::dataset::Items;

/// Pause between probes of a database that failed (upstream page, section 4.2).
const PROBE: Duration = Duration::from_millis(500);
/// Longest time for the last write of a process.
const LAST: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    pub(super) label: EnvironmentLabel,
    pub(super) store: Arc<EnvironmentStore>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) words: mpsc::Sender<Word>,
    pub(super) check_interval: Duration,
}

impl Writer {
    /// Runs until `end`, and writes what is still to be written if the database works.
    pub(super) async fn run(self, may_restore: bool, end: CancellationToken) {
        tokio::select! {
            () = end.cancelled() => (),
            () = self.work(may_restore) => (),
        }
        self.mailbox.redo_taken();
        if self.store.status.report().is_available {
            match timeout(LAST, self.write()).await {
                Ok(Ok(())) => (),
                Ok(Err(error)) => {
                    tracing::warn!(environment = %self.label, %error, "last changes are missing in the persistent store");
                }
                Err(_) => {
                    tracing::warn!(environment = %self.label, "last changes may be missing in the persistent store");
                }
            }
        }
    }

    async fn work(&self, may_restore: bool) {
        if may_restore {
            self.restore().await;
        } else {
            self.store.is_read();
        }
        // A timer of its own, so that changes that never end do not put the check off for ever.
        let mut checks = tokio::time::interval(self.check_interval);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks.tick().await;
        loop {
            let result = tokio::select! {
                () = self.mailbox.filled() => self.write().await,
                _ = checks.tick() => self.check().await,
            };
            if let Err(error) = result {
                self.outlast(&error).await;
            }
        }
    }

    /// Hands over what the database holds, as soon as it can be read, unless there is something better by then.
    async fn restore(&self) {
        while !self.mailbox.has_data() {
            match self.read().await {
                Ok(None) => break,
                Ok(Some(items)) => {
                    // The applier is gone only when everything ends.
                    let _ = self.words.send(Word::Stored(items)).await;
                    return;
                }
                Err(error) => {
                    // It may be long until it can be read.
                    self.store.is_read();
                    self.outlast(&error).await;
                }
            }
        }
        self.store.is_read();
    }

    async fn read(&self) -> Result<Option<Items>, StoreError> {
        let database = &self.store.database;
        if !database.is_complete().await? {
            return Ok(None);
        }
        let (flags, segments) = (database.read(layout::FLAGS).await?, database.read(layout::SEGMENTS).await?);
        let items = layout::items(flags, segments);
        if items.is_none() {
            tracing::warn!(environment = %self.label, "data in the persistent store does not fit this version and is ignored");
        }
        Ok(items)
    }

    /// Does what there is to do.
    async fn write(&self) -> Result<(), StoreError> {
        let database = &self.store.database;
        match self.mailbox.take() {
            Work::Nothing => (),
            Work::Patches(items) => {
                for item in &items {
                    let (collection, record) = layout::record(item);
                    database.upsert(collection, &record).await?;
                }
            }
            Work::Everything(items) => {
                database.replace(&layout::collections(&items)).await?;
                let count = items.flags.len() + items.segments.len();
                tracing::info!(environment = %self.label, items = count, "persistent store is up to date");
            }
        }
        self.mailbox.done();
        Ok(())
    }

    /// A database that was emptied while it was connected says nothing about it (launchdarkly/ld-relay issue 141).
    async fn check(&self) -> Result<(), StoreError> {
        if !self.store.database.is_complete().await? && self.mailbox.has_data() {
            tracing::warn!(environment = %self.label, "data is gone from the persistent store and is written again");
            self.mailbox.rewrite(false);
        }
        Ok(())
    }

    /// Waits until the database works again and everything is written.
    async fn outlast(&self, error: &StoreError) {
        if self.store.status.enter(false) {
            tracing::warn!(environment = %self.label, %error, "persistent store is unavailable; what changes is kept until it recovers");
        }
        // Changes made before the failure may be lost with it, so whatever was taken counts as not done.
        self.mailbox.redo_taken();
        loop {
            sleep(PROBE).await;
            let Ok(is_complete) = self.store.database.is_complete().await else { continue };
            self.mailbox.rewrite(is_complete);
            match self.write().await {
                Ok(()) => break,
                Err(error) => {
                    self.mailbox.redo_taken();
                    tracing::error!(environment = %self.label, %error, "persistent store answers and cannot be written");
                }
            }
        }
        self.store.status.enter(true);
        tracing::warn!(environment = %self.label, "persistent store is available again");
    }
}

#[cfg(test)]
mod tests;
