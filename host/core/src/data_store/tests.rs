//! Tests of the whole store.

mod crashes;
mod damage;
mod disk;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use redb::{Builder, Database};

use self::disk::Disk;
use super::medium::{FileMedium, Medium};
use super::tables::{EVENTS, ITEMS, Table};
use super::*;

const TABLE: Table<u32> = ITEMS.of();

/// A file on a disk that is read-only.
struct ReadOnly(FileMedium);

impl Medium for ReadOnly {
    fn open(&self, _: &Builder) -> Result<Database, StoreError> {
        Err(io::Error::from_raw_os_error(rustix::io::Errno::ROFS.raw_os_error()).into())
    }

    fn open_read_only(&self, builder: &Builder) -> Result<Database, StoreError> {
        self.0.open_read_only(builder)
    }

    fn is_current(&self) -> bool {
        self.0.is_current()
    }

    fn set_aside(&self) -> io::Result<String> {
        self.0.set_aside()
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

type State = BTreeMap<String, u32>;

fn difference(before: Option<&State>, after: &State, changes: &mut Changes<'_>, scope: &str) {
    let scope = Key::of(&[scope]);
    let empty = State::new();
    let before = before.unwrap_or_else(|| {
        changes.remove_all(TABLE, &scope);
        &empty
    });
    for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
        changes.put(TABLE, &scope.with(key), value);
    }
    for key in before.keys().filter(|it| !after.contains_key(*it)) {
        changes.remove(TABLE, &scope.with(key));
    }
}

fn track(store: &DataStore, scope: &'static str, state: State) -> TrackedState<State> {
    store.track(scope, (state, true), move |before, after, changes| difference(before, after, changes, scope))
}

fn stored(store: &DataStore, scope: &str) -> State {
    let mut state = State::new();
    let read = store.read(TABLE, &Key::of(&[scope]), |record| {
        state.insert(String::from_utf8(record.key[1].to_vec()).unwrap(), record.value.unwrap());
    });
    read.unwrap();
    state
}

fn state<const N: usize>(all: [(&str, u32); N]) -> State {
    all.map(|(key, value)| (key.to_owned(), value)).into()
}

async fn opened(disk: &Disk) -> (DataStore, Lifecycle) {
    let lifecycle = Lifecycle::new();
    (DataStore::open_medium(Box::new(disk.clone()), Pace::Relaxed, &lifecycle).await, lifecycle)
}

async fn stop(lifecycle: &Lifecycle) {
    assert!(lifecycle.stop(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn the_last_change_before_the_end_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    for (round, expected) in [state([]), state([("a", 2), ("b", 7)])].into_iter().enumerate() {
        let lifecycle = Lifecycle::new();
        let store = DataStore::open(folder.path(), &lifecycle).await;
        assert_eq!(stored(&store, "one"), expected, "round {round}");
        let tracked = track(&store, "one", expected);
        tracked.replace(state([("a", 1), ("b", 7), ("c", 9)]));
        tracked.change(|it| {
            it.insert("a".into(), 2);
            it.remove("c").is_some()
        });
        tracked.change(|_| false);
        stop(&lifecycle).await;
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_all_owners_are_committed_together() {
    let disk = Disk::default();
    let (store, lifecycle) = opened(&disk).await;
    let (one, two) = (track(&store, "one", State::new()), track(&store, "two", State::new()));
    one.replace(state([("a", 1)]));
    two.replace(state([("a", 2)]));
    one.replace(state([("b", 3)]));
    assert_eq!(stored(&store, "one"), State::new(), "not at once");
    until(|| !stored(&store, "one").is_empty()).await;
    assert_eq!(stored(&store, "one"), state([("b", 3)]), "what was replaced was never written");
    assert_eq!(stored(&store, "two"), state([("a", 2)]), "in the same transaction");
    // A dropped owner is written and forgotten.
    two.replace(state([]));
    drop(two);
    until(|| store.0.tracked.lock().len() == 1).await;
    assert_eq!(stored(&store, "two"), State::new());
    stop(&lifecycle).await;
}

#[tokio::test(start_paused = true)]
async fn failed_commits_are_tried_again_and_write_everything() {
    let disk = Disk::default();
    let (store, lifecycle) = opened(&disk).await;
    let (one, idle) = (track(&store, "one", State::new()), track(&store, "idle", State::new()));
    one.replace(state([("a", 1), ("gone", 2)]));
    idle.replace(state([("x", 5)]));
    until(|| !stored(&store, "idle").is_empty()).await;
    for fail_after in 0..12 {
        disk.fail_after(Some(fail_after));
        one.replace(state([("a", 2), ("b", u32::try_from(fail_after).unwrap())]));
        tokio::time::sleep(Duration::from_secs(60)).await;
        one.replace(state([("b", u32::try_from(fail_after).unwrap() + 1)]));
        disk.fail_after(None);
        tokio::time::sleep(Duration::from_secs(600)).await;
        until(|| !store.0.is_dirty()).await;
        let expected = state([("b", u32::try_from(fail_after).unwrap() + 1)]);
        assert_eq!(stored(&store, "one"), expected, "after {fail_after} steps");
        assert_eq!(stored(&store, "idle"), state([("x", 5)]));
    }
    assert_eq!(disk.set_aside(), 0);
    stop(&lifecycle).await;
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_holds_back_nothing() {
    let disk = Disk::default();
    disk.fail_after(Some(0));
    let (store, lifecycle) = opened(&disk).await;
    assert!(matches!(store.read(TABLE, &Key::default(), |_| ()), Err(StoreError::Unavailable(_))));
    let tracked = track(&store, "one", State::new());
    tracked.replace(state([("a", 1)]));
    disk.fail_after(None);
    // The last attempt is at the end.
    stop(&lifecycle).await;
    let (store, lifecycle) = opened(&disk).await;
    assert_eq!(stored(&store, "one"), state([("a", 1)]));
    stop(&lifecycle).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_file_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let lifecycle = Lifecycle::new();
    let store = DataStore::open(folder.path(), &lifecycle).await;
    let (one, _idle) = (track(&store, "one", State::new()), track(&store, "idle", state([("x", 5)])));
    one.replace(state([("a", 1)]));
    until(|| !store.0.is_dirty()).await;
    std::fs::remove_file(folder.path().join(FILE)).unwrap();
    one.replace(state([("a", 2)]));
    stop(&lifecycle).await;
    let lifecycle = Lifecycle::new();
    let store = DataStore::open(folder.path(), &lifecycle).await;
    assert_eq!(stored(&store, "one"), state([("a", 2)]));
    assert_eq!(stored(&store, "idle"), state([("x", 5)]), "what did not change is written too");
    stop(&lifecycle).await;
}

#[tokio::test]
async fn state_that_is_registered_again_follows_the_earlier_one() {
    let disk = Disk::default();
    let (store, lifecycle) = opened(&disk).await;
    let first = track(&store, "one", State::new());
    first.replace(state([("a", 1), ("b", 1)]));
    drop(first);
    // Read before the change was committed.
    let second = track(&store, "one", stored(&store, "one"));
    second.replace(state([("b", 2)]));
    stop(&lifecycle).await;
    let (store, lifecycle) = opened(&disk).await;
    assert_eq!(stored(&store, "one"), state([("b", 2)]));
    assert_eq!(disk.opened(), 2);
    stop(&lifecycle).await;
}

#[tokio::test]
async fn single_records_are_read_at_once_and_survive() {
    let events: Table<String> = EVENTS.of();
    let (disk, lane) = (Disk::default(), Key::of(&["lane"]));
    let (store, lifecycle) = opened(&disk).await;
    let all = |store: &DataStore| {
        let mut all = Vec::new();
        store.read(events, &lane, |it| all.push(it.value.unwrap())).unwrap();
        all
    };
    for number in [3_u64, 1, 2] {
        store.put(events, &lane.with(number.to_be_bytes()), &format!("event {number}")).unwrap();
    }
    store.put(events, &Key::of(&["other"]), &"other".to_owned()).unwrap();
    store.remove(events, &lane.with(1_u64.to_be_bytes())).unwrap();
    assert_eq!(all(&store), ["event 2", "event 3"]);
    stop(&lifecycle).await;

    let (store, lifecycle) = opened(&disk).await;
    assert_eq!(all(&store), ["event 2", "event 3"]);
    store.put(events, &lane.with(2_u64.to_be_bytes()), &"changed".to_owned()).unwrap();
    store.remove(events, &lane.with(3_u64.to_be_bytes())).unwrap();
    assert_eq!(all(&store), ["changed"]);
    assert_eq!(store.get(events, &lane.with(2_u64.to_be_bytes())).unwrap().as_deref(), Some("changed"));
    assert_eq!(store.get(events, &lane).unwrap(), None, "a prefix is no key");
    let numbers: Table<u32> = EVENTS.of();
    assert_eq!(store.get(numbers, &Key::of(&["other"])).unwrap(), None, "a value of another type");
    let large = "x".repeat(5 << 20);
    let refused = (0..9_u64).filter(|it| store.put(events, &lane.with(it.to_be_bytes()), &large).is_err()).count();
    assert!(refused > 0, "what waits is bounded");
    stop(&lifecycle).await;
}

#[tokio::test]
async fn a_record_is_on_disk_once_it_is_committed() {
    let (events, key): (Table<String>, _) = (EVENTS.of(), Key::of(&["lane"]));
    let dir = tempfile::tempdir().unwrap();
    let store = DataStore::open(dir.path(), &Lifecycle::new()).await;
    store.committed().await;
    store.put(events, &key, &"event".to_owned()).unwrap();
    store.committed().await;
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join(FILE), copy.path().join(FILE)).unwrap();
    let copy = DataStore::open(copy.path(), &Lifecycle::new()).await;
    assert_eq!(copy.get(events, &key).unwrap().as_deref(), Some("event"));
}

async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within the time");
}
