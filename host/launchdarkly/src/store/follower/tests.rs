use serde_json::value::RawValue;
use yardarm_core::Lifecycle;
use yardarm_core::status::ErrorKind;
use yardarm_launchdarkly_eval::model::Flag;

use super::*;
use crate::data::{Item, Items};
use crate::store::fake::FakeStore;
use crate::store::layout;

const INTERVAL: Duration = Duration::from_secs(5);

/// A follower with its database, in paused time.
struct Place {
    fake: Arc<FakeStore>,
    queue: Arc<WriteQueue>,
    events: mpsc::Receiver<StoreEvent>,
    upstream: Status,
    _lifecycle: Lifecycle,
}

impl Place {
    fn new() -> Self {
        let (sender, events) = mpsc::channel(4);
        let (fake, upstream, queue) = (FakeStore::new(), Status::new(), Arc::new(WriteQueue::default()));
        let follower = Follower {
            store: Arc::new(EnvironmentStore::new(Arc::clone(&fake) as _)),
            queue: Arc::clone(&queue),
            events: sender,
            upstream: upstream.clone(),
            poll_interval: INTERVAL,
        };
        let lifecycle = Lifecycle::new();
        lifecycle.supervise("follower", follower);
        Self { fake, queue, events, upstream, _lifecycle: lifecycle }
    }

    /// Writes as another gateway.
    fn holds(&self, items: &Items) {
        let mut content = self.fake.lock();
        content.is_complete = true;
        for collection in layout::collections(items, false) {
            let records = collection.records.into_iter().map(|it| (it.key.to_string(), it.text)).collect();
            content.collections.insert(collection.name, records);
        }
    }

    /// The next event within a few polls.
    async fn next(&mut self) -> Option<StoreEvent> {
        tokio::time::timeout(INTERVAL * 3, self.events.recv()).await.ok().flatten()
    }

    fn reads(&self) -> usize {
        self.fake.lock().calls.iter().filter(|it| **it == "read").count()
    }
}

fn flag(key: &str, version: i64) -> Item {
    let json = format!(r#"{{"key":"{key}","version":{version}}}"#);
    Item::Flag(Arc::new(Flag::parse(key, &RawValue::from_string(json).unwrap()).unwrap()))
}

fn items(all: impl IntoIterator<Item = Item>) -> Items {
    let mut items = Items::default();
    all.into_iter().for_each(|it| {
        items.upsert(&it);
    });
    items
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_upstream_is_connected() {
    let mut place = Place::new();
    place.upstream.message_processed();
    place.holds(&items([flag("a", 1)]));
    assert!(place.next().await.is_none());
    assert_eq!(place.reads(), 0);
    place.upstream.interrupted(ErrorKind::Network, "gone");
    assert!(matches!(place.next().await, Some(StoreEvent::Stored(_))), "nothing is known here");
    place.upstream.message_processed();
    place.next().await;
    let reads = place.reads();
    assert!(place.next().await.is_none());
    assert_eq!(place.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn only_newer_items_are_sent_and_only_until_they_are_known() {
    let mut place = Place::new();
    let known = items([flag("a", 5), flag("b", 5), flag("c", 5), flag("only-here", 1)]);
    place.queue.put(known.clone());
    let gone = Item::Flag(Arc::new(Flag::tombstone("c", 6)));
    place.holds(&items([flag("a", 4), flag("b", 6), gone, flag("new", 1)]));
    let Some(StoreEvent::Newer(newer)) = place.next().await else { panic!("newer items") };
    let shown = |it: &Item| (it.key().to_string(), it.version(), it.is_deleted());
    let expected = [("b".to_owned(), 6, false), ("c".to_owned(), 6, true), ("new".to_owned(), 1, false)];
    assert_eq!(newer.iter().map(shown).collect::<Vec<_>>(), expected);
    // Once the applier has them, nothing is newer, and nothing is pending.
    let mut merged = known;
    newer.iter().for_each(|it| {
        merged.upsert(it);
    });
    while place.events.try_recv().is_ok() {}
    place.queue.taken_over(merged);
    place.next().await;
    assert!(place.next().await.is_none());
    place.holds(&items([flag("a", 4), flag("b", 7)]));
    assert!(matches!(place.next().await, Some(StoreEvent::Newer(it)) if it.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn a_failing_database_is_polled_less_often() {
    let mut place = Place::new();
    place.fake.lock().is_down = true;
    tokio::time::sleep(INTERVAL * 120).await;
    let (attempts, interval) = (place.fake.lock().questions, INTERVAL.as_secs());
    assert!(attempts > 10 && attempts < 60, "{attempts} in {} s", interval * 120);
    place.fake.lock().is_down = false;
    place.holds(&items([flag("a", 1)]));
    tokio::time::sleep(MAX_PAUSE).await;
    assert!(matches!(place.events.try_recv(), Ok(StoreEvent::Stored(_))));
}
