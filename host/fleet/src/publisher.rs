//! Publishes the newest content of a source while this gateway is its leader.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;
use yardarm_core::{Backoff, Lifecycle};
use yardarm_store::{Entry, Position, StoreError, Write, Written};

use crate::fleet::Fleet;
use crate::leadership::Role;
use crate::shared_source::SharedSource;
use crate::source::Source;

/// Delays between attempts to write.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// Content that can be published: keys with texts. Cheap to clone.
pub trait Content: Clone + Send + Sync + 'static {
    /// Returns what differs between `before`, or nothing, and `after`.
    fn changes(before: Option<&Self>, after: &Self) -> Vec<Entry>;
}

/// Publishes the newest content of a source. Only the newest content waits. Cheap to clone.
pub struct Publisher<C>(Arc<Shared<C>>);

struct Shared<C> {
    source: Arc<SharedSource>,
    fleet: Fleet,
    /// The newest content from upstream; `None` if this gateway has received none since it last followed.
    newest: watch::Sender<Option<C>>,
    /// What the database has, as far as this gateway knows.
    published: Mutex<Option<(Position, C)>>,
}

impl<C> Clone for Publisher<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Content> Publisher<C> {
    /// Starts the task that publishes what `source` receives from upstream.
    #[must_use]
    pub fn start(source: &Source, lifecycle: &Lifecycle) -> Self {
        let publisher = Self(Arc::new(Shared {
            source: Arc::clone(&source.shared),
            fleet: source.fleet.clone(),
            newest: watch::Sender::new(None),
            published: Mutex::new(None),
        }));
        let task = publisher.clone();
        lifecycle.supervise("fleet publisher", move || {
            let publisher = task.clone();
            async move { publisher.run().await }
        });
        publisher
    }

    /// Publishes content from upstream, now or when this gateway becomes the leader.
    pub fn publish(&self, content: C) {
        self.0.newest.send_replace(Some(content));
    }

    /// Notes content that the leader has published.
    pub fn followed(&self, position: Position, content: C) {
        self.0.newest.send_replace(None);
        *self.0.published.lock() = Some((position, content));
    }

    /// Runs until dropped.
    async fn run(&self) {
        let mut newest = self.0.newest.subscribe();
        let mut role = self.0.source.role.subscribe();
        let mut retry = Backoff::literal(RETRY, MAX_RETRY);
        newest.mark_changed();
        loop {
            tokio::select! {
                _ = newest.changed() => (),
                _ = role.changed() => (),
                () = self.0.source.lost.notified() => {
                    if *role.borrow() == Role::Leader && self.0.published.lock().take().is_some() {
                        tracing::warn!(source = %self.0.source.name, "shared content is gone or was changed, writing it again");
                    }
                }
            }
            loop {
                let content = newest.borrow_and_update().clone();
                let (Some(content), Role::Leader) = (content, *role.borrow_and_update()) else { break };
                match self.write(&content).await {
                    // `NotLeader`: the next heartbeat brings the role.
                    Ok(Written::Yes | Written::NotLeader) => {
                        retry.reset();
                        break;
                    }
                    Ok(Written::OtherPosition) => drop(self.0.published.lock().take()),
                    Err(error) => {
                        // It may have been written, so what the database has is unknown.
                        drop(self.0.published.lock().take());
                        self.0.source.set_position(None);
                        tracing::debug!(source = %self.0.source.name, %error, "shared content cannot be written");
                        tokio::time::sleep(retry.next_delay()).await;
                    }
                }
            }
        }
    }

    /// Writes what differs from the published content, or everything if that is unknown.
    async fn write(&self, content: &C) -> Result<Written, StoreError> {
        let published = self.0.published.lock().clone();
        let (store, source) = (self.0.fleet.store(), &self.0.source);
        let instance = self.0.fleet.instance();
        let (next, written) = match &published {
            Some((position, before)) => {
                let changes = C::changes(Some(before), content);
                if changes.is_empty() {
                    return Ok(Written::Yes);
                }
                let next = position.next();
                let write = Write { source: &source.name, instance, next: &next };
                let written = store.append(&write, position, &changes).await?;
                (next, written)
            }
            None => {
                let next = Position::first(Uuid::new_v4().to_string());
                let write = Write { source: &source.name, instance, next: &next };
                let written = store.replace(&write, &C::changes(None, content)).await?;
                (next, written)
            }
        };
        // Not if the role has changed in between: what is followed is noted by `followed` alone.
        if written == Written::Yes && *source.role.borrow() == Role::Leader {
            source.set_position(Some(next.clone()));
            *self.0.published.lock() = Some((next, content.clone()));
        }
        Ok(written)
    }
}
