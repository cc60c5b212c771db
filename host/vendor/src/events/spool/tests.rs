use bytes::Bytes;
use tempfile::TempDir;
use yardarm_core::Lifecycle;

use super::*;

const SIZE: u64 = 1 << 20;

/// A folder whose events outlive the processes that open it.
struct Disk(TempDir);

/// One process: it ends without closing anything.
struct Process {
    lifecycle: Lifecycle,
    store: DataStore,
    lane: Arc<SpoolLane>,
}

impl Disk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    async fn process(&self, size: u64, key: Option<&str>) -> Process {
        let lifecycle = Lifecycle::new();
        let store = DataStore::open_for_events(self.0.path(), &lifecycle).await;
        let spool = Spool::new(store.clone(), "acme", size, key.map(Secret::new).as_ref()).unwrap();
        let lane = spool.lane(&label(), Trust::Secret);
        Process { lifecycle, store, lane }
    }
}

impl Process {
    /// Writes a post of two events.
    async fn writes(&self, number: u8) -> Option<SpooledPost> {
        self.lane.written(self.lane.put(&entry(number))?).await
    }

    /// Reads all posts that wait, in order.
    async fn reads(&self) -> Vec<Entry> {
        let mut all = Vec::new();
        while self.lane.has_deferred() {
            let post = self.lane.first_deferred().await;
            all.push(self.lane.read(&post).unwrap());
            self.lane.remove_first();
        }
        all
    }

    /// Ends as if killed, but for the lock on the file: what was not committed is lost.
    async fn ends(self) {
        self.lane.close();
        drop(self.lane);
        drop(self.store);
        assert!(self.lifecycle.stop(Duration::from_secs(10)).await);
    }
}

fn label() -> EnvironmentLabel {
    EnvironmentLabel::new("acme", "main")
}

fn entry(number: u8) -> Entry {
    let events = vec![Bytes::from(vec![number; 10]), Bytes::from(vec![number; 20])];
    Entry { head: Bytes::from(vec![number]), events }
}

#[tokio::test]
async fn what_is_not_settled_waits_for_the_next_process_in_order() {
    let disk = Disk::new();
    let process = disk.process(SIZE, None).await;
    let posts = [process.writes(1).await.unwrap(), process.writes(2).await.unwrap(), process.writes(3).await.unwrap()];
    let [settled, in_part, untouched] = posts;
    settled.ack().settle();
    let (delivered, waiting) = (in_part.ack(), in_part.ack());
    delivered.settle();
    process.lane.close();
    drop((settled, in_part, untouched, waiting));
    process.ends().await;
    let process = disk.process(SIZE, None).await;
    assert_eq!(process.lane.deferred_events(), 4);
    assert_eq!(process.reads().await, [entry(2), entry(3)]);
    let later = process.writes(4).await.unwrap();
    process.store.committed().await;
    process.lane.close();
    drop(later);
    process.ends().await;
    assert_eq!(disk.process(SIZE, None).await.reads().await, [entry(4)], "those before it were settled");
}

#[tokio::test]
async fn a_lane_that_is_opened_again_has_neither_posts_nor_numbers_twice() {
    let disk = Disk::new();
    let process = disk.process(SIZE, None).await;
    let left = process.writes(1).await.unwrap();
    process.lane.close();
    drop(left);
    process.ends().await;
    let lifecycle = Lifecycle::new();
    let store = DataStore::open_for_events(disk.0.path(), &lifecycle).await;
    let spool = Spool::new(store.clone(), "acme", SIZE, None).unwrap();
    let (first, second) = (spool.lane(&label(), Trust::Secret), spool.lane(&label(), Trust::Secret));
    assert_eq!((first.deferred_events(), second.deferred_events()), (2, 0), "sent once");
    let posts = [first.put(&entry(2)).unwrap(), second.put(&entry(3)).unwrap(), first.put(&entry(4)).unwrap()];
    for (post, number) in posts.iter().zip(2..) {
        assert_eq!(first.read(post).unwrap(), entry(number));
    }
}

#[tokio::test]
async fn the_space_is_bounded_and_returned() {
    let disk = Disk::new();
    // Half of the space is for secret credentials, of which one account may use eight ninths.
    let process = disk.process(2 * 9 * entry(0).size() as u64 / 4, None).await;
    let posts = (process.writes(1).await, process.writes(2).await, process.writes(3).await);
    assert!(posts.0.is_some() && posts.1.is_some() && posts.2.is_none());
    assert_eq!(process.lane.bytes(), 2 * entry(0).size() as u64);
    drop(posts);
    assert_eq!(process.lane.bytes(), 0);
    assert!(process.writes(4).await.is_some());
}

#[tokio::test]
async fn posts_are_readable_with_their_key_only() {
    let disk = Disk::new();
    let process = disk.process(SIZE, Some("a generated secret")).await;
    let post = process.writes(7).await.unwrap();
    process.lane.close();
    drop(post);
    process.ends().await;
    let bytes = std::fs::read(disk.0.path().join("events.redb")).unwrap();
    assert!(!bytes.windows(20).any(|it| it == [7; 20]), "encrypted");
    for key in [None, Some("another secret")] {
        let process = disk.process(SIZE, key).await;
        let post = process.lane.first_deferred().await;
        assert!(process.lane.read(&post).is_err());
        process.lane.close();
        drop(post);
        process.ends().await;
    }
    assert_eq!(disk.process(SIZE, Some("a generated secret")).await.reads().await, [entry(7)]);
}

#[tokio::test]
async fn a_week_later_posts_are_dropped() {
    let disk = Disk::new();
    let process = disk.process(SIZE, None).await;
    let old = Record::new(&entry(1), unix_ms() - 8 * 24 * 3600 * 1000, None).unwrap();
    let key = Key::of(&["acme", "gone", "secret"]).with(1_u64.to_be_bytes());
    process.store.put(POSTS, &key, &old).unwrap();
    process.store.committed().await;
    process.ends().await;
    let process = disk.process(SIZE, None).await;
    process.store.committed().await;
    assert!(process.store.get(POSTS, &key).unwrap().is_none());
}
