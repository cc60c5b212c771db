//! The task that watches the folder: scans it when something may have changed, and applies what has been staged.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use yardarm_core::{InternalError, Supervised, Supervisor, supervisor};

use super::events::{FolderEvents, FolderWatcher};
use super::loader::Loader;
use super::orders::Orders;
use super::schedule::Schedule;

/// Loads the folder for the first time, then after each change.
pub(super) struct WatchTask {
    loader: Loader,
    folder_events: Arc<FolderEvents>,
    watcher: Arc<Mutex<FolderWatcher>>,
    orders: Orders,
    /// Notified when a plugin has published something new, on which its place in the plan depends.
    published: Arc<Notify>,
}

impl WatchTask {
    pub(super) fn new(loader: Loader, orders: Orders, supervisor: &Supervisor) -> Self {
        let folder_events = Arc::clone(&loader.folder().folder_events);
        let watcher = Arc::new(Mutex::new(FolderWatcher::new(&folder_events, supervisor.clone())));
        let published = loader.published();
        Self { loader, folder_events, watcher, orders, published }
    }

    /// Waits until something is to be done, and does what takes no scan.
    async fn wait(&mut self, schedule: &mut Schedule) {
        let loader = &mut self.loader;
        let plan = loader.plan_due();
        let wake = plan.into_iter().chain(loader.judgement_due()).fold(schedule.next(), Instant::min);
        let quiet = loader.settings().quiet;
        tokio::select! {
            () = self.folder_events.changed() => schedule.note_event(quiet),
            (unit, outcome) = loader.next_staged() => loader.finish(&unit, outcome),
            Some(order) = self.orders.recv() => loader.obey(order).await,
            () = self.published.notified() => loader.mark_unplanned(),
            () = tokio::time::sleep_until(wake) => (),
        }
    }

    async fn scan(&mut self, schedule: &mut Schedule, verified: &mut Instant) {
        let (scan_interval, verify_interval) =
            (self.loader.settings().scan_interval, self.loader.settings().verify_interval);
        let is_verification_due = verified.elapsed() >= verify_interval;
        if is_verification_due {
            self.loader.suspect_all();
            self.loader.compare_secrets().await;
            *verified = Instant::now();
        }
        renew(&self.watcher, is_verification_due).await;
        let mut events = self.folder_events.take();
        let is_done = self.loader.look(&mut events, schedule.has_patience()).await;
        if events.has_folder_moved() {
            renew(&self.watcher, true).await;
        }
        schedule.note_scan(is_done, scan_interval.min(verify_interval));
    }
}

impl Supervised for WatchTask {
    async fn run(&mut self) {
        let mut schedule = Schedule::new();
        let mut verified = Instant::now();
        loop {
            if schedule.next() <= Instant::now() {
                self.scan(&mut schedule, &mut verified).await;
            }
            self.loader.continue_backlog().await;
            self.loader.judge();
            self.loader.plan().await;
            if let Some(at) = self.loader.next_wake() {
                schedule.advance(at);
            }
            self.wait(&mut schedule).await;
            self.loader.plan().await;
        }
    }

    fn recover(&mut self, _: &InternalError) {
        self.loader.recover();
    }
}

/// Watches the folder that currently has the configured path.
async fn renew(watcher: &Arc<Mutex<FolderWatcher>>, afresh: bool) {
    let watcher = Arc::clone(watcher);
    let renewal = move || watcher.lock().renew(afresh);
    // The folder is scanned periodically in any case.
    let _ = supervisor::blocking("plugin folder reader", renewal).await;
}
