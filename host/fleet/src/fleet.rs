//! The fleet as one gateway sees it: its sources, and the tasks that keep leases and follow the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use yardarm_core::status::Status;
use yardarm_core::{Backoff, Lifecycle};
use yardarm_store::{FleetStore, LeaseWish, RedisFleet, StoreError};

use crate::config::FleetConfig;
use crate::leadership::Role;
use crate::source::{SharedSource, Source};

/// Renewals of a lease during its lifetime.
const RENEWALS: u32 = 5;
/// Time that the database waits for changes before it answers without any.
const LOG_WAIT: Duration = Duration::from_secs(1);
/// Delays between attempts to follow the log.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);
/// Time limit for giving up all leases at the end of the process.
const FAREWELL: Duration = Duration::from_secs(1);

/// A gateway's part in a fleet. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

struct Shared {
    store: Arc<dyn FleetStore>,
    /// Identifies this process.
    instance: String,
    lease: Duration,
    sources: Mutex<BTreeMap<Arc<str>, Arc<SharedSource>>>,
    /// Leases of sources that this gateway has left.
    left: Mutex<Vec<LeaseWish>>,
    /// Wakes the task that keeps leases.
    joined: Notify,
    members: AtomicUsize,
    is_available: AtomicBool,
}

impl Fleet {
    /// Joins the fleet and starts its tasks.
    #[must_use]
    pub fn start(config: &FleetConfig, lifecycle: &Lifecycle) -> Self {
        let store = RedisFleet::new(&config.address, &config.name);
        tracing::info!(server = %store.server(), fleet = config.name, "sharing upstream connections with other gateways");
        Self::start_with(Arc::new(store), config.lease, lifecycle)
    }

    /// Joins the fleet that uses `store`, with leases that last for `lease`.
    #[must_use]
    pub fn start_with(store: Arc<dyn FleetStore>, lease: Duration, lifecycle: &Lifecycle) -> Self {
        let fleet = Self(Arc::new(Shared {
            store,
            instance: Uuid::new_v4().to_string(),
            lease,
            sources: Mutex::default(),
            left: Mutex::default(),
            joined: Notify::new(),
            members: AtomicUsize::new(1),
            is_available: AtomicBool::new(true),
        }));
        let (leases, log, end) = (fleet.clone(), fleet.clone(), lifecycle.token().clone());
        lifecycle.supervise_graceful("fleet leases", move || {
            let (fleet, end) = (leases.clone(), end.clone());
            async move {
                tokio::select! {
                    () = end.cancelled() => fleet.say_farewell().await,
                    () = fleet.keep_leases() => (),
                }
            }
        });
        lifecycle.supervise("fleet log", move || {
            let fleet = log.clone();
            async move { fleet.follow_log().await }
        });
        fleet
    }

    /// Takes part in a source. `status` is the state of this gateway's connection to it.
    ///
    /// A source that is joined twice at once, such as by an environment that is replaced, is led by whoever joined last.
    #[must_use]
    pub fn join(&self, name: &str, status: Status) -> Source {
        let name: Arc<str> = name.into();
        let shared = Arc::new(SharedSource::new(Arc::clone(&name), status, self.0.lease));
        self.0.sources.lock().insert(name, Arc::clone(&shared));
        self.0.joined.notify_one();
        Source::new(self.clone(), shared)
    }

    /// Returns the number of gateways in the fleet, as of the last answer of the database.
    #[must_use]
    pub fn members(&self) -> usize {
        self.0.members.load(Ordering::Relaxed)
    }

    /// Returns whether the database answers.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.0.is_available.load(Ordering::Relaxed)
    }

    /// Returns the role of this gateway for each source, in order of their names.
    #[must_use]
    pub fn roles(&self) -> Vec<(Arc<str>, Role)> {
        self.0.sources.lock().values().map(|it| (Arc::clone(&it.name), *it.role.borrow())).collect()
    }

    pub(crate) fn store(&self) -> &Arc<dyn FleetStore> {
        &self.0.store
    }

    pub(crate) fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Takes no further part in a source, and gives up its lease.
    pub(crate) fn leave(&self, source: &Arc<SharedSource>) {
        let mut sources = self.0.sources.lock();
        if sources.get(&source.name).is_some_and(|it| Arc::ptr_eq(it, source)) {
            sources.remove(&source.name);
            self.0.left.lock().push(source.farewell());
        }
    }

    /// Keeps leases until dropped.
    async fn keep_leases(&self) {
        loop {
            self.beat().await;
            tokio::select! {
                () = sleep(self.0.lease / RENEWALS) => (),
                () = self.0.joined.notified() => (),
            }
        }
    }

    async fn beat(&self) {
        let sources: Vec<_> = self.0.sources.lock().values().cloned().collect();
        let (now, has_others) = (Instant::now(), self.members() > 1);
        let mut wishes: Vec<_> = sources.iter().map(|it| it.wish(now, has_others)).collect();
        let left = std::mem::take(&mut *self.0.left.lock());
        // A source that was left and joined again is not given up.
        wishes.extend(left.into_iter().filter(|left| sources.iter().all(|it| it.name != left.source)));
        match self.0.store.beat(&self.0.instance, self.0.lease, &wishes).await {
            Ok(state) => {
                self.0.members.store(state.members, Ordering::Relaxed);
                self.mark_available();
                for (source, state) in sources.iter().zip(state.sources) {
                    source.answered(now, &self.0.instance, state);
                }
            }
            Err(error) => {
                self.mark_failed(&error);
                let now = Instant::now();
                sources.iter().for_each(|it| it.unanswered(now));
            }
        }
    }

    /// Gives up all leases, so that other gateways take over at once.
    async fn say_farewell(&self) {
        let sources: Vec<_> = self.0.sources.lock().values().cloned().collect();
        let wishes: Vec<_> = sources.iter().map(|it| it.farewell()).collect();
        // Otherwise they end by themselves.
        let _ = timeout(FAREWELL, self.0.store.beat(&self.0.instance, Duration::from_millis(1), &wishes)).await;
    }

    /// Passes the log on to the sources until dropped.
    async fn follow_log(&self) {
        let mut retry = Backoff::literal(RETRY, MAX_RETRY);
        loop {
            let error = match self.0.store.follow().await {
                Ok(mut log) => {
                    self.0.sources.lock().values().for_each(|it| it.outdate());
                    loop {
                        match log.next(LOG_WAIT).await {
                            Ok(entries) => {
                                retry.reset();
                                for entry in entries {
                                    let source = self.0.sources.lock().get(&entry.source).cloned();
                                    source.into_iter().for_each(|it| it.changed(entry.clone()));
                                }
                            }
                            Err(error) => break error,
                        }
                    }
                }
                Err(error) => error,
            };
            tracing::debug!(%error, "the log of the fleet cannot be followed");
            sleep(retry.next_delay()).await;
        }
    }

    fn mark_available(&self) {
        if !self.0.is_available.swap(true, Ordering::Relaxed) {
            tracing::warn!("the database of the fleet is available again");
        }
    }

    fn mark_failed(&self, error: &StoreError) {
        if self.0.is_available.swap(false, Ordering::Relaxed) {
            let trouble = error.trouble().as_str();
            tracing::warn!(%error, trouble, "the database of the fleet is unavailable, each gateway connects to upstream");
        }
    }
}
