use proptest::prelude::*;
use tempfile::TempDir;
use yardarm_testkit::RedisServer;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);
const NOT_A_NUMBER: &str = "the value is not a number";

/// The places where values can be, and what they need as long as they are used.
struct Places {
    spaces: KvSpaces,
    lifecycle: Lifecycle,
    _server: RedisServer,
    _dir: TempDir,
}

impl Places {
    async fn open() -> Option<Self> {
        let (server, dir, lifecycle) = (RedisServer::start()?, tempfile::tempdir().unwrap(), Lifecycle::new());
        let store = DataStore::open(dir.path(), &lifecycle).await;
        let address = yardarm_store::RedisAddress::parse(&server.url(), false, None, None).unwrap();
        let redis = RedisSettings { address, prefix: "test".to_owned() };
        let spaces = KvSpaces::new(Some(store), Some(&redis), &lifecycle);
        Some(Self { spaces, lifecycle, _server: server, _dir: dir })
    }

    /// Returns an empty namespace in each place.
    fn named(&self, name: &str) -> Vec<(KvStorage, Arc<KvSpace>)> {
        let places = [KvStorage::Memory, KvStorage::Disk, KvStorage::Redis];
        places.map(|storage| (storage, self.spaces.of(&name.into(), storage).unwrap())).into()
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.lifecycle.token().cancel();
    }
}

