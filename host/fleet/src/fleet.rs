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
use yardarm_store::{FleetStore, LeaseRequest, RedisFleet, StoreError};

use crate::config::FleetConfig;
use crate::leadership::Role;
use crate::shared_source::SharedSource;

/// Renewals of a lease during its lifetime.
const RENEWALS: u32 = 5;
/// Time that the database waits for changes before it answers without any.
const LOG_WAIT: Duration = Duration::from_secs(1);
/// Delays between attempts to follow the log.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);
/// Time limit for giving up all leases at the end of the process.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// A gateway's part in a fleet. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

struct Shared {
    store: Arc<dyn FleetStore>,
    /// Identifies this process.
    instance: String,
    lease: Duration,
    sources: Mutex<BTreeMap<Arc<str>, Arc<SharedSource>>>,
    /// Requests that give up the leases of sources that were removed.
    released: Mutex<Vec<LeaseRequest>>,
    /// Wakes the task that keeps leases.
    added: Notify,
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
            released: Mutex::default(),
            added: Notify::new(),
            members: AtomicUsize::new(1),
            is_available: AtomicBool::new(true),
        }));
        let (leases, log, end) = (fleet.clone(), fleet.clone(), lifecycle.token().clone());
        lifecycle.supervise_graceful("fleet leases", move || {
            let (fleet, end) = (leases.clone(), end.clone());
            async move {
                tokio::select! {
                    () = end.cancelled() => fleet.release_all().await,
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

    /// Takes part in a source.
    pub(crate) fn add(&self, name: &str, status: Status) -> Arc<SharedSource> {
        let name: Arc<str> = name.into();
        let shared = Arc::new(SharedSource::new(Arc::clone(&name), status, self.0.lease));
        self.0.sources.lock().insert(name, Arc::clone(&shared));
        self.0.added.notify_one();
        shared
    }

    /// Takes no further part in a source, and gives up its lease.
    pub(crate) fn remove(&self, source: &Arc<SharedSource>) {
        let mut sources = self.0.sources.lock();
        if sources.get(&source.name).is_some_and(|it| Arc::ptr_eq(it, source)) {
            sources.remove(&source.name);
            self.0.released.lock().push(source.release_request());
        }
    }

    /// Keeps leases until dropped.
    async fn keep_leases(&self) {
        loop {
            self.send_heartbeat().await;
            tokio::select! {
                () = sleep(self.0.lease / RENEWALS) => (),
                () = self.0.added.notified() => (),
            }
        }
    }

    async fn send_heartbeat(&self) {
        let sources: Vec<_> = self.0.sources.lock().values().cloned().collect();
        let (now, has_others) = (Instant::now(), self.members() > 1);
        let mut requests: Vec<_> = sources.iter().map(|it| it.lease_request(now, has_others)).collect();
        let released = std::mem::take(&mut *self.0.released.lock());
        // A source that was removed and added again is kept.
        requests.extend(released.into_iter().filter(|gone| sources.iter().all(|it| it.name != gone.source)));
        match self.0.store.heartbeat(&self.0.instance, self.0.lease, &requests).await {
            Ok(state) => {
                self.0.members.store(state.members, Ordering::Relaxed);
                self.mark_available();
                for (source, state) in sources.iter().zip(state.sources) {
                    source.set_state(now, &self.0.instance, state);
                }
            }
            Err(error) => {
                self.mark_failed(&error);
                let now = Instant::now();
                sources.iter().for_each(|it| it.set_unreachable(now));
            }
        }
    }

    /// Gives up all leases, so that other gateways take over at once.
    async fn release_all(&self) {
        let sources: Vec<_> = self.0.sources.lock().values().cloned().collect();
        let requests: Vec<_> = sources.iter().map(|it| it.release_request()).collect();
        // Otherwise they end by themselves.
        let _ = timeout(RELEASE_TIMEOUT, self.0.store.heartbeat(&self.0.instance, Duration::from_millis(1), &requests))
            .await;
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
                                    if let Some(source) = source {
                                        source.push(entry);
                                    }
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
