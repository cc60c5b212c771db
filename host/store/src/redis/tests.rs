use std::time::Duration;

use yardarm_testkit::RedisServer;

use super::*;
use crate::layout::TEST_LAYOUT;

fn store(server: &RedisServer, prefix: &str) -> Redis {
    let address = RedisAddress::parse(&server.url(), false, None, None).expect("an address");
    Redis::new(&address, prefix, TEST_LAYOUT)
}

/// Creates a record whose text is its version.
fn record(key: &str, version: i64) -> Record {
    Record { key: key.into(), version, text: version.to_string().into() }
}

fn things(records: impl IntoIterator<Item = Record>) -> Collection {
    Collection { name: "things", records: records.into_iter().collect() }
}

async fn sorted(store: &Redis) -> Vec<(String, Bytes)> {
    let mut all = store.read("things").await.expect("a reachable database");
    all.sort();
    all
}

fn expected(pairs: &[(&str, &'static str)]) -> Vec<(String, Bytes)> {
    pairs.iter().map(|(key, text)| ((*key).to_owned(), Bytes::from_static(text.as_bytes()))).collect()
}

#[tokio::test]
async fn a_full_write_replaces_everything_and_sets_the_marker() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server, "p");
    assert!(!store.is_complete().await.unwrap());
    assert!(sorted(&store).await.is_empty());
    store.replace(&[things([record("old", 1), record("both", 1)])]).await.unwrap();
    store.replace(&[things([record("both", 2), record("new", 1)])]).await.unwrap();
    assert_eq!(sorted(&store).await, expected(&[("both", "2"), ("new", "1")]));
    assert!(store.is_complete().await.unwrap());
    assert_eq!(server.ask(&["GET", "p:complete"]).text().as_deref(), Some(""));
    assert_eq!(server.ask(&["TYPE", "p:things"]).text().as_deref(), Some("hash"));
    store.replace(&[things([])]).await.unwrap();
    assert!(sorted(&store).await.is_empty());
}

#[tokio::test]
async fn only_newer_versions_are_written() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server, "p");
    for (version, outcome) in
        [(2, Upserted::Written), (2, Upserted::Older), (1, Upserted::Older), (3, Upserted::Written)]
    {
        assert_eq!(store.upsert("things", &record("a", version)).await.unwrap(), outcome, "{version}");
    }
    // A text without a valid version is replaced by any record.
    server.ask(&["HSET", "p:things", "a", "nonsense"]);
    assert_eq!(store.upsert("things", &record("a", 1)).await.unwrap(), Upserted::Written);
    assert_eq!(sorted(&store).await, expected(&[("a", "1")]));
}

#[tokio::test]
async fn concurrent_writers_lose_nothing() {
    let Some(server) = RedisServer::start() else { return };
    // Each writer has its own connections, like gateways that share a database.
    let writes = async |index: usize| {
        let writer = store(&server, "p");
        let mut written = 0;
        for version in 1..=50 {
            // One record per writer, and a shared one.
            writer.upsert("things", &record(&format!("own-{index}"), version)).await.expect("a write");
            let upserted = writer.upsert("things", &record("all", version)).await.expect("a write");
            written += i32::from(upserted == Upserted::Written);
        }
        written
    };
    let written = tokio::join!(writes(0), writes(1), writes(2), writes(3));
    let written = written.0 + written.1 + written.2 + written.3;
    // A version is written at most once: a second time would mean a failed comparison.
    assert!((1..=50).contains(&written), "{written}");
    let all = expected(&[("all", "50"), ("own-0", "50"), ("own-1", "50"), ("own-2", "50"), ("own-3", "50")]);
    assert_eq!(sorted(&store(&server, "p")).await, all);
}

#[tokio::test]
async fn a_failure_is_an_error_and_recovers() {
    let Some(mut server) = RedisServer::start() else { return };
    let store = store(&server, "p");
    store.upsert("things", &record("a", 1)).await.unwrap();
    store.is_complete().await.unwrap();
    server.kill();
    store.upsert("things", &record("a", 2)).await.expect_err("no server");
    store.replace(&[things([record("a", 2)])]).await.expect_err("no server");
    store.is_complete().await.expect_err("no server");
    store.membership("x").await.expect_err("no server");
    server.restart();
    store.upsert("things", &record("a", 3)).await.unwrap();
    assert_eq!(sorted(&store).await, expected(&[("a", "3")]));
}

#[tokio::test]
async fn a_transaction_that_the_server_refuses_is_an_error() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server, "p");
    // A full database rejects writes inside transactions, which shows only in the reply to `EXEC`.
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    store.upsert("things", &record("a", 1)).await.expect_err("no room");
    store.replace(&[things([record("a", 1)])]).await.expect_err("no room");
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    store.upsert("things", &record("a", 1)).await.unwrap();
}

#[tokio::test]
async fn an_unresponsive_server_times_out() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    let store = Redis::new(&RedisAddress::parse(&address, false, None, None).unwrap(), "p", TEST_LAYOUT);
    // The listener accepts connections and never replies, like a firewall that drops packets.
    let start = tokio::time::Instant::now();
    store.membership("x").await.expect_err("silence");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn tls_is_used_where_it_is_configured() {
    // U102. A TLS handshake begins with this byte, a Redis command with `*`.
    for (tls, first) in [(true, 0x16), (false, b'*')] {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("redis://user:word@{}", listener.local_addr().unwrap());
        let store = Redis::new(&RedisAddress::parse(&address, tls, None, None).unwrap(), "p", TEST_LAYOUT);
        let first_byte = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::io::AsyncReadExt::read_u8(&mut stream).await.expect("a byte")
        };
        let (result, received) = tokio::join!(store.is_complete(), first_byte);
        result.expect_err("not a Redis server");
        assert_eq!(received, first, "tls: {tls}");
    }
}

#[tokio::test]
async fn patches_of_memberships_follow_each_other() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server, "p");
    let patch = |previous: &str, version: &str| MembershipPatch {
        previous: previous.to_owned(),
        version: version.to_owned(),
        group: "g".to_owned(),
        ..MembershipPatch::default()
    };
    assert_eq!(store.progress().await.unwrap(), Progress::default());
    let first =
        MembershipPatch { include: vec!["ann".into(), "bob".into()], exclude: vec!["cid".into()], ..patch("any", "1") };
    assert_eq!(store.advance(&first).await.unwrap(), Advanced::Applied);
    let refused = Advanced::Refused { cursor: Some("1".to_owned()) };
    assert_eq!(store.advance(&patch("0", "1")).await.unwrap(), refused);
    let second = MembershipPatch {
        forget_included: vec!["bob".into()],
        include: vec!["cid".into()],
        forget_excluded: vec!["cid".into()],
        ..patch("1", "2")
    };
    assert_eq!(store.advance(&second).await.unwrap(), Advanced::Applied);
    store.synchronized(1_700_000_000_123).await.unwrap();
    let progress = Progress { cursor: Some("2".to_owned()), synchronized_on: Some(1_700_000_000_123) };
    assert_eq!(store.progress().await.unwrap(), progress);
    let included = Membership { included: vec!["g".to_owned()], excluded: vec![] };
    for (subject, membership) in [("ann", included.clone()), ("bob", Membership::default()), ("cid", included)] {
        assert_eq!(store.membership(subject).await.unwrap(), membership, "{subject}");
    }
}
