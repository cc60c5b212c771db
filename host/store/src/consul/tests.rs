use yardarm_testkit::FakeConsul;

use super::*;
use crate::layout::TEST_LAYOUT;

fn store(consul: &FakeConsul, prefix: &str) -> Consul {
    let address = ConsulAddress::parse(consul.address(), None).expect("an address");
    Consul::new(&address, prefix, TEST_LAYOUT)
}

/// Creates a record whose text is its version.
fn record(key: &str, version: i64) -> Record {
    Record { key: key.into(), version, text: version.to_string().into() }
}

fn collection(name: &'static str, records: impl IntoIterator<Item = Record>) -> Collection {
    Collection { name, records: records.into_iter().collect() }
}

#[tokio::test]
async fn a_full_write_replaces_everything_and_sets_the_marker_last() {
    let consul = FakeConsul::start();
    let store = store(&consul, "p");
    assert!(!store.is_complete().await.unwrap());
    assert!(store.read("things").await.unwrap().is_empty());
    let first = [collection("parts", [record("x", 1)]), collection("things", [record("old", 1), record("both", 1)])];
    assert_eq!(store.replace(&first).await.unwrap(), []);
    // U027: collections and records in the order in which they are passed.
    assert_eq!(consul.writes(), ["p/parts/x", "p/things/old", "p/things/both", "p/complete"]);
    store.replace(&[collection("things", [record("both", 2), record("new", 1)])]).await.unwrap();
    let mut all = store.read("things").await.unwrap();
    all.sort();
    assert_eq!(all, [("both".to_owned(), Bytes::from("2")), ("new".to_owned(), Bytes::from("1"))]);
    assert_eq!(consul.keys(), ["p/complete", "p/parts/x", "p/things/both", "p/things/new"], "another kind stays");
    assert_eq!(consul.writes().last().map(String::as_str), Some("p/complete"));
    assert_eq!(consul.get("p/complete").as_deref(), Some(""));
    assert!(store.is_complete().await.unwrap());
}

#[tokio::test]
async fn keys_of_a_longer_prefix_stay() {
    // U106
    let consul = FakeConsul::start();
    let (short, long) = (store(&consul, "ld"), store(&consul, "ld2"));
    long.replace(&[collection("things", [record("a", 1)])]).await.unwrap();
    consul.set("ld/things2/a", "of another program");
    short.replace(&[collection("things", [record("b", 1)])]).await.unwrap();
    short.replace(&[collection("things", [])]).await.unwrap();
    assert_eq!(consul.keys(), ["ld/complete", "ld/things2/a", "ld2/complete", "ld2/things/a"]);
}

#[tokio::test]
async fn large_sets_are_split_and_too_large_records_left_out() {
    let consul = FakeConsul::start();
    let store = store(&consul, "p");
    let sized = |key: &str, size: usize| Record { key: key.into(), version: 1, text: " ".repeat(size).into() };
    let many = (0..200).map(|number| record(&format!("{number:03}"), number));
    let large = [sized("z1", 512 << 10), sized("z2", (512 << 10) + 1), sized("z3", 300 << 10), sized("..", 1)];
    let left_out = store.replace(&[collection("things", many.chain(large.clone()))]).await.unwrap();
    let keys: Vec<_> = left_out.iter().map(|it| (it.collection, &*it.key)).collect();
    assert_eq!(keys, [("things", "z2"), ("things", "..")]);
    assert_eq!(store.read("things").await.unwrap().len(), 202);
    assert!(store.is_complete().await.unwrap());
    for (record, expected) in large.iter().zip([Upserted::Written, Upserted::TooLarge]) {
        assert_eq!(store.upsert("others", record).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn only_newer_versions_are_written() {
    let consul = FakeConsul::start();
    let store = store(&consul, "p/f");
    for (version, outcome) in
        [(2, Upserted::Written), (2, Upserted::Older), (1, Upserted::Older), (3, Upserted::Written)]
    {
        assert_eq!(store.upsert("things", &record("a b%2Fc?", version)).await.unwrap(), outcome, "{version}");
    }
    assert_eq!(consul.keys(), ["p/f/things/a b%2Fc?"]);
    // A text without a valid version is replaced by any record.
    consul.set("p/f/things/a", "nonsense");
    assert_eq!(store.upsert("things", &record("a", 1)).await.unwrap(), Upserted::Written);
}

#[tokio::test]
async fn concurrent_writers_lose_nothing() {
    let consul = FakeConsul::start();
    let writes = async || {
        let writer = store(&consul, "p");
        let mut written = 0;
        for version in 1..=30 {
            written += usize::from(writer.upsert("things", &record("a", version)).await.unwrap() == Upserted::Written);
        }
        written
    };
    let (first, second) = tokio::join!(writes(), writes());
    assert_eq!(first + second, 30, "each version once");
    assert_eq!(consul.get("p/things/a").as_deref(), Some("30"));
}

#[tokio::test]
async fn a_probe_leaves_nothing_behind() {
    let consul = FakeConsul::start();
    let store = store(&consul, "p");
    assert!(!store.probe(&["things"]).await.unwrap());
    assert_eq!((consul.keys(), consul.writes()), (Vec::new(), vec!["p/probe".to_owned(), "-p/probe".to_owned()]));
}

#[tokio::test]
async fn failures_have_classes_and_no_token() {
    let consul = FakeConsul::start();
    consul.requires_token("canary");
    let with = |token: Option<&str>| {
        let address = ConsulAddress::parse(consul.address(), token).expect("an address");
        Consul::new(&address, "p", TEST_LAYOUT)
    };
    assert!(!with(Some("canary")).is_complete().await.unwrap());
    for token in [None, Some("canary2")] {
        let error = with(token).probe(&[]).await.unwrap_err();
        assert_eq!(error.trouble(), Trouble::Denied, "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let store = with(Some("canary"));
    for (status, text, trouble) in [
        (500, "No cluster leader", Trouble::Busy),
        (429, "rate limit", Trouble::Busy),
        (500, "rpc error: Permission denied", Trouble::Denied),
        (301, "elsewhere", Trouble::Refused),
        (404, "of another server", Trouble::Refused),
        (200, "<html>", Trouble::Refused),
    ] {
        consul.fails(Some((status, text)));
        let error = store.read("things").await.unwrap_err();
        assert_eq!(error.trouble(), trouble, "{error}");
        assert!(status == 200 || error.to_string().contains(text), "{error}");
    }
    consul.fails(None);
    consul.goes_down();
    let error = store.is_complete().await.unwrap_err();
    assert_eq!(error.trouble(), Trouble::Unreachable, "{error}");
    assert!(!error.to_string().contains("p/complete"), "an address may contain keys: {error}");
    consul.comes_back();
    assert!(!store.is_complete().await.unwrap());
    assert_eq!(store.progress().await.unwrap_err().trouble(), Trouble::Refused);
}
