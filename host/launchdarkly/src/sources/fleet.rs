//! An environment whose upstream connection is shared by the gateways of a fleet.
//!
//! The leader is connected to upstream, and everything that it receives is published. Followers serve what is published, and
//! show the state of the leader's connection as theirs.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use yardarm_core::status::{ErrorKind, Status};
use yardarm_core::{InternalError, Supervised};
use yardarm_fleet::{LeaderReport, News, Position, Publisher, Role, Source};

use super::apply::Applier;
use super::stream::StreamTask;
use super::stream::fdv2::Fdv2Task;
use crate::config::EnvironmentConfig;
use crate::data::Items;
use crate::environments::LdEnvironment;
use crate::identity::VENDOR;
use crate::store::content;

/// Time after which the leader has heard of everything that this gateway heard before it began to follow. Until then, what
/// is newer or unknown there is kept.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// The task that keeps one environment in sync, from upstream or from another gateway.
pub(crate) struct FleetTask {
    pub(crate) environment: Arc<LdEnvironment>,
    pub(crate) source: Source,
    pub(crate) publisher: Publisher<Items>,
    pub(crate) upstream: UpstreamTask,
}

/// The task that keeps one environment in sync from upstream.
pub(crate) enum UpstreamTask {
    Fdv1(Box<StreamTask>),
    Fdv2(Box<Fdv2Task>),
}

/// The name of an environment's source in a fleet. Gateways with other credentials under the same name do not share it.
pub(crate) fn source_name(config: &EnvironmentConfig, filter: &str) -> String {
    let credential = match config.credentials.env_id() {
        Some(id) => id.as_str(),
        None => config.credentials.sdk_key().expose(),
    };
    let digest = hex::encode(&Sha256::digest(credential.as_bytes())[..8]);
    format!("{VENDOR}/{digest}/{filter}")
}

/// Shows the state of a leader's connection as that of `status`.
pub(super) fn show(report: &LeaderReport, status: &Status) {
    if report.is_valid {
        status.message_processed();
    } else if let Some(error) = &report.error {
        let message = format!("the leader of the fleet is not connected to upstream: {error}");
        status.interrupted(ErrorKind::Network, &message);
    }
}

/// Waits for news. Returns `None` at `settled_at`, unless `is_settled`.
pub(super) async fn news_until(source: &mut Source, settled_at: Instant, is_settled: bool) -> Option<News> {
    tokio::select! {
        news = source.news() => Some(news),
        () = sleep_until(settled_at), if !is_settled => None,
    }
}

/// Runs `task` as long as this gateway is connected to upstream.
pub(super) async fn while_connected(mut role: watch::Receiver<Role>, task: impl Future<Output = ()>) {
    tokio::select! {
        () = task => (),
        // The source outlives the wait.
        _ = role.wait_for(|it| !it.is_connected()) => (),
    }
}

impl FleetTask {
    /// Serves what the leader publishes, until there is another role.
    async fn follow(&mut self) {
        self.source.begin();
        let status = &self.environment.status;
        let mut leader: Option<LeaderReport> = None;
        let mut published: Option<(Position, Items)> = None;
        let settled_at = Instant::now() + SETTLED;
        let mut is_exact = false;
        loop {
            let applier = self.upstream.applier();
            let Some(news) = applier.run_until(news_until(&mut self.source, settled_at, is_exact)).await else {
                is_exact = true;
                published = None;
                self.source.begin();
                continue;
            };
            let (position, items) = match news {
                News::RoleChanged => return,
                News::Leader(report) => {
                    // Without content, what is served may be older than the leader's.
                    if published.is_some() {
                        show(&report, status);
                    }
                    leader = Some(report);
                    continue;
                }
                News::Content(position, entries) => {
                    let (items, held) = (content::items(entries).await, applier.upstream_items());
                    // What is equal shares the allocations of what is served.
                    let items = items.map(|it| held.iter().fold(it, Items::reusing));
                    (position, items)
                }
                News::Changes(position, entries) => match &published {
                    Some((_, items)) => (position, content::with_changes(items.clone(), entries)),
                    None => {
                        self.source.begin();
                        continue;
                    }
                },
            };
            let Some(items) = items else {
                status.note(ErrorKind::InvalidData, "what the leader of the fleet published cannot be used");
                tracing::warn!("what the leader of the fleet published does not fit this version and is ignored");
                // It is read again after the next change.
                published = None;
                continue;
            };
            self.publisher.followed(position.clone(), items.clone());
            let before = published.take();
            Box::pin(applier.follow(before.as_ref().map(|it| &it.1), &items, is_exact)).await;
            published = Some((position, items));
            if before.is_none() && !is_exact {
                tracing::info!("following the leader of the fleet");
            }
            if let Some(report) = &leader {
                if report.is_valid {
                    status.data_received();
                }
                show(report, status);
            }
        }
    }
}

impl UpstreamTask {
    fn applier(&mut self) -> &mut Applier {
        match self {
            Self::Fdv1(task) => task.applier(),
            Self::Fdv2(task) => task.applier(),
        }
    }
}

impl Supervised for UpstreamTask {
    async fn run(&mut self) {
        match self {
            Self::Fdv1(task) => task.run().await,
            Self::Fdv2(task) => task.run().await,
        }
    }

    fn recover(&mut self, error: &InternalError) {
        match self {
            Self::Fdv1(task) => task.recover(error),
            Self::Fdv2(task) => task.recover(error),
        }
    }
}

impl Supervised for FleetTask {
    /// Runs until dropped.
    async fn run(&mut self) {
        let mut role = self.source.role();
        loop {
            let present = *role.borrow_and_update();
            match present {
                Role::Undecided => {
                    // The source outlives the wait.
                    let _ = self.upstream.applier().run_until(role.changed()).await;
                }
                Role::Leader | Role::Alone => while_connected(role.clone(), self.upstream.run()).await,
                Role::Follower => self.follow().await,
            }
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.upstream.recover(error);
    }
}
