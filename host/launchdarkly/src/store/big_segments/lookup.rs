//! Memberships of contexts in Big Segments, cached for a moment, and their freshness.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use yardarm_core::time::unix_ms;
use yardarm_launchdarkly_eval::evaluation::{BigSegmentsStatus, HashedKey, Memberships};
use yardarm_store::{Membership, Store};

/// How long and how many memberships are cached (U115). The oldest are evicted first.
const REMEMBERED: Duration = Duration::from_secs(5);
const ANSWERS: usize = 1000;
/// How often the time of the last synchronization is read.
const WATCH: Duration = Duration::from_secs(5);
/// Older data is reported as stale in reasons.
const STALE: Duration = Duration::from_secs(120);
/// No lookups for this long after a failure, so that requests do not queue up behind a hanging database.
const PAUSE: Duration = Duration::from_millis(500);

/// How fresh memberships are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Whether the last read succeeded.
    pub(crate) is_available: bool,
    /// Unix milliseconds of the last synchronization; 0 for never or unknown.
    pub(crate) synchronized_on: u64,
}

/// Cached lookups in the database.
pub(super) struct MembershipLookup {
    database: Arc<dyn Store>,
    state: Mutex<State>,
    /// Wakes the synchronizer when the database was emptied, which it would notice only at the next poll.
    pub(super) emptied: Notify,
}

struct State {
    freshness: Freshness,
    /// Whether the database had a cursor; without one it holds no memberships.
    has_cursor: bool,
    /// In order of insertion: lookups do not count as uses. Bounded by hand, so that an idle environment allocates nothing.
    answers: LruCache<Box<str>, Answer>,
    /// Incremented when the cache is cleared, so that lookups in flight at that time are not cached.
    generation: u64,
    paused_until: Option<Instant>,
}

struct Answer {
    membership: Arc<Membership>,
    until: Instant,
}

/// The result of a cache lookup.
enum CacheLookup {
    Hit(Arc<Membership>),
    Paused,
    Nothing { generation: u64 },
}

impl MembershipLookup {
    pub(super) fn new(database: Arc<dyn Store>) -> Self {
        let state = State {
            freshness: Freshness { is_available: true, synchronized_on: 0 },
            has_cursor: false,
            answers: LruCache::unbounded(),
            generation: 0,
            paused_until: None,
        };
        Self { database, state: Mutex::new(state), emptied: Notify::new() }
    }

    pub(super) fn freshness(&self) -> Freshness {
        self.lock().freshness
    }

    /// Clears the cache, because memberships have changed.
    pub(super) fn changed(&self) {
        let mut state = self.lock();
        state.has_cursor = true;
        state.answers.clear();
        state.generation += 1;
    }

    /// Records that the synchronizer has brought the database up to date.
    pub(super) fn synchronized(&self, at_ms: u64) {
        self.lock().freshness = Freshness { is_available: true, synchronized_on: at_ms };
    }

    /// Keeps the freshness up to date: another gateway may synchronize the same database.
    pub(super) async fn watch(&self) {
        let mut timer = tokio::time::interval(WATCH);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let freshness = match self.database.progress().await {
                Ok(progress) => {
                    let has_cursor = progress.cursor.is_some();
                    if std::mem::replace(&mut self.lock().has_cursor, has_cursor) && !has_cursor {
                        self.emptied.notify_one();
                    }
                    Freshness { is_available: true, synchronized_on: progress.synchronized_on.unwrap_or(0) }
                }
                Err(_) => Freshness { is_available: false, synchronized_on: 0 },
            };
            self.lock().freshness = freshness;
        }
    }

    pub(super) async fn memberships(&self, keys: &[HashedKey]) -> Memberships {
        let answers = join_all(keys.iter().map(|it| self.membership(&it.hash))).await;
        let status = self.status();
        let mut memberships = Memberships::new(status);
        for (HashedKey { key, .. }, answer) in keys.iter().zip(answers) {
            match answer {
                None => memberships.insert(key, BigSegmentsStatus::StoreError, std::iter::empty::<(&str, bool)>()),
                // The later of two wins: included before excluded.
                Some(membership) => {
                    let out = membership.excluded.iter().map(|it| (it.as_str(), false));
                    let into = membership.included.iter().map(|it| (it.as_str(), true));
                    memberships.insert(key, status, out.chain(into));
                }
            }
        }
        memberships
    }

    fn status(&self) -> BigSegmentsStatus {
        let age = unix_ms().saturating_sub(self.freshness().synchronized_on);
        if Duration::from_millis(age) > STALE { BigSegmentsStatus::Stale } else { BigSegmentsStatus::Healthy }
    }

    /// `None` when the database cannot be queried.
    async fn membership(&self, hash: &str) -> Option<Arc<Membership>> {
        let generation = match self.known(hash) {
            CacheLookup::Hit(membership) => return Some(membership),
            CacheLookup::Paused => return None,
            CacheLookup::Nothing { generation } => generation,
        };
        match self.database.membership(hash).await {
            Ok(membership) => {
                let membership = Arc::new(membership);
                self.remember(hash, &membership, generation);
                Some(membership)
            }
            Err(error) => {
                tracing::debug!(%error, "memberships of a context cannot be read");
                self.lock().paused_until = Some(Instant::now() + PAUSE);
                None
            }
        }
    }

    fn known(&self, hash: &str) -> CacheLookup {
        let state = self.lock();
        let now = Instant::now();
        if let Some(answer) = state.answers.peek(hash)
            && now < answer.until
        {
            return CacheLookup::Hit(Arc::clone(&answer.membership));
        }
        if state.paused_until.is_some_and(|until| now < until) {
            return CacheLookup::Paused;
        }
        CacheLookup::Nothing { generation: state.generation }
    }

    fn remember(&self, hash: &str, membership: &Arc<Membership>, generation: u64) {
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        let answer = Answer { membership: Arc::clone(membership), until: Instant::now() + REMEMBERED };
        state.answers.put(hash.into(), answer);
        if state.answers.len() > ANSWERS {
            state.answers.pop_lru();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests;
