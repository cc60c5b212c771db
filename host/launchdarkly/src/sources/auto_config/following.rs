//! The list of environments in a fleet: one gateway holds the stream, the others follow its list.

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use yardarm_core::Lifecycle;
use yardarm_core::status::ErrorKind;
use yardarm_core::time::unix_ms;
use yardarm_fleet::{Fleet, LeaderReport, News, Publisher, Role, Source};

use super::AutoConfigTask;
use crate::identity::VENDOR;
use crate::sources::fleet::{SETTLED, news_until, show, while_connected};
use crate::sources::persisted_list::{self, PersistedList};
use crate::sources::shared_list::{SharedList, open};

impl AutoConfigTask {
    /// Shares the list with the other gateways of a fleet.
    pub(crate) fn join(&mut self, fleet: &Fleet, lifecycle: &Lifecycle) {
        let seal = match persisted_list::seal(&self.key) {
            Ok(seal) => seal,
            Err(error) => {
                tracing::warn!(%error, "the list of environments is not shared");
                return;
            }
        };
        let digest = hex::encode(&Sha256::digest(self.key.expose().as_bytes())[..8]);
        let source = Source::join(fleet, &format!("{VENDOR}/auto-configuration/{digest}"), self.status.clone());
        self.list.publisher = Some((Publisher::start(&source, lifecycle), seal));
        self.source = Some(source);
    }

    /// Keeps the list in sync, from LaunchDarkly or from another gateway, until dropped.
    pub(super) async fn share(&mut self) {
        let Some(mut role) = self.source.as_ref().map(|it| it.role()) else { return };
        loop {
            let present = *role.borrow_and_update();
            match present {
                Role::Undecided => {
                    // The source outlives the wait.
                    let _ = self.list.clean_up_until(role.changed()).await;
                }
                Role::Leader | Role::Alone => while_connected(role.clone(), Box::pin(self.stay_connected())).await,
                Role::Follower => self.follow().await,
            }
        }
    }

    /// Serves the environments of the leader's list until there is another role.
    async fn follow(&mut self) {
        let mut leader: Option<LeaderReport> = None;
        let mut has_list = false;
        // Until then, an environment that the leader does not know may be one that it has not heard of yet.
        let settled_at = Instant::now() + SETTLED;
        let mut is_exact = false;
        self.source.iter_mut().for_each(|it| it.begin());
        loop {
            let Some(source) = &mut self.source else { return };
            let news = news_until(source, settled_at, is_exact);
            let Some(news) = self.list.clean_up_until(news).await else {
                is_exact = true;
                self.source.iter_mut().for_each(|it| it.begin());
                continue;
            };
            let (position, entries) = match news {
                News::RoleChanged => return,
                News::Leader(report) => {
                    if has_list {
                        show(&report, &self.status);
                    }
                    leader = Some(report);
                    continue;
                }
                News::Content(position, entries) | News::Changes(position, entries) => (position, entries),
            };
            let Some((publisher, seal)) = self.list.publisher.clone() else { return };
            let list = match open(&entries, &seal) {
                Some(Ok(list)) => list,
                None => continue,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the list that the leader of the fleet published cannot be used and is ignored");
                    self.status.note(ErrorKind::InvalidData, "the list of the fleet's leader cannot be used");
                    continue;
                }
            };
            self.take_over(list.clone(), is_exact).await;
            publisher.followed(position, SharedList { list, seal });
            has_list = true;
            if let Some(report) = &leader {
                if report.is_valid {
                    self.status.data_received();
                }
                show(report, &self.status);
            }
        }
    }

    async fn take_over(&mut self, list: PersistedList, is_exact: bool) {
        self.list.state.follow(list, is_exact, unix_ms());
        self.list.reconcile().await;
        self.list.complete("the leader of the fleet");
    }
}
