use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use yardarm_core::Secret;
use yardarm_store::Place;

use super::*;
use crate::config::CommonConfig;
use crate::sources::auto_config_state::{AutoConfigMessage, AutoConfigState};

/// A set in memory.
struct FakeSet {
    place: Place,
    items: Mutex<BTreeMap<String, Bytes>>,
    /// The operations, with the names that they concern.
    log: Mutex<Vec<(&'static str, Vec<String>)>>,
    /// How many of the next operations fail.
    failures: Mutex<usize>,
}

impl FakeSet {
    fn new() -> Arc<Self> {
        let place = Place { database: "fake", server: "".into(), prefix: "set".into(), table: "".into() };
        Arc::new(Self { place, items: Mutex::default(), log: Mutex::default(), failures: Mutex::new(0) })
    }

    fn begin(&self, operation: &'static str, names: Vec<String>) -> Result<(), StoreError> {
        self.log.lock().push((operation, names));
        let mut failures = self.failures.lock();
        if *failures > 0 {
            *failures -= 1;
            return Err(StoreError::TimedOut);
        }
        Ok(())
    }

    fn log(&self) -> Vec<(&'static str, Vec<String>)> {
        std::mem::take(&mut *self.log.lock())
    }

    /// Returns the names of items that the cipher opens.
    fn names(&self, cipher: &ListCipher) -> Vec<String> {
        self.items.lock().iter().filter(|it| cipher.decrypt(it.1).is_ok()).map(|it| it.0.clone()).collect()
    }
}

#[async_trait]
impl ItemSet for FakeSet {
    fn place(&self) -> &Place {
        &self.place
    }

    async fn read(&self) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.begin("read", Vec::new())?;
        Ok(self.items.lock().clone().into_iter().collect())
    }

    async fn replace(&self, items: &[(String, Bytes)]) -> Result<Vec<String>, StoreError> {
        self.begin("replace", items.iter().map(|it| it.0.clone()).collect())?;
        *self.items.lock() = items.iter().cloned().collect();
        Ok(Vec::new())
    }

    async fn change(&self, items: &[(String, Option<Bytes>)]) -> Result<Vec<String>, StoreError> {
        self.begin("change", items.iter().map(|it| it.0.clone()).collect())?;
        let mut all = self.items.lock();
        for (name, content) in items.iter().cloned() {
            match content {
                Some(content) => drop(all.insert(name, content)),
                None => drop(all.remove(&name)),
            }
        }
        Ok(Vec::new())
    }
}

fn cipher() -> ListCipher {
    ListCipher::new(&Secret::new("rel-1")).unwrap()
}

/// The list with these environments, each with its version.
fn list(environments: &[(&str, i64)]) -> PersistedList {
    let described = |(id, version): &(&str, i64)| {
        ((*id).to_owned(), json!({"envID": id, "sdkKey": {"value": format!("sdk-{id}")}, "version": version}))
    };
    let all: serde_json::Map<_, _> = environments.iter().map(described).collect();
    let common =
        CommonConfig { allowed_origins: Vec::new(), allowed_headers: Vec::new(), prefix: None, table_name: None };
    let mut state = AutoConfigState::new(common);
    let message = json!({"path": "/", "data": {"environments": all}}).to_string();
    state.apply(AutoConfigMessage::read("put", &message).unwrap(), 0);
    state.to_persisted()
}

struct Cache {
    newest: watch::Sender<Option<PersistedList>>,
    found: oneshot::Receiver<Vec<CachedItem>>,
    task: ListCacheTask,
}

fn cache(set: &Arc<FakeSet>) -> Cache {
    let (newest, lists) = watch::channel(None);
    let (sender, found) = oneshot::channel();
    Cache { newest, found, task: ListCacheTask::new(Arc::clone(set) as _, cipher(), lists, sender) }
}

fn ids(items: &[CachedItem]) -> Vec<&str> {
    let mut ids = Vec::new();
    for item in items {
        if let CachedItem::Environment(environment) = item {
            ids.push(environment.id.as_str());
        }
    }
    ids
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn v042_a_list_is_written_whole_and_then_what_changes() {
    let set = FakeSet::new();
    let Cache { newest, mut task, .. } = cache(&set);
    newest.send_replace(Some(list(&[("a", 1), ("b", 1)])));
    task.write().await;
    newest.send_replace(Some(list(&[("a", 1), ("b", 2), ("c", 1)])));
    task.write().await;
    // The same again costs nothing.
    newest.send_replace(Some(list(&[("a", 1), ("b", 2), ("c", 1)])));
    task.write().await;
    newest.send_replace(Some(list(&[("b", 2)])));
    task.write().await;
    assert_eq!(
        set.log(),
        [
            ("replace", names(&["env:a", "env:b"])),
            ("change", names(&["env:b", "env:c"])),
            ("change", names(&["env:a", "env:c"])),
        ]
    );
    assert_eq!(set.names(&cipher()), ["env:b"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_newest_list_is_written_whole() {
    let set = FakeSet::new();
    let Cache { newest, mut task, .. } = cache(&set);
    newest.send_replace(Some(list(&[("a", 1)])));
    task.write().await;
    *set.failures.lock() = 3;
    newest.send_replace(Some(list(&[("a", 1), ("b", 1)])));
    task.write().await;
    let operations: Vec<_> = set.log().into_iter().map(|it| it.0).collect();
    assert_eq!(operations, ["replace", "change", "replace", "replace", "replace"]);
    assert_eq!(set.names(&cipher()), ["env:a", "env:b"]);
}

#[tokio::test(start_paused = true)]
async fn v041_items_that_cannot_be_read_affect_no_others() {
    let set = FakeSet::new();
    let Cache { newest, mut task, .. } = cache(&set);
    newest.send_replace(Some(list(&[("a", 1), ("b", 1), ("c", 1)])));
    task.write().await;
    let other = ListCipher::new(&Secret::new("rel-2")).unwrap();
    {
        let mut items = set.items.lock();
        items.insert("env:a".to_owned(), other.encrypt(b"{}").unwrap());
        items.insert("env:d".to_owned(), cipher().encrypt(b"[]").unwrap());
        let moved = items["env:c"].clone();
        items.insert("env:b".to_owned(), moved);
    }
    *set.failures.lock() = 2;
    let Cache { newest: _newest, found, mut task } = cache(&set);
    task.restore().await;
    assert_eq!(ids(&found.await.unwrap()), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_wins_over_a_database_that_cannot_be_read() {
    let set = FakeSet::new();
    *set.failures.lock() = usize::MAX;
    let Cache { newest, found, mut task } = cache(&set);
    let answers = async {
        sleep(Duration::from_secs(100)).await;
        newest.send_replace(Some(list(&[("a", 1)])));
    };
    tokio::join!(task.restore(), answers);
    assert_eq!(found.await.unwrap().len(), 0);
    assert!(set.log().len() > 3, "attempts");
}
