//! Whole fleets in one process, with a database in memory and a clock that runs ahead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use yardarm_core::Lifecycle;
use yardarm_core::status::Status;
use yardarm_store::Entry;

use crate::memory::MemoryDatabase;
use crate::{Content, Fleet, News, Publisher, Role, Source};

const LEASE: Duration = Duration::from_millis(2500);
const SOURCE: &str = "source";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Texts(BTreeMap<Arc<str>, Arc<str>>);

impl Content for Texts {
    fn changes(before: Option<&Self>, after: &Self) -> Vec<Entry> {
        let nothing = Self::default();
        let before = before.unwrap_or(&nothing);
        let new = after.0.iter().filter(|(key, text)| before.0.get(*key) != Some(text));
        let gone = before.0.keys().filter(|it| !after.0.contains_key(*it)).map(|it| (Arc::clone(it), None));
        new.map(|(key, text)| (Arc::clone(key), Some(Arc::clone(text)))).chain(gone).collect()
    }
}

fn texts(pairs: &[(&str, &str)]) -> Texts {
    Texts(pairs.iter().map(|(key, text)| (Arc::from(*key), Arc::from(*text))).collect())
}

/// A gateway that follows whenever it is not connected.
struct Gateway {
    lifecycle: Lifecycle,
    publisher: Publisher<Texts>,
    role: tokio::sync::watch::Receiver<Role>,
    served: Arc<Mutex<Texts>>,
    /// How often it read everything.
    reads: Arc<Mutex<usize>>,
}

impl Gateway {
    fn start(database: &MemoryDatabase, number: usize) -> Self {
        let lifecycle = Lifecycle::new();
        let fleet = Fleet::start_with(Arc::new(database.access(number)), LEASE, &lifecycle);
        let status = Status::new();
        status.message_processed();
        let mut source = Source::join(&fleet, SOURCE, status);
        let publisher = Publisher::start(&source, &lifecycle);
        let role = source.role();
        let (served, reads) = (Arc::new(Mutex::new(Texts::default())), Arc::new(Mutex::new(0)));
        let (following, to, count) = (publisher.clone(), Arc::clone(&served), Arc::clone(&reads));
        lifecycle.spawn("follower", async move {
            let mut roles = source.role();
            loop {
                if *roles.borrow_and_update() != Role::Follower {
                    let _ = roles.changed().await;
                    continue;
                }
                source.begin();
                loop {
                    let (position, content) = match source.news().await {
                        News::RoleChanged => break,
                        News::Leader(report) => {
                            assert!(report.is_valid && report.error.is_none());
                            continue;
                        }
                        News::Content(position, entries) => {
                            *count.lock() += 1;
                            (
                                position,
                                Texts(entries.into_iter().filter_map(|(key, text)| Some((key, text?))).collect()),
                            )
                        }
                        News::Changes(position, entries) => {
                            let mut content = to.lock().clone();
                            for (key, text) in entries {
                                match text {
                                    Some(text) => content.0.insert(key, text),
                                    None => content.0.remove(&key),
                                };
                            }
                            (position, content)
                        }
                    };
                    following.followed(position, content.clone());
                    *to.lock() = content;
                }
            }
        });
        Self { lifecycle, publisher, role, served, reads }
    }

    fn role(&self) -> Role {
        *self.role.borrow()
    }

    fn receives(&self, content: &Texts) {
        if self.role().is_connected() {
            *self.served.lock() = content.clone();
            self.publisher.publish(content.clone());
        }
    }
}

/// Lets everything that is due happen.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

fn roles(gateways: &[Gateway]) -> Vec<Role> {
    gateways.iter().map(Gateway::role).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn changes_reach_followers_as_changes_and_a_lost_database_is_filled_again() {
    let database = MemoryDatabase::default();
    let mut gateways = vec![Gateway::start(&database, 0)];
    pass(SECOND).await;
    gateways.push(Gateway::start(&database, 1));
    pass(SECOND).await;
    assert_eq!(roles(&gateways), [Role::Leader, Role::Follower]);
    for content in
        [texts(&[("a", "1"), ("b", "1")]), texts(&[("a", "2"), ("b", "1")]), texts(&[("b", "1"), ("c", "1")])]
    {
        gateways[0].receives(&content);
        pass(Duration::from_millis(50)).await;
        assert_eq!(*gateways[1].served.lock(), content);
    }
    assert_eq!(*gateways[1].reads.lock(), 1, "later changes arrive by the log");
    database.flush();
    assert!(database.texts(SOURCE).is_empty());
    pass(2 * SECOND).await;
    assert_eq!(roles(&gateways).iter().filter(|it| **it == Role::Leader).count(), 1);
    let leader = usize::from(gateways[1].role() == Role::Leader);
    let content = texts(&[("b", "2")]);
    gateways[leader].receives(&content);
    pass(2 * SECOND).await;
    assert_eq!(database.texts(SOURCE), content.0);
    assert_eq!(*gateways[1 - leader].served.lock(), content);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_is_replaced_and_cannot_write() {
    let database = MemoryDatabase::default();
    let gateways = [Gateway::start(&database, 0), Gateway::start(&database, 1)];
    pass(SECOND).await;
    let leader = usize::from(gateways[1].role() == Role::Leader);
    gateways[leader].receives(&texts(&[("a", "1")]));
    pass(SECOND).await;
    database.set_reachable(leader, false);
    pass(5 * SECOND).await;
    assert_eq!((gateways[leader].role(), gateways[1 - leader].role()), (Role::Alone, Role::Leader));
    gateways[1 - leader].receives(&texts(&[("a", "3")]));
    gateways[leader].receives(&texts(&[("a", "2")]));
    pass(SECOND).await;
    assert_eq!(database.texts(SOURCE), texts(&[("a", "3")]).0);
    database.set_reachable(leader, true);
    pass(2 * SECOND).await;
    assert_eq!((gateways[leader].role(), gateways[1 - leader].role()), (Role::Follower, Role::Leader));
    assert_eq!(*gateways[leader].served.lock(), texts(&[("a", "3")]));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_is_replaced_at_once_and_what_it_published_stays() {
    let database = MemoryDatabase::default();
    let first = Gateway::start(&database, 0);
    pass(SECOND).await;
    first.receives(&texts(&[("a", "1")]));
    pass(SECOND).await;
    let second = Gateway::start(&database, 1);
    pass(SECOND).await;
    assert_eq!((second.role(), second.served.lock().clone()), (Role::Follower, texts(&[("a", "1")])));
    assert!(first.lifecycle.stop(SECOND).await);
    pass(LEASE / 4).await;
    assert_eq!(second.role(), Role::Leader);
    // Equal content is not written again: the position stays.
    second.receives(&texts(&[("a", "1")]));
    pass(SECOND).await;
    let third = Gateway::start(&database, 2);
    pass(SECOND).await;
    assert_eq!(*third.served.lock(), texts(&[("a", "1")]));
    assert_eq!(database.holder(SOURCE).is_some(), second.role() == Role::Leader);
}
