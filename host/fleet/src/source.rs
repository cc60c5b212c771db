//! A source of data that the gateways of a fleet share, for the task that keeps its data in sync.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use yardarm_core::Backoff;
use yardarm_core::status::Status;
use yardarm_store::{Entry, Position};

use crate::fleet::Fleet;
use crate::leadership::Role;
use crate::shared_source::{LeaderReport, SharedSource};

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

/// What a follower receives.
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
    /// Takes part in the source `name`. `status` is the state of this gateway's connection to it.
    ///
    /// While a source is joined twice, such as when an environment is replaced, only the later one takes part.
    #[must_use]
    pub fn join(fleet: &Fleet, name: &str, status: Status) -> Self {
        let shared = fleet.add(name, status);
        Self { shared, fleet: fleet.clone(), retry: Backoff::literal(RETRY, MAX_RETRY), reported: None }
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

    /// Waits for news about a source that this gateway follows. If a wait is dropped, nothing is lost.
    pub async fn news(&mut self) -> News {
        let mut role = self.role();
        loop {
            if *role.borrow_and_update() != Role::Follower {
                return News::RoleChanged;
            }
            if let Some((position, changes)) = self.shared.next_change() {
                return News::Changes(position, changes);
            }
            if let Some(leader) = self.shared.leader().filter(|it| self.reported.as_ref() != Some(it)) {
                self.reported = Some(leader.clone());
                return News::Leader(leader);
            }
            match self.shared.begin_read() {
                Some(ticket) => tokio::select! {
                    read = self.read(ticket) => if let Some(news) = read { return news },
                    _ = role.changed() => (),
                },
                None => tokio::select! {
                    () = self.shared.news.notified() => (),
                    _ = role.changed() => (),
                },
            }
        }
    }

    /// Reads the content; `None` if there is none or it cannot be read now.
    async fn read(&mut self, ticket: u64) -> Option<News> {
        match self.fleet.store().read(&self.shared.name).await {
            Ok(content) => {
                self.retry.reset();
                self.shared.end_read(ticket, content.as_ref().map(|it| &it.0));
                content.map(|(position, entries)| News::Content(position, entries))
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
        self.fleet.remove(&self.shared);
    }
}
