use serde_json::value::RawValue;
use yardarm_core::Lifecycle;
use yardarm_launchdarkly_eval::model::Flag;

use super::recovery::FIRST_PROBE;
use super::*;
use crate::data::{Item, Items};
use crate::store::fake::FakeStore;

/// A writer with its database, in paused time.
struct Place {
    fake: Arc<FakeStore>,
    store: Arc<EnvironmentStore>,
    queue: Arc<WriteQueue>,
    events: mpsc::Receiver<StoreEvent>,
    upstream: Status,
    lifecycle: Lifecycle,
}

const CHECK: Duration = Duration::from_secs(30);

impl Place {
    fn new(fake: Arc<FakeStore>) -> Self {
        let (sender, events) = mpsc::channel(4);
        let database: Arc<dyn yardarm_store::Store> = Arc::clone(&fake) as _;
        let store = Arc::new(EnvironmentStore::new(database));
        let queue = Arc::new(WriteQueue::default());
        let (lifecycle, upstream) = (Lifecycle::new(), Status::new());
        upstream.message_processed();
        let writer = Writer {
            store: Arc::clone(&store),
            queue: Arc::clone(&queue),
            events: sender,
            upstream: upstream.clone(),
            check_interval: CHECK,
        };
        lifecycle.supervise_graceful("writer", StoreTask::new(writer, true, lifecycle.token().clone()));
        Self { fake, store, queue, events, upstream, lifecycle }
    }

    /// Lets the writer run for this time.
    async fn passes(&self, time: Duration) {
        sleep(time).await;
    }

    fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.fake.lock().calls)
    }

    fn is_available(&self) -> bool {
        self.store.status.report().is_available()
    }
}

const MOMENT: Duration = Duration::from_millis(50);

