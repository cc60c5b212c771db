//! The task that writes an environment's data into its database, and brings it up to date after an outage.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;
use yardarm_core::status::{Connection, Status};
use yardarm_core::{EnvironmentLabel, InternalError, Supervised};
use yardarm_store::{StoreError, Trouble};

use self::recovery::Recovery;
use super::event::StoreEvent;
use super::status::advice;
use super::write_queue::{Work, WriteQueue};
use super::{EnvironmentStore, layout, reading};

mod recovery;

/// Longest time for the last write of a process.
const LAST: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    pub(super) label: EnvironmentLabel,
    pub(super) store: Arc<EnvironmentStore>,
    pub(super) queue: Arc<WriteQueue>,
    pub(super) events: mpsc::Sender<StoreEvent>,
    /// State of the connection to upstream.
    pub(super) upstream: Status,
    pub(super) check_interval: Duration,
}

/// What failed when a database was to be brought up to date.
enum Failure {
    /// It cannot be reached, or takes no writes: nothing was sent.
    Probe(StoreError),
    /// It took the probe and refused the data.
    Write(StoreError),
}

/// The task of a [`Writer`].
pub(super) struct StoreTask {
    writer: Writer,
    may_restore: bool,
    end: CancellationToken,
}

impl StoreTask {
    /// With `may_restore`, what the database holds is handed over first.
    pub(super) fn new(writer: Writer, may_restore: bool, end: CancellationToken) -> Self {
        Self { writer, may_restore, end }
    }
}

impl Supervised for StoreTask {
    async fn run(&mut self) {
        self.writer.run(self.may_restore, &self.end).await;
    }

    fn recover(&mut self, _: &InternalError) {
        self.writer.queue.requeue();
    }
}

impl Writer {
    /// Runs until `end`, and writes what is still to be written if the database works.
    async fn run(&self, may_restore: bool, end: &CancellationToken) {
        tokio::select! {
            () = end.cancelled() => (),
            () = self.work(may_restore) => (),
        }
        self.queue.requeue();
        if self.store.status.report().is_available() {
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
        let mut recovery = Recovery::new();
        if may_restore {
            self.restore(&mut recovery).await;
        } else {
            self.store.mark_restored();
        }
        // A timer of its own, so that changes that never end do not put the check off for ever.
        let mut checks = tokio::time::interval(self.check_interval);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks.tick().await;
        loop {
            let result = tokio::select! {
                () = self.queue.filled() => self.write().await,
                _ = checks.tick() => self.check().await,
            };
            if let Err(error) = result {
                self.recover_after(&error, &mut recovery).await;
            }
        }
    }

    /// Hands over what the database holds, as soon as it can be read, unless there is something better by then.
    async fn restore(&self, recovery: &mut Recovery) {
        while !self.queue.has_data() {
            match reading::read(&*self.store.database).await {
                Ok(None) => break,
                Ok(Some(stored)) => {
                    let Some(items) = stored.parse().await else {
                        tracing::warn!(environment = %self.label, "data in the persistent store does not fit this version and is ignored");
                        break;
                    };
                    // The applier is gone only when everything ends.
                    let _ = self.events.send(StoreEvent::Stored(items)).await;
                    return;
                }
                Err(error) if error.trouble() == Trouble::WrongType => {
                    let advice = advice(error.trouble());
                    tracing::warn!(environment = %self.label, %error, advice, "data in the persistent store cannot be read and is ignored");
                    break;
                }
                Err(error) => {
                    // It may be long until it can be read.
                    self.store.mark_restored();
                    self.recover_after(&error, recovery).await;
                }
            }
        }
        self.store.mark_restored();
    }

    /// Does what there is to do.
    async fn write(&self) -> Result<(), StoreError> {
        let database = &self.store.database;
        match self.queue.take() {
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
        self.queue.done();
        Ok(())
    }

    /// A database that was emptied while it was connected says nothing about it (launchdarkly/ld-relay issue 141).
    async fn check(&self) -> Result<(), StoreError> {
        let is_gone = !self.store.database.is_complete().await? && self.queue.has_data();
        // What was never written, such as the first data of a process, is not gone.
        if is_gone && !self.queue.waits_with_everything() {
            tracing::warn!(environment = %self.label, "data is gone from the persistent store and is written again");
            self.queue.rewrite(false);
        }
        Ok(())
    }

    /// Waits until the database works again and everything is written. One line tells of the outage, one of each new
    /// cause, and one of its end, however long it lasts.
    async fn recover_after(&self, error: &StoreError, recovery: &mut Recovery) {
        // A refused transaction does not always say why. A probe does.
        let diagnosed = match error.trouble() {
            Trouble::Refused => self.store.database.probe(&layout::COLLECTIONS).await.err(),
            _ => None,
        };
        self.report(diagnosed.as_ref().unwrap_or(error));
        // Changes made before the failure may be lost with it, so whatever was taken counts as not done.
        self.queue.requeue();
        recovery.begin();
        let mut pause = recovery.after_probe();
        loop {
            sleep(pause).await;
            pause = match self.catch_up().await {
                Ok(()) => break,
                Err(Failure::Probe(error)) => {
                    self.report(&error);
                    recovery.after_probe()
                }
                Err(Failure::Write(error)) => {
                    self.queue.requeue();
                    self.report(&error);
                    recovery.after_write()
                }
            };
        }
        recovery.end();
        if self.store.status.recovered() {
            tracing::warn!(environment = %self.label, "persistent store is available again");
        }
    }

    /// Brings the database up to date, but only if it takes writes.
    async fn catch_up(&self) -> Result<(), Failure> {
        let database = &*self.store.database;
        let is_complete = database.probe(&layout::COLLECTIONS).await.map_err(Failure::Probe)?;
        if is_complete && self.upstream.current().connection != Connection::Valid {
            // Other gateways may have written what upstream has not sent to this one.
            let stored = reading::read(database).await.map_err(Failure::Probe)?;
            match stored {
                Some(stored) => match stored.parse().await {
                    Some(stored) => self.queue.rewrite_newer(&stored),
                    None => self.queue.rewrite(is_complete),
                },
                None => self.queue.rewrite(false),
            }
        } else {
            self.queue.rewrite(is_complete);
        }
        self.write().await.map_err(Failure::Write)
    }

    fn report(&self, error: &StoreError) {
        let advice = advice(error.trouble());
        if self.store.status.failed(error) {
            tracing::warn!(environment = %self.label, %error, advice, "persistent store is unavailable; what changes is kept until it recovers");
        } else {
            tracing::debug!(environment = %self.label, %error, "persistent store is still unavailable");
        }
    }
}

#[cfg(test)]
mod tests;
