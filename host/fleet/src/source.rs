//! A source of data that the gateways of a fleet share, as one of them sees it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use yardarm_core::Backoff;
use yardarm_core::status::{Connection, Status};
use yardarm_store::{Entry, LeaseAction, LeaseWish, LogEntry, Position, SourceState};

use crate::fleet::Fleet;
use crate::leadership::{Leadership, Role};

/// Changes of one source that wait at most; beyond that, its content is read.
const MAX_WAITING: usize = 256;
/// Delays between attempts to read content.
const RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(5);

/// A shared source. It is left when dropped.
pub struct Source {
    pub(crate) shared: Arc<SharedSource>,
    pub(crate) fleet: Fleet,
    retry: Backoff,
    /// The report of the leader that was returned last.
    reported: Option<LeaderReport>,
}

/// What the tasks of the fleet and the users of a source share.
pub(crate) struct SharedSource {
    pub(crate) name: Arc<str>,
    /// State of this gateway's upstream connection, which counts while it is the leader.
    status: Status,
    leadership: Mutex<Leadership>,
    pub(crate) role: watch::Sender<Role>,
    view: Mutex<View>,
    /// Wakes who follows the source.
    news: Notify,
    /// Wakes who publishes it, when the database has lost what was published.
    pub(crate) lost: Notify,
}

#[derive(Default)]
struct View {
    /// The position that this gateway has: written by it, or read.
    position: Option<Position>,
    /// A position of the database that differs, as of the last beat.
    suspect: Option<Option<Position>>,
    /// Changes that have not been read.
    waiting: VecDeque<LogEntry>,
    /// Whether the content has to be read.
    is_outdated: bool,
    leader: Option<LeaderReport>,
}

/// What a leader reports about its upstream connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderReport {
    /// Whether the connection is valid.
    pub is_valid: bool,
    /// Since when, in Unix milliseconds by the clock of the leader.
    pub since_ms: u64,
    /// The last error, if the connection is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
}

/// What a follower learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The gateway does not follow any more.
    RoleChanged,
    /// The leader has reported another state of its upstream connection.
    Leader(LeaderReport),
    /// All content.
    Content(Position, Vec<Entry>),
    /// Changes since what was returned before.
    Changes(Position, Vec<Entry>),
}

impl Source {
    pub(crate) fn new(fleet: Fleet, shared: Arc<SharedSource>) -> Self {
        Self { shared, fleet, retry: Backoff::literal(RETRY, MAX_RETRY), reported: None }
    }

