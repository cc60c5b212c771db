//! The task that writes an environment's data into its database, and brings it up to date after an outage.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;
use yardarm_core::status::{Connection, Status};
use yardarm_core::{InternalError, Supervised};
use yardarm_store::{StoreError, TooLarge, Trouble, Upserted};

use self::recovery::Recovery;
use super::event::StoreEvent;
use super::status::advice;
use super::write_queue::{Work, WriteQueue};
use super::{EnvironmentStore, layout, reading};

mod recovery;

/// Longest time for the last write of a process.
const LAST: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    pub(super) store: Arc<EnvironmentStore>,
    pub(super) queue: Arc<WriteQueue>,
    pub(super) events: mpsc::Sender<StoreEvent>,
    /// State of the connection to upstream.
    pub(super) upstream: Status,
    pub(super) check_interval: Duration,
}

/// The step that failed while the database was brought up to date.
enum Failure {
    /// The probe: the database cannot be reached or rejects writes. No data was sent.
    Probe(StoreError),
    /// The write of data, after a successful probe.
    Write(StoreError),
}

/// The task of a [`Writer`].
pub(super) struct StoreTask {
    writer: Writer,
    may_restore: bool,
    end: CancellationToken,
}

impl StoreTask {
    /// With `may_restore`, data in the database is sent to the applier first.
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
    /// Runs until `end`, and then writes pending changes if the database works.
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
                    tracing::warn!(%error, "last changes are missing in the persistent store");
                }
                Err(_) => {
                    tracing::warn!("last changes may be missing in the persistent store");
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
        // A separate timer, so that constant changes do not delay the check forever.
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

    /// Sends the data in the database to the applier as soon as it can be read, unless newer data is served by then.
    async fn restore(&self, recovery: &mut Recovery) {
        while !self.queue.has_data() {
            match reading::read(&*self.store.database).await {
                Ok(None) => break,
                Ok(Some(stored)) => {
                    let Some(items) = stored.parse().await else {
                        tracing::warn!("data in the persistent store does not fit this version and is ignored");
                        break;
                    };
                    // The applier ends only at shutdown.
                    let _ = self.events.send(StoreEvent::Stored(items)).await;
                    return;
                }
                Err(error) if error.trouble() == Trouble::WrongType => {
                    let advice = self.advice(&error);
                    tracing::warn!(%error, advice, "data in the persistent store cannot be read and is ignored");
                    break;
                }
                Err(error) => {
                    // It may take long until it can be read.
                    self.store.mark_restored();
                    self.recover_after(&error, recovery).await;
                }
            }
        }
        self.store.mark_restored();
    }

    /// Writes pending work.
    async fn write(&self) -> Result<(), StoreError> {
        let database = &self.store.database;
        match self.queue.take() {
            Work::Nothing => return Ok(()),
            Work::Patches(items) => {
                for item in &items {
                    let (collection, record) = layout::record(item);
                    if database.upsert(collection, &record).await? == Upserted::TooLarge {
                        report_too_large(&TooLarge { collection, key: record.key });
                    }
                }
            }
            Work::Everything(items) => {
                let left_out = database.replace(&layout::collections(&items, !database.is_atomic())).await?;
                left_out.iter().for_each(report_too_large);
                let count = items.flags.len() + items.segments.len() - left_out.len();
                tracing::info!(items = count, "persistent store is up to date");
            }
        }
        self.queue.done();
        self.store.status.record_write();
        Ok(())
    }

    /// Detects that the database was emptied, which it does not report by itself (launchdarkly/ld-relay issue 141).
    async fn check(&self) -> Result<(), StoreError> {
        let is_gone = !self.store.database.is_complete().await? && self.queue.has_data();
        // Data that was not written yet, such as the first data of a process, is not missing.
        if is_gone && !self.queue.waits_with_everything() {
            tracing::warn!("data is gone from the persistent store and is written again");
            self.queue.rewrite(false);
        }
        Ok(())
    }

    /// Waits until the database works again and all data is written. Logs the outage, each new cause, and its end, once
    /// each.
    async fn recover_after(&self, error: &StoreError, recovery: &mut Recovery) {
        // A rejected transaction does not always contain the reason. A probe does.
        let diagnosed = match error.trouble() {
            Trouble::Refused => self.store.database.probe(&layout::COLLECTIONS).await.err(),
            _ => None,
        };
        self.report(diagnosed.as_ref().unwrap_or(error));
        // Changes before the failure may be lost, so taken work counts as not written.
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
            tracing::warn!("persistent store is available again");
        }
    }

    /// Brings the database up to date, if it accepts writes.
    async fn catch_up(&self) -> Result<(), Failure> {
        let database = &*self.store.database;
        let is_complete = database.probe(&layout::COLLECTIONS).await.map_err(Failure::Probe)?;
        if is_complete && self.upstream.current().connection != Connection::Valid {
            // Other gateways may have written data that upstream has not sent to this one.
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

    fn advice(&self, error: &StoreError) -> &'static str {
        advice(self.store.place().database, error.trouble())
    }

    fn report(&self, error: &StoreError) {
        let advice = self.advice(error);
        if self.store.status.failed(error) {
            tracing::warn!(%error, advice, "persistent store is unavailable, changes are queued until it recovers");
        } else {
            tracing::debug!(%error, "persistent store is still unavailable");
        }
    }
}

/// Reports an item that is served from memory only (U104).
fn report_too_large(item: &TooLarge) {
    let TooLarge { collection, key } = item;
    tracing::error!(%key, collection, "the item is too large for the database and is left out of it");
}

#[cfg(test)]
mod tests;