async fn value(space: &KvSpace, key: &str) -> Option<String> {
    space.get(key, LIMIT).await.unwrap().map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

async fn set(space: &KvSpace, key: &str, value: &[u8]) -> Result<(), KvError> {
    space.set(key, value.to_vec(), None, LIMIT).await
}

async fn cas(space: &KvSpace, version: Option<u64>, value: &str) -> Result<bool, KvError> {
    space.compare_and_set("a", version, (value.as_bytes().to_vec(), None), LIMIT).await
}

#[tokio::test]
async fn a_counter_covers_a_window_from_its_first_increment() {
    let Some(places) = Places::open().await else { return };
    for (place, space) in places.named("windows") {
        let window = Some(Duration::from_millis(600));
        assert_eq!(space.increment("a", 1, window, LIMIT).await, Ok(1), "{place:?}");
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(space.increment("a", 2, window, LIMIT).await, Ok(3), "{place:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(value(&space, "a").await, None, "{place:?}");
        assert_eq!(space.increment("a", 1, None, LIMIT).await, Ok(1), "{place:?}");
        space.set("gone", b"x".to_vec(), Some(Duration::ZERO), LIMIT).await.unwrap();
        assert_eq!(value(&space, "gone").await, None, "{place:?}");
    }
}

#[tokio::test]
async fn counters_are_numbers_of_64_bits() {
    let Some(places) = Places::open().await else { return };
    let (least, most) = (i64::MIN.to_string(), i64::MAX.to_string());
    let invalid = || Err(KvError::Invalid(NOT_A_NUMBER.to_owned()));
    for (place, space) in places.named("numbers") {
        for (before, delta, after) in [
            ("9007199254740993", 2, Ok(9_007_199_254_740_995)),
            (&most, 1, Ok(i64::MAX)),
            (&most, i64::MIN, Ok(-1)),
            (&least, -1, Ok(i64::MIN)),
            (&least, i64::MIN, Ok(i64::MIN)),
            ("-5", 2, Ok(-3)),
            ("+5", 2, Ok(7)),
            ("-0", 0, Ok(0)),
            ("-007", 0, Ok(-7)),
            ("0000", 1, Ok(1)),
            ("9223372036854775808", 0, invalid()),
            ("-9223372036854775809", 9, invalid()),
            ("", 1, invalid()),
            ("-", 1, invalid()),
            (" 1", 1, invalid()),
            ("1\n", 1, invalid()),
            ("1.5", 1, invalid()),
            ("0x10", 1, invalid()),
        ] {
            set(&space, "n", before.as_bytes()).await.unwrap();
            assert_eq!(space.increment("n", delta, None, LIMIT).await, after, "{place:?}: {before:?} {delta}");
            let shown = after.map_or(before.to_owned(), |sum| sum.to_string());
            assert_eq!(value(&space, "n").await, Some(shown), "{place:?}: {before:?} {delta}");
        }
        set(&space, "n", &[0xff, 0, b'1']).await.unwrap();
        assert_eq!(space.increment("n", 1, None, LIMIT).await, invalid(), "{place:?}");
    }
}

#[tokio::test]
async fn only_one_of_two_writers_that_saw_the_same_version_succeeds() {
    let Some(places) = Places::open().await else { return };
    for (place, space) in places.named("versions") {
        assert_eq!(cas(&space, None, "1").await, Ok(true), "{place:?}");
        assert_eq!(cas(&space, None, "2").await, Ok(false), "{place:?}");
        let version = space.get("a", LIMIT).await.unwrap().unwrap().version;
        assert_eq!(cas(&space, Some(version), "2").await, Ok(true), "{place:?}");
        assert_eq!(cas(&space, Some(version), "3").await, Ok(false), "{place:?}");
        assert_eq!(value(&space, "a").await.as_deref(), Some("2"), "{place:?}");
        assert_eq!(space.delete("a", LIMIT).await, Ok(true), "{place:?}");
        assert_eq!(space.delete("a", LIMIT).await, Ok(false), "{place:?}");
        assert_eq!(cas(&space, Some(version), "4").await, Ok(false), "{place:?}");
        assert_eq!(cas(&space, None, "5").await, Ok(true), "{place:?}");
        assert!(space.get("a", LIMIT).await.unwrap().unwrap().version > version, "{place:?}");
    }
}

#[tokio::test]
async fn limits_hold_and_leave_what_is_there() {
    let Some(places) = Places::open().await else { return };
    let large = vec![0; LARGEST_VALUE];
    for (place, space) in places.named("limits") {
        for (key, size) in [("", 0), (&*"k".repeat(257), 0), ("k", LARGEST_VALUE + 1)] {
            let written = set(&space, key, &vec![0; size]).await;
            assert!(matches!(written, Err(KvError::Invalid(_))), "{place:?}: {written:?}");
        }
        assert!(matches!(space.increment("", 1, None, LIMIT).await, Err(KvError::Invalid(_))), "{place:?}");
        assert_eq!(space.get(&"k".repeat(257), LIMIT).await, Ok(None), "{place:?}");
        for number in 0..15 {
            set(&space, &number.to_string(), &large).await.unwrap();
        }
        assert_eq!(set(&space, "more", &large).await, Err(KvError::Full), "{place:?}");
        assert_eq!(value(&space, "more").await, None, "{place:?}");
        assert_eq!(set(&space, "0", &large).await, Ok(()), "{place:?}");
        assert_eq!(space.delete("0", LIMIT).await, Ok(true), "{place:?}");
        assert_eq!(set(&space, "\0 key\n=", &large).await, Ok(()), "{place:?}");
        let read = space.get("\0 key\n=", LIMIT).await.unwrap().unwrap();
        assert!(*read.value == *large, "{place:?}");
    }
}

#[tokio::test]
async fn a_namespace_has_as_many_keys_as_it_may() {
    let Some(places) = Places::open().await else { return };
    for (place, space) in places.named("keys") {
        for number in 0..values::MOST_KEYS {
            set(&space, &number.to_string(), b"").await.unwrap();
        }
        assert_eq!(set(&space, "more", b"").await, Err(KvError::Full), "{place:?}");
        assert_eq!(set(&space, "7", b"1").await, Ok(()), "{place:?}");
        assert_eq!(space.delete("7", LIMIT).await, Ok(true), "{place:?}");
        assert_eq!(set(&space, "more", b"").await, Ok(()), "{place:?}");
    }
}

#[tokio::test]
async fn values_last_as_long_as_their_place_does() {
    let Some(places) = Places::open().await else { return };
    for (place, space) in places.named("one") {
        set(&space, "a", b"1").await.unwrap();
        let second = places.spaces.of(&"one".into(), place).unwrap();
        drop(space);
        assert_eq!(value(&second, "a").await.as_deref(), Some("1"), "{place:?}");
        let other = places.spaces.of(&"other".into(), place).unwrap();
        assert_eq!(value(&other, "a").await, None, "{place:?}");
        drop(second);
        let expected = (place != KvStorage::Memory).then(|| "1".to_owned());
        let third = places.spaces.of(&"one".into(), place).unwrap();
        assert_eq!(value(&third, "a").await, expected, "{place:?}");
    }
}

#[test]
fn a_database_needs_its_setting() {
    let spaces = KvSpaces::new(None, None, &Lifecycle::new());
    assert_eq!(spaces.of(&"one".into(), KvStorage::Redis).err(), Some("plugins.kv_redis.url"));
    assert!(KvSpaces::in_memory().of(&"one".into(), KvStorage::Redis).is_ok());
}

/// An operation of a random sequence.
#[derive(Debug, Clone)]
enum Step {
    Set(usize, Option<Duration>),
    /// With the version that the key has, had before its last write, or none.
    CompareAndSet(Version, Option<Duration>),
    Increment(i64, Option<Duration>),
    Delete,
}

#[derive(Debug, Clone, Copy)]
enum Version {
    Current,
    Earlier,
    None,
}

fn steps() -> impl Strategy<Value = Vec<(u8, Step)>> {
    let ttl = || prop_oneof![Just(None), Just(Some(Duration::ZERO)), Just(Some(Duration::from_secs(3_600)))];
    let version = prop_oneof![Just(Version::Current), Just(Version::Earlier), Just(Version::None)];
    let delta = prop_oneof![-9_i64..9, Just(i64::MAX), Just(i64::MIN)];
    let step = prop_oneof![
        (prop_oneof![0..9_usize, Just(LARGEST_VALUE), Just(LARGEST_VALUE + 1)], ttl())
            .prop_map(|(size, ttl)| Step::Set(size, ttl)),
        (version, ttl()).prop_map(|(version, ttl)| Step::CompareAndSet(version, ttl)),
        (delta, ttl()).prop_map(|(delta, ttl)| Step::Increment(delta, ttl)),
        Just(Step::Delete),
    ];
    prop::collection::vec((0..24_u8, step), 1..80)
}

/// Executes a sequence; returns the results, and the values after each step.
async fn run(space: &KvSpace, steps: &[(u8, Step)]) -> Vec<String> {
    let mut earlier: HashMap<u8, u64> = HashMap::new();
    let mut results = Vec::new();
    for (number, step) in steps {
        let key = format!("key-{number}");
        let before = space.get(&key, LIMIT).await.unwrap().map(|entry| entry.version);
        let result = match step {
            Step::Set(size, ttl) => format!("{:?}", space.set(&key, vec![b'1'; *size], *ttl, LIMIT).await),
            Step::CompareAndSet(version, ttl) => {
                let version = match version {
                    Version::Current => before,
                    Version::Earlier => earlier.get(number).copied(),
                    Version::None => None,
                };
                format!("{:?}", space.compare_and_set(&key, version, (b"2".to_vec(), *ttl), LIMIT).await)
            }
            Step::Increment(delta, ttl) => format!("{:?}", space.increment(&key, *delta, *ttl, LIMIT).await),
            Step::Delete => format!("{:?}", space.delete(&key, LIMIT).await),
        };
        let after = space.get(&key, LIMIT).await.unwrap();
        let is_newer = after.as_ref().map(|entry| entry.version) > before;
        if let Some(before) = before {
            earlier.insert(*number, before);
        }
        let after = after.map(|entry| String::from_utf8_lossy(&entry.value[..entry.value.len().min(30)]).into_owned());
        results.push(format!("{result} {after:?} {is_newer}"));
    }
    results
}

#[test]
fn random_sequences_have_the_same_results_in_every_place() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(places) = runtime.block_on(Places::open()) else { return };
    let cases = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(64), |(steps in steps())| {
        cases.set(cases.get() + 1);
        let results: Vec<_> = places
            .named(&format!("case-{}", cases.get()))
            .iter()
            .map(|(_, space)| runtime.block_on(run(space, &steps)))
            .collect();
        prop_assert_eq!(&results[0], &results[1]);
        prop_assert_eq!(&results[0], &results[2]);
    });
}
