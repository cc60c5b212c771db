//! A read replica: everything comes from the shared database, and nothing is requested from upstream.

mod contents;
mod events;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::status::ErrorKind;
use yardarm_core::{Backoff, InternalError, Supervised};
use yardarm_store::{StoreError, StreamFollower};

use super::environment_set::EnvironmentSet;
use crate::environments::EnvironmentFactory;
use crate::shared_store::{CONTROL_EVENTS, ControlState, ITEM_EVENTS, Known, SharedStore};

/// The streams that a replica follows.
const STREAMS: [&str; 2] = [ITEM_EVENTS, CONTROL_EVENTS];
/// Time that the server waits for events.
const WAIT: Duration = Duration::from_secs(1);
/// Time after events until everything is compared: the vendor's relay announces some changes before it writes them.
const AFTER_EVENTS: Duration = Duration::from_secs(2);
/// Time between reads until everything is in the database.
const UNTIL_COMPLETE: Duration = Duration::from_secs(1);
/// Shortest time between reads that unknown keys cause.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(2);
/// Time between attempts of a payload plugin that failed.
const PLUGIN_RETRY: Duration = Duration::from_secs(5);
/// Silence of the primary, which sends its state every 20 seconds, after which operators see that it may have ended.
const MAX_SILENCE: Duration = Duration::from_secs(70);
/// Delay after the first failure, and the longest delay.
const RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_secs(10);

/// Keeps the environments in sync with the database.
pub(crate) struct ReplicaTask {
    store: SharedStore,
    environments: EnvironmentSet,
    plans: watch::Receiver<u64>,
    backoff: Backoff,
    /// What was read last.
    known: Known,
    /// State of the primary's upstream stream.
    state: ControlState,
    next_read: Instant,
    /// Not before this does an unknown key cause a read.
    unknown_keys_after: Instant,
    /// When the primary sent its last event, and whether operators know that this is long ago.
    primary_seen: Instant,
    is_silent: bool,
}

impl ReplicaTask {
    pub(crate) fn new(store: SharedStore, factory: EnvironmentFactory, latch: ReadyLatch) -> Self {
        let now = Instant::now();
        Self {
            store,
            plans: factory.parts.hooks.changed(),
            environments: EnvironmentSet::many(factory, Some(latch)),
            backoff: Backoff::new(RETRY, MAX_RETRY).expect("the first delay is the shorter one"),
            known: Known::default(),
            state: ControlState::Initializing,
            next_read: now,
            unknown_keys_after: now,
            primary_seen: now,
            is_silent: false,
        }
    }

    /// Reads everything, and follows the changes until the database fails.
    async fn round(&mut self) -> Result<(), StoreError> {
        // Changes after this are events; those before are in what is read now.
        let mut follower = self.store.texts().follow(&STREAMS).await?;
        self.known = Known::default();
        self.read().await?;
        self.store.mark_available();
        self.backoff.reset();
        self.primary_seen = Instant::now();
        loop {
            self.step(&mut follower).await?;
        }
    }

    async fn step(&mut self, follower: &mut StreamFollower) -> Result<(), StoreError> {
        let environments = self.environments.factory.environments.clone();
        tokio::select! {
            news = follower.next(WAIT) => {
                let news = news?;
                if news.has_gap {
                    tracing::warn!("events of the primary were missed, reading everything");
                    self.known = Known::default();
                    self.next_read = Instant::now();
                }
                for (stream, event) in news.entries {
                    self.process(stream, &event).await?;
                }
                self.watch_primary();
            }
            () = environments.unknown_key(), if Instant::now() >= self.unknown_keys_after => {
                self.unknown_keys_after = Instant::now() + UNKNOWN_KEY_PAUSE;
                self.read().await?;
            }
            () = sleep_until(self.next_read) => self.read().await?,
            _ = self.plans.changed() => self.environments.plan_changed().await,
            () = sleep(PLUGIN_RETRY), if self.environments.is_behind() => self.environments.plan_changed().await,
        }
        Ok(())
    }

    /// Notes the state of the primary's upstream stream. SDKs may stream only while it is open.
    fn set_state(&mut self, state: ControlState) {
        if self.state == state {
            return;
        }
        self.state = state;
        match state {
            ControlState::Connected => {
                tracing::info!("upstream stream of the primary is active");
                self.environments.connect();
            }
            ControlState::Disconnected => {
                tracing::warn!("upstream stream of the primary is interrupted");
                self.environments.disconnect();
            }
            ControlState::Initializing => (),
        }
    }

    /// Shows operators that the primary sends nothing. Its last good data is served on.
    fn watch_primary(&mut self) {
        let is_silent = self.primary_seen.elapsed() > MAX_SILENCE;
        if is_silent && !self.is_silent {
            let problem = "the primary of the shared Redis sends nothing, so its data may be old";
            tracing::warn!(problem, "serving last good data");
            self.environments.note_failure((ErrorKind::Store, false), false, problem);
        }
        self.is_silent = is_silent;
    }
}

impl Supervised for ReplicaTask {
    /// Runs until dropped.
    async fn run(&mut self) {
        loop {
            let Err(error) = self.round().await else { continue };
            self.store.mark_failed(&error);
            // Without events SDKs must poll; they are served from memory.
            self.state = ControlState::Initializing;
            self.environments.disconnect();
            self.environments.note_failure((ErrorKind::Store, false), false, &error.to_string());
            sleep(self.backoff.next_delay()).await;
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.state = ControlState::Initializing;
        self.environments.disconnect();
        self.environments.note_failure((ErrorKind::Unknown, false), false, &error.to_string());
    }
}