fn flag(key: &str, version: i64) -> Arc<Flag> {
    let json = format!(r#"{{"key":"{key}","version":{version}}}"#);
    Arc::new(Flag::parse(key, &RawValue::from_string(json).unwrap()).unwrap())
}

fn items<'a>(keys: impl IntoIterator<Item = &'a str>) -> Items {
    Items { flags: keys.into_iter().map(|key| flag(key, 1)).collect(), ..Items::default() }
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_with_everything_written() {
    // U093, U094
    let place = Place::new(FakeStore::new());
    place.queue.put(items(["a"]));
    place.passes(MOMENT).await;
    assert_eq!((place.calls(), place.is_available()), (vec!["replace"], true));

    place.fake.lock().is_down = true;
    place.queue.patch(Item::Flag(flag("b", 1)), items(["a", "b"]));
    place.passes(MOMENT).await;
    assert_eq!((place.calls(), place.is_available()), (vec!["upsert"], false));
    for _ in 0..3 {
        place.queue.patch(Item::Flag(flag("c", 1)), items(["a", "b", "c"]));
        place.passes(FIRST_PROBE * 4).await;
    }
    assert_eq!(place.calls(), Vec::<&str>::new(), "only probes");

    place.fake.lock().is_down = false;
    place.passes(Duration::from_secs(30) + MOMENT).await;
    assert_eq!((place.calls(), place.is_available()), (vec!["replace"], true), "U093");
    assert_eq!(place.fake.keys("features"), ["a", "b", "c"], "U094");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_only_a_check_finds_ends_the_same_way() {
    let place = Place::new(FakeStore::new());
    place.queue.put(items(["a"]));
    place.passes(MOMENT).await;
    place.fake.flush();
    place.fake.lock().is_down = true;
    place.passes(CHECK).await;
    assert!(!place.is_available());
    place.fake.lock().is_down = false;
    place.passes(Duration::from_secs(30)).await;
    assert_eq!((place.fake.keys("features"), place.is_available()), (vec!["a".to_owned()], true));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_at_the_start_is_retried() {
    // U095: then its data is sent to the applier, unless upstream was faster.
    for upstream_is_faster in [false, true] {
        let fake = FakeStore::new();
        fake.lock().is_down = true;
        let mut place = Place::new(fake);
        place.passes(FIRST_PROBE * 4).await;
        assert!(!place.is_available());
        if upstream_is_faster {
            place.queue.put(items(["new"]));
        }
        {
            let mut content = place.fake.lock();
            (content.is_down, content.is_complete) = (false, true);
            let kept = [("old".to_owned(), flag("old", 1).json().clone())];
            content.collections.insert("features", kept.into());
        }
        place.passes(Duration::from_secs(30)).await;
        assert!(place.is_available());
        if upstream_is_faster {
            assert!(place.events.try_recv().is_err());
            assert_eq!(place.fake.keys("features"), ["new"]);
        } else {
            let Ok(StoreEvent::Stored(items)) = place.events.try_recv() else { panic!("nothing is handed over") };
            assert!(items.flags.get("old").is_some());
            assert_eq!(place.fake.keys("features"), ["old"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_emptied_database_is_filled_again() {
    // U096, also while patches keep coming.
    for with_patches in [false, true] {
        let place = Place::new(FakeStore::new());
        place.queue.put(items(["a", "b"]));
        place.passes(MOMENT).await;
        place.fake.flush();
        let start = tokio::time::Instant::now();
        while start.elapsed() < CHECK {
            if with_patches {
                place.queue.patch(Item::Flag(flag("b", 1)), items(["a", "b"]));
            }
            place.passes(CHECK / 10).await;
        }
        place.passes(MOMENT).await;
        assert_eq!(place.fake.keys("features"), ["a", "b"], "with patches: {with_patches}");
        assert!(place.fake.lock().is_complete);
    }
}

#[tokio::test(start_paused = true)]
async fn restored_data_replaces_nothing() {
    let place = Place::new(FakeStore::new());
    place.queue.restored(items(["old"]));
    place.fake.lock().is_complete = true;
    place.passes(CHECK + MOMENT).await;
    place.fake.lock().is_down = true;
    place.passes(CHECK).await;
    assert!(!place.is_available());
    place.fake.lock().is_down = false;
    place.passes(Duration::from_secs(30)).await;
    assert!(place.is_available());
    assert_eq!(place.fake.keys("features"), Vec::<String>::new(), "the database may hold something newer");

    place.fake.lock().is_complete = false;
    place.passes(CHECK).await;
    assert_eq!(place.fake.keys("features"), ["old"], "better than nothing");
}

#[tokio::test(start_paused = true)]
async fn many_changes_are_written_as_one() {
    let place = Place::new(FakeStore::new());
    place.queue.put(items([]));
    place.passes(MOMENT).await;
    place.calls();
    let keys: Vec<String> = (0..1000).map(|number| format!("{number:04}")).collect();
    for count in 1..=keys.len() {
        let all = items(keys[..count].iter().map(String::as_str));
        place.queue.patch(Item::Flag(flag(&keys[count - 1], 1)), all);
    }
    place.passes(MOMENT).await;
    assert_eq!(place.calls(), ["replace"]);
    assert_eq!(place.fake.keys("features"), keys);
}

#[tokio::test(start_paused = true)]
async fn the_last_change_is_written_at_the_end() {
    for is_down in [false, true] {
        let place = Place::new(FakeStore::new());
        place.passes(MOMENT).await;
        place.fake.lock().is_down = is_down;
        place.queue.put(items(["last"]));
        // Cancelled before the writer ran.
        assert!(place.lifecycle.stop(Duration::from_secs(10)).await);
        let expected: &[&str] = if is_down { &[] } else { &["last"] };
        assert_eq!(place.fake.keys("features"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_outage_needs_few_probes_and_sends_nothing() {
    let place = Place::new(FakeStore::new());
    place.queue.put(items(["a"]));
    place.passes(MOMENT).await;
    place.calls();
    place.fake.lock().is_down = true;
    place.queue.put(items(["a", "b"]));
    place.passes(Duration::from_secs(600)).await;
    assert_eq!(place.calls(), ["replace"], "only the first attempt sends data");
    let probes = place.fake.lock().probes;
    assert!((10..60).contains(&probes), "{probes} probes in ten minutes");

    // A later short outage ends soon.
    place.fake.lock().is_down = false;
    place.passes(Duration::from_secs(100)).await;
    assert!(place.is_available());
    place.fake.lock().is_down = true;
    place.queue.patch(Item::Flag(flag("b", 1)), items(["a", "b"]));
    place.passes(MOMENT).await;
    place.fake.lock().is_down = false;
    place.passes(FIRST_PROBE).await;
    assert!(place.is_available(), "U093: within a second");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_rejects_data_is_retried_with_long_delays() {
    let place = Place::new(FakeStore::new());
    place.fake.lock().is_refusing = true;
    place.queue.put(items(["a"]));
    place.passes(Duration::from_secs(600)).await;
    let writes = place.calls().len();
    assert!((4..15).contains(&writes), "{writes} attempts to write everything in ten minutes");
    assert!(!place.is_available());
    place.fake.lock().is_refusing = false;
    place.passes(Duration::from_secs(300)).await;
    assert_eq!((place.fake.keys("features"), place.is_available()), (vec!["a".to_owned()], true));
}

#[tokio::test(start_paused = true)]
async fn data_of_other_gateways_is_kept_while_upstream_is_silent() {
    let place = Place::new(FakeStore::new());
    place.queue.put(items(["a", "b"]));
    place.passes(MOMENT).await;
    place.upstream.interrupted(yardarm_core::status::ErrorKind::Network, "gone");
    place.fake.lock().is_down = true;
    let mut newest = items(["a", "b"]);
    newest.upsert(&Item::Flag(flag("b", 2)));
    place.queue.patch(Item::Flag(flag("b", 2)), newest);
    place.passes(MOMENT).await;
    assert!(!place.is_available());
    {
        let mut content = place.fake.lock();
        content.is_down = false;
        let theirs = [("a", flag("a", 9)), ("b", flag("b", 1)), ("c", flag("c", 1))];
        let texts = theirs.map(|(key, flag)| (key.to_owned(), flag.json().clone()));
        content.collections.insert("features", texts.into());
    }
    place.calls();
    place.passes(Duration::from_secs(5)).await;
    assert!(place.is_available());
    assert_eq!(place.calls(), ["read", "read", "upsert"], "only what is newer here");
    let features = place.fake.lock().collections["features"].clone();
    let versions: Vec<_> = features.values().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let expected = [("a", 9), ("b", 2), ("c", 1)].map(|(key, it)| format!(r#"{{"key":"{key}","version":{it}}}"#));
    assert_eq!(versions, expected);
}