    /// Returns the role of this gateway, which changes.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.shared.role.subscribe()
    }

    /// Begins to follow: the next [`Self::news`] are of the leader and all content, if there is any.
    pub fn begin(&mut self) {
        self.reported = None;
        self.shared.outdate();
    }

    /// Waits for news about a source that this gateway follows. If a wait is dropped, the content is read again.
    pub async fn news(&mut self) -> News {
        let mut role = self.role();
        loop {
            if *role.borrow_and_update() != Role::Follower {
                return News::RoleChanged;
            }
            if let Some(news) = self.shared.changes() {
                return news;
            }
            if let Some(leader) = self.shared.leader().filter(|it| self.reported.as_ref() != Some(it)) {
                self.reported = Some(leader.clone());
                return News::Leader(leader);
            }
            if self.shared.view.lock().is_outdated {
                tokio::select! {
                    read = self.read() => if let Some(news) = read { return news },
                    _ = role.changed() => (),
                }
                continue;
            }
            tokio::select! {
                () = self.shared.news.notified() => (),
                _ = role.changed() => (),
            }
        }
    }

    /// Reads the content; `None` if there is none or it cannot be read now.
    async fn read(&mut self) -> Option<News> {
        // Changes that arrive from here on are either in what is read or follow it.
        self.shared.view.lock().waiting.clear();
        match self.fleet.store().read(&self.shared.name).await {
            Ok(content) => {
                self.retry.reset();
                let mut view = self.shared.view.lock();
                view.is_outdated = false;
                view.suspect = None;
                let (position, entries) = content?;
                view.position = Some(position.clone());
                Some(News::Content(position, entries))
            }
            Err(error) => {
                tracing::debug!(source = %self.shared.name, %error, "shared content cannot be read");
                tokio::time::sleep(self.retry.next_delay()).await;
                None
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.fleet.leave(&self.shared);
    }
}

impl SharedSource {
    pub(crate) fn new(name: Arc<str>, status: Status, lease: Duration) -> Self {
        Self {
            name,
            status,
            leadership: Mutex::new(Leadership::new(lease)),
            role: watch::Sender::new(Role::Undecided),
            view: Mutex::default(),
            news: Notify::new(),
            lost: Notify::new(),
        }
    }

    /// What this gateway wants of the lease.
    pub(crate) fn wish(&self, now: tokio::time::Instant, has_others: bool) -> LeaseWish {
        let report = LeaderReport::of(&self.status);
        // An outage behind upstream is the same for all gateways.
        let action = self.leadership.lock().wish(now, self.status.is_connected(), has_others);
        // Numbers and texts can always be encoded.
        let note = serde_json::to_string(&report).unwrap_or_default();
        LeaseWish { source: Arc::clone(&self.name), action, note: note.into() }
    }

    /// A wish to give up the lease.
    pub(crate) fn farewell(&self) -> LeaseWish {
        LeaseWish { source: Arc::clone(&self.name), action: LeaseAction::Release, note: "".into() }
    }

    /// Takes the state of the source from the database.
    pub(crate) fn answered(&self, asked_at: tokio::time::Instant, instance: &str, state: SourceState) {
        let role = self.leadership.lock().answered(asked_at, instance, state.holder.as_deref());
        let is_different = {
            let mut view = self.view.lock();
            if role == Role::Follower
                && state.holder.is_some()
                && let Ok(leader) = serde_json::from_str(&state.note)
            {
                view.leader = Some(leader);
            }
            view.compare(role, state.position)
        };
        self.enter(role);
        match role {
            Role::Leader if is_different => self.lost.notify_one(),
            Role::Follower => self.news.notify_one(),
            _ => (),
        }
    }

    /// Notes that the database did not answer.
    pub(crate) fn unanswered(&self, now: tokio::time::Instant) {
        let role = self.leadership.lock().unanswered(now);
        self.enter(role);
    }

    fn enter(&self, role: Role) {
        let is_new = self.role.send_if_modified(|it| std::mem::replace(it, role) != role);
        if is_new {
            tracing::info!(source = %self.name, role = role.as_str(), "role in the fleet");
        }
    }

    /// Takes a change from the log.
    pub(crate) fn changed(&self, entry: LogEntry) {
        let mut view = self.view.lock();
        if view.waiting.len() >= MAX_WAITING {
            view.waiting.clear();
            view.is_outdated = true;
        } else {
            view.waiting.push_back(entry);
        }
        drop(view);
        self.news.notify_one();
    }

    /// Notes that changes may have been missed.
    pub(crate) fn outdate(&self) {
        self.view.lock().is_outdated = true;
        self.news.notify_one();
    }

    /// Notes the position after a write of this gateway; `None` if it is unknown.
    pub(crate) fn set_position(&self, position: Option<Position>) {
        let mut view = self.view.lock();
        view.position = position;
        view.suspect = None;
    }

    fn leader(&self) -> Option<LeaderReport> {
        self.view.lock().leader.clone()
    }

    /// The next change, if it follows what this gateway has.
    fn changes(&self) -> Option<News> {
        let mut view = self.view.lock();
        while !view.is_outdated {
            let LogEntry { position, changes, .. } = view.waiting.pop_front()?;
            let Some(present) = &view.position else {
                view.is_outdated = true;
                break;
            };
            if present.is_at_or_after(&position) {
                continue;
            }
            match changes {
                Some(changes) if present.next() == position => {
                    view.position = Some(position.clone());
                    return Some(News::Changes(position, changes));
                }
                _ => view.is_outdated = true,
            }
        }
        None
    }
}

impl View {
    /// Compares the position of the database with that of this gateway; returns whether they differ, and not only for the
    /// moment that a change needs to arrive.
    fn compare(&mut self, role: Role, theirs: Option<Position>) -> bool {
        let is_expected = match (role, &self.position, &theirs) {
            (Role::Leader, ours, theirs) => ours == theirs,
            (_, _, None) => true,
            (_, None, Some(_)) => false,
            (_, Some(ours), Some(theirs)) => ours.is_at_or_after(theirs),
        };
        if is_expected {
            self.suspect = None;
            return false;
        }
        let is_different = self.suspect.as_ref() == Some(&theirs);
        self.suspect = Some(theirs);
        if is_different && role == Role::Follower {
            self.is_outdated = true;
        }
        is_different
    }
}

impl LeaderReport {
    fn of(status: &Status) -> Self {
        let status = status.current();
        let is_valid = status.connection == Connection::Valid;
        let error = status.last_error.filter(|_| !is_valid).map(|it| it.message);
        Self { is_valid, since_ms: status.since_ms, error }
    }
}
