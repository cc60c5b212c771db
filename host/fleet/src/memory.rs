//! The database of a fleet in memory, with the faults of a real one, for tests of what is built on fleets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use yardarm_store::{
    Entry, FleetLog, FleetState, FleetStore, LeaseAction, LeaseRequest, LogEntry, Position, SourceState, StoreError,
    Write, Written,
};

/// A database that several fleets in one process share. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct MemoryDatabase(Arc<Mutex<Content>>, Arc<Wake>);

/// One gateway's access to the database.
pub(crate) struct MemoryFleet {
    database: MemoryDatabase,
    gateway: usize,
}

/// The texts of a source by their keys.
type Texts = BTreeMap<Arc<str>, Arc<str>>;

#[derive(Default)]
struct Content {
    /// Holder and end of each lease.
    leases: BTreeMap<Arc<str>, (String, Instant)>,
    members: BTreeMap<String, Instant>,
    notes: BTreeMap<Arc<str>, Arc<str>>,
    contents: BTreeMap<String, (Position, Texts)>,
    log: Vec<LogEntry>,
    /// Gateways that cannot reach the database.
    cut_off: BTreeSet<usize>,
}

struct Wake(watch::Sender<()>);

impl Default for Wake {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl MemoryDatabase {
    /// Returns the access of the gateway with this number.
    pub(crate) fn access(&self, gateway: usize) -> MemoryFleet {
        MemoryFleet { database: self.clone(), gateway }
    }

    /// Lets a gateway reach the database, or not.
    pub(crate) fn set_reachable(&self, gateway: usize, is_reachable: bool) {
        let mut content = self.0.lock();
        if is_reachable {
            content.cut_off.remove(&gateway);
        } else {
            content.cut_off.insert(gateway);
        }
        drop(content);
        self.1.0.send_replace(());
    }

    /// Removes everything, as `FLUSHALL` does.
    pub(crate) fn flush(&self) {
        let mut content = self.0.lock();
        let cut_off = std::mem::take(&mut content.cut_off);
        // Followers of the log keep their place: only entries after it count.
        let log = std::mem::take(&mut content.log);
        *content = Content { cut_off, log, ..Content::default() };
    }

    /// Returns the instance that holds a lease.
    pub(crate) fn holder(&self, source: &str) -> Option<String> {
        self.0.lock().holder(source)
    }

    /// Returns the texts of a source's content.
    pub(crate) fn texts(&self, source: &str) -> Texts {
        self.0.lock().contents.get(source).map(|it| it.1.clone()).unwrap_or_default()
    }
}

impl Content {
    fn holder(&mut self, source: &str) -> Option<String> {
        let now = Instant::now();
        self.leases.retain(|_, (_, end)| *end > now);
        self.leases.get(source).map(|it| it.0.clone())
    }

    fn is_led_by(&mut self, write: &Write<'_>) -> bool {
        self.holder(write.source).as_deref() == Some(write.instance)
    }

    fn append(&mut self, write: &Write<'_>, changes: Option<Vec<Entry>>) {
        self.log.push(LogEntry { source: write.source.into(), position: write.next.clone(), changes });
    }
}

impl MemoryFleet {
    /// Runs an operation, unless the gateway is cut off, which it notices after a while.
    async fn run<T>(&self, operation: impl FnOnce(&mut Content) -> T) -> Result<T, StoreError> {
        if self.database.0.lock().cut_off.contains(&self.gateway) {
            sleep_until(Instant::now() + Duration::from_millis(300)).await;
            return Err(StoreError::TimedOut);
        }
        let result = operation(&mut self.database.0.lock());
        self.database.1.0.send_replace(());
        Ok(result)
    }
}

#[async_trait]
impl FleetStore for MemoryFleet {
    async fn heartbeat(
        &self,
        instance: &str,
        lifetime: Duration,
        requests: &[LeaseRequest],
    ) -> Result<FleetState, StoreError> {
        self.run(|content| {
            let now = Instant::now();
            content.members.insert(instance.to_owned(), now + lifetime);
            content.members.retain(|_, end| *end > now);
            let mut sources = Vec::new();
            for request in requests {
                let mut holder = content.holder(&request.source);
                if holder.as_deref() == Some(instance) && request.action == LeaseAction::Release {
                    content.leases.remove(&request.source);
                    holder = None;
                } else if holder.as_deref() == Some(instance)
                    || (holder.is_none() && request.action == LeaseAction::Claim)
                {
                    content.leases.insert(Arc::clone(&request.source), (instance.to_owned(), now + lifetime));
                    content.notes.insert(Arc::clone(&request.source), Arc::clone(&request.note));
                    holder = Some(instance.to_owned());
                }
                sources.push(SourceState {
                    holder: holder.map(Arc::from),
                    note: content.notes.get(&request.source).cloned().unwrap_or_default(),
                    position: content.contents.get(&*request.source).map(|it| it.0.clone()),
                });
            }
            FleetState { members: content.members.len(), sources }
        })
        .await
    }

    async fn append(&self, write: &Write<'_>, position: &Position, changes: &[Entry]) -> Result<Written, StoreError> {
        self.run(|content| {
            if !content.is_led_by(write) {
                return Written::NotLeader;
            }
            let Some((present, texts)) = content.contents.get_mut(write.source).filter(|it| it.0 == *position) else {
                return Written::OtherPosition;
            };
            present.clone_from(write.next);
            for (key, text) in changes {
                match text {
                    Some(text) => texts.insert(Arc::clone(key), Arc::clone(text)),
                    None => texts.remove(key),
                };
            }
            content.append(write, Some(changes.to_vec()));
            Written::Yes
        })
        .await
    }

    async fn replace(&self, write: &Write<'_>, all: &[Entry]) -> Result<Written, StoreError> {
        self.run(|content| {
            if !content.is_led_by(write) {
                return Written::NotLeader;
            }
            let texts = all.iter().filter_map(|(key, text)| Some((Arc::clone(key), text.clone()?))).collect();
            content.contents.insert(write.source.to_owned(), (write.next.clone(), texts));
            content.append(write, None);
            Written::Yes
        })
        .await
    }

    async fn read(&self, source: &str) -> Result<Option<(Position, Vec<Entry>)>, StoreError> {
        self.run(|content| {
            let (position, texts) = content.contents.get(source)?;
            let entries = texts.iter().map(|(key, text)| (Arc::clone(key), Some(Arc::clone(text))));
            Some((position.clone(), entries.collect()))
        })
        .await
    }

    async fn follow(&self) -> Result<Box<dyn FleetLog>, StoreError> {
        let next = self.run(|content| content.log.len()).await?;
        Ok(Box::new(MemoryLog { database: self.database.clone(), gateway: self.gateway, next }))
    }
}

struct MemoryLog {
    database: MemoryDatabase,
    gateway: usize,
    next: usize,
}

#[async_trait]
impl FleetLog for MemoryLog {
    async fn next(&mut self, wait: Duration) -> Result<Vec<LogEntry>, StoreError> {
        let mut changes = self.database.1.0.subscribe();
        let entries = async {
            loop {
                {
                    let content = self.database.0.lock();
                    if content.cut_off.contains(&self.gateway) {
                        return Err(StoreError::TimedOut);
                    }
                    if content.log.len() > self.next {
                        let entries = content.log[self.next..].to_vec();
                        self.next = content.log.len();
                        return Ok(entries);
                    }
                }
                // The database outlives its users.
                let _ = changes.changed().await;
            }
        };
        timeout(wait, entries).await.unwrap_or(Ok(Vec::new()))
    }
}
