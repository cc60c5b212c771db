//! The state of one source as a gateway sees it: its role, the position of its content, and changes that were not read yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use yardarm_core::status::{Connection, Status};
use yardarm_store::{Entry, LeaseAction, LeaseRequest, LogEntry, Position, SourceState};

use crate::leadership::{Leadership, Role};

/// Changes of one source that wait at most; beyond that, its content is read.
const MAX_WAITING: usize = 256;

/// What the tasks of the fleet and the users of a source share.
pub(crate) struct SharedSource {
    pub(crate) name: Arc<str>,
    /// State of this gateway's upstream connection, which counts while it is the leader.
    status: Status,
    leadership: Mutex<Leadership>,
    pub(crate) role: watch::Sender<Role>,
    view: Mutex<View>,
    /// Wakes the follower of the source.
    pub(crate) news: Notify,
    /// Wakes the publisher when the database has lost what was published.
    pub(crate) lost: Notify,
}

#[derive(Default)]
struct View {
    /// The position that this gateway has: written by it, or read.
    position: Option<Position>,
    /// The position of the database as of the last heartbeat, if it differs.
    different: Option<Option<Position>>,
    /// Changes that have not been read.
    waiting: VecDeque<LogEntry>,
    /// How often changes may have been missed, and how many of these times the content has been read since.
    missed: u64,
    read: u64,
    leader: Option<LeaderReport>,
}

/// What a leader reports about its upstream connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderReport {
    /// Whether the connection is valid.
    pub is_valid: bool,
    /// The last error, if the connection is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Arc<str>>,
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

    /// The request for the lease in a heartbeat.
    pub(crate) fn lease_request(&self, now: Instant, has_others: bool) -> LeaseRequest {
        let report = LeaderReport::of(&self.status);
        // An outage behind upstream is the same for all gateways.
        let action = self.leadership.lock().next_action(now, self.status.is_connected(), has_others);
        // Numbers and texts can always be encoded.
        let note = serde_json::to_string(&report).unwrap_or_default();
        LeaseRequest { source: Arc::clone(&self.name), action, note: note.into() }
    }

    /// The request that gives up the lease.
    pub(crate) fn release_request(&self) -> LeaseRequest {
        LeaseRequest { source: Arc::clone(&self.name), action: LeaseAction::Release, note: "".into() }
    }

    /// Takes the state of the source from the database.
    pub(crate) fn set_state(&self, sent_at: Instant, instance: &str, state: SourceState) {
        let role = self.leadership.lock().set_holder(sent_at, instance, state.holder.as_deref());
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
    pub(crate) fn set_unreachable(&self, now: Instant) {
        let role = self.leadership.lock().set_unreachable(now);
        self.enter(role);
    }

    fn enter(&self, role: Role) {
        let is_new = self.role.send_if_modified(|it| std::mem::replace(it, role) != role);
        if is_new {
            tracing::info!(source = %self.name, role = role.as_str(), "role in the fleet");
        }
    }

    /// Takes a change from the log. Only a follower needs it, and it reads all content when it begins to follow.
    pub(crate) fn push(&self, entry: LogEntry) {
        if *self.role.borrow() != Role::Follower {
            return;
        }
        let mut view = self.view.lock();
        if view.waiting.len() >= MAX_WAITING {
            view.outdate();
        } else {
            view.waiting.push_back(entry);
        }
        drop(view);
        self.news.notify_one();
    }

    /// Notes that changes may have been missed.
    pub(crate) fn outdate(&self) {
        self.view.lock().outdate();
        self.news.notify_one();
    }

    /// Returns a ticket for a read of the content, if it has to be read. Changes from here on are either in what is read or
    /// follow it.
    pub(crate) fn begin_read(&self) -> Option<u64> {
        let mut view = self.view.lock();
        view.is_outdated().then(|| {
            view.waiting.clear();
            view.missed
        })
    }

    /// Notes that the content was read, with the ticket of the read and the position; `None` if there is no content.
    pub(crate) fn end_read(&self, ticket: u64, position: Option<&Position>) {
        let mut view = self.view.lock();
        view.read = ticket;
        view.different = None;
        if let Some(position) = position {
            view.position = Some(position.clone());
        }
    }

    /// Notes the position after a write of this gateway; `None` if it is unknown.
    pub(crate) fn set_position(&self, position: Option<Position>) {
        let mut view = self.view.lock();
        view.position = position;
        view.different = None;
    }

    /// The newest report of a leader.
    pub(crate) fn leader(&self) -> Option<LeaderReport> {
        self.view.lock().leader.clone()
    }

    /// The next change, if it follows what this gateway has.
    pub(crate) fn next_change(&self) -> Option<(Position, Vec<Entry>)> {
        let mut view = self.view.lock();
        while !view.is_outdated() {
            let LogEntry { position, changes, .. } = view.waiting.pop_front()?;
            if view.position.as_ref().is_some_and(|present| present.is_at_or_after(&position)) {
                continue;
            }
            let follows = view.position.as_ref().is_some_and(|present| present.next() == position);
            match changes.filter(|_| follows) {
                Some(changes) => {
                    view.position = Some(position.clone());
                    return Some((position, changes));
                }
                None => view.outdate(),
            }
        }
        None
    }
}

impl View {
    fn is_outdated(&self) -> bool {
        self.read < self.missed
    }

    fn outdate(&mut self) {
        self.missed += 1;
        self.waiting.clear();
    }

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
            self.different = None;
            return false;
        }
        let is_different = self.different.as_ref() == Some(&theirs);
        self.different = Some(theirs);
        if is_different && role == Role::Follower {
            self.outdate();
        }
        is_different
    }
}

impl LeaderReport {
    fn of(status: &Status) -> Self {
        let status = status.current();
        let is_valid = status.connection == Connection::Valid;
        let error = status.last_error.filter(|_| !is_valid).map(|it| it.message);
        Self { is_valid, error }
    }
}
