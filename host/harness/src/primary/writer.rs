//! The task that writes what this gateway serves into the shared database, and sends what has changed to read replicas.
//!
//! There is no queue: the task compares what it has written with the newest data whenever that has changed, so an outage
//! of the database takes no memory, and what changed several times meanwhile is written once.

mod resync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use yardarm_core::{Backoff, InternalError, Secret, Supervised};
use yardarm_store::{StoreError, TextChange};

use super::differences::{Written, removal};
use super::state;
use crate::environments::Environments;
use crate::shared_store::{
    CONTROL_EVENTS, ControlState, EnvironmentKeys, HEALTH, Inventory, SharedEvent, SharedStore, entry, inventory_key,
};

/// Delay after the first failure, and the longest delay.
const RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Keeps the database up to date.
pub(crate) struct PrimaryWriter {
    store: SharedStore,
    environments: Environments,
    /// The key of the inventory; there is none with API keys, as in version 1 of the vendor's relay.
    inventory_key: Option<String>,
    check_interval: Duration,
    backoff: Backoff,
    /// What the database holds of each environment.
    written: BTreeMap<String, Written>,
    /// Keys of the database that belong to no environment that is served. They are removed once all environments are known.
    stale: BTreeSet<String>,
    /// Keys that are about to be written.
    coming: BTreeSet<String>,
    inventory: Option<Inventory>,
    /// The state that was sent to replicas last.
    sent: Option<ControlState>,
    /// Whether the database is known to hold what is in `written`.
    is_synchronized: bool,
}

impl PrimaryWriter {
    pub(crate) fn new(
        store: SharedStore,
        environments: Environments,
        proxy_key: Option<&Secret>,
        check_interval: Duration,
    ) -> Self {
        Self {
            store,
            environments,
            inventory_key: proxy_key.map(inventory_key),
            check_interval,
            backoff: Backoff::new(RETRY, MAX_RETRY).expect("the first delay is the shorter one"),
            written: BTreeMap::new(),
            stale: BTreeSet::new(),
            coming: BTreeSet::new(),
            inventory: None,
            sent: None,
            is_synchronized: false,
        }
    }

    /// Brings the database up to date.
    async fn step(&mut self, is_check: bool) -> Result<(), StoreError> {
        if is_check && self.is_synchronized {
            self.check().await?;
        }
        if self.is_synchronized {
            self.write().await?;
        } else {
            self.resynchronize().await?;
            self.is_synchronized = true;
        }
        self.tell(is_check).await
    }

    /// Detects that the database was emptied.
    async fn check(&mut self) -> Result<(), StoreError> {
        let lists: Vec<_> = self.written.keys().map(|id| EnvironmentKeys(id).flags()).collect();
        let names = lists.iter().chain(self.inventory_key.as_ref().filter(|_| self.inventory.is_some()));
        let names: Vec<_> = names.cloned().collect();
        if self.store.texts().count(&names).await? < names.len() {
            tracing::warn!("data is gone from shared Redis and is written again");
            self.is_synchronized = false;
        }
        Ok(())
    }

    /// Writes what has changed since the last write.
    async fn write(&mut self) -> Result<(), StoreError> {
        let newest = state::environments(&self.environments);
        let changed = newest.values().filter(|it| {
            let is_same = |written: &Written| {
                written.keys == it.keys && it.items.replaced_since(&written.items).is_some_and(|it| it.is_empty())
            };
            !self.written.get(&it.id).is_some_and(is_same)
        });
        let changed: Vec<_> = changed.map(|it| (it.id.clone(), Written::of(it))).collect();
        self.announce(&changed).await?;
        for (id, after) in changed {
            let before = match self.written.remove(&id) {
                Some(before) => before,
                // Another process may have written it.
                None => self.read(&id, &after, None).await?,
            };
            self.commit(&id, before, Some(after)).await?;
        }
        self.remove_environments().await?;
        self.coming.clear();
        self.remove_stale().await?;
        self.write_inventory().await
    }

    /// Removes environments that are no longer served.
    async fn remove_environments(&mut self) -> Result<(), StoreError> {
        let is_served = |id: &String| self.environments.by_id(id).is_some();
        let gone: Vec<_> = self.written.keys().filter(|it| !is_served(it)).cloned().collect();
        for id in gone {
            if let Some(before) = self.written.remove(&id) {
                self.commit(&id, before, None).await?;
            }
        }
        Ok(())
    }

    /// Lists in the inventory what is about to be written, so that readers wait for data that is not there yet.
    async fn announce(&mut self, coming: &[(String, Written)]) -> Result<(), StoreError> {
        self.coming = coming.iter().flat_map(|it| it.1.assets()).cloned().collect();
        self.write_inventory().await
    }

    /// Writes one environment, of which the database holds `before`, and the events that announce the changes. `None` removes
    /// it.
    async fn commit(&mut self, id: &str, before: Written, after: Option<Written>) -> Result<(), StoreError> {
        let nothing = Written::default();
        let newest = after.as_ref().unwrap_or(&nothing);
        let is_used = |name: &str| self.coming.contains(name) || self.is_used(name);
        let mut changes = newest.changes_since(&before, is_used);
        let mut events = newest.events_since(&before, id);
        if after.is_none() {
            events = vec![removal(id)];
        }
        if let Some(after) = after {
            self.written.insert(id.to_owned(), after);
        }
        // Readers that come because of an event find an inventory without what is gone.
        before.texts.keys().for_each(|it| _ = self.stale.remove(it));
        let inventory = self.new_inventory();
        if let (Some(key), Some(inventory)) = (&self.inventory_key, &inventory) {
            changes.push(TextChange::Set(key.clone(), inventory.text()));
        }
        changes.extend(events);
        let applied = self.store.texts().apply(&changes).await;
        match &applied {
            Ok(()) => self.inventory = inventory.or(self.inventory.take()),
            // The database is read again, with this as what it may hold.
            Err(_) => _ = self.written.insert(id.to_owned(), before),
        }
        applied
    }

    /// Returns whether the database holds this key for an environment that is served.
    fn is_used(&self, name: &str) -> bool {
        self.written.values().any(|it| it.texts.contains_key(name))
    }

    /// Returns the inventory that belongs into the database; `None` if it is there.
    fn new_inventory(&self) -> Option<Inventory> {
        self.inventory_key.as_ref()?;
        let written = self.written.values().flat_map(Written::assets);
        let inventory = Inventory(written.chain(&self.coming).chain(&self.stale).cloned().collect());
        let is_first_and_empty = inventory.0.is_empty() && self.inventory.is_none();
        (!is_first_and_empty && self.inventory.as_ref() != Some(&inventory)).then_some(inventory)
    }

    /// Writes the inventory, if it has changed.
    async fn write_inventory(&mut self) -> Result<(), StoreError> {
        if let (Some(key), Some(inventory)) = (&self.inventory_key, self.new_inventory()) {
            self.store.texts().apply(&[TextChange::Set(key.clone(), inventory.text())]).await?;
            self.inventory = Some(inventory);
        }
        Ok(())
    }

    /// Sends the state of the upstream stream to replicas, if it has changed or `is_due`.
    async fn tell(&mut self, is_due: bool) -> Result<(), StoreError> {
        let Some((state, since)) = state::stream(&self.environments) else { return Ok(()) };
        if self.sent == Some(state) && !is_due {
            return Ok(());
        }
        let control = TextChange::Append(entry(CONTROL_EVENTS, &SharedEvent::control(state)));
        let record = TextChange::Set(HEALTH.to_owned(), state.record(since));
        self.store.texts().apply(&[record, control]).await?;
        self.sent = Some(state);
        Ok(())
    }
}

impl Supervised for PrimaryWriter {
    /// Runs until dropped.
    async fn run(&mut self) {
        let changed = Arc::clone(self.environments.changed());
        let mut next_check = Instant::now() + self.check_interval;
        loop {
            let is_check = Instant::now() >= next_check;
            if is_check {
                next_check = Instant::now() + self.check_interval;
            }
            match self.step(is_check).await {
                Ok(()) if !self.is_synchronized => continue,
                Ok(()) => {
                    self.store.mark_available();
                    self.backoff.reset();
                }
                Err(error) => {
                    // What was sent may have been executed.
                    self.is_synchronized = false;
                    self.sent = None;
                    self.store.mark_failed(&error);
                    tokio::time::sleep(self.backoff.next_delay()).await;
                    continue;
                }
            }
            tokio::select! {
                () = changed.notified() => (),
                () = sleep_until(next_check) => (),
            }
        }
    }

    fn recover(&mut self, _: &InternalError) {
        self.is_synchronized = false;
    }
}
