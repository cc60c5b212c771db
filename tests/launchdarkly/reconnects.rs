//! U009, U029 to U031: delays of reconnects. Only minimum gaps are checked: a busy machine may be late.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{FakeLaunchDarkly, RawUpstream, Step, StreamAnswer};

use crate::flags::{flag, put, some_data};
use crate::running::{SDK_KEY, Setup};

fn gaps(cloud: &FakeLaunchDarkly) -> Vec<Duration> {
    cloud.stream_requests().windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

#[tokio::test]
async fn a_clean_close_is_a_failure_too() {
    // U030
    let gateway = Setup::with(some_data()).start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    let closed = tokio::time::Instant::now();
    gateway.upstream.closes_streams(SDK_KEY);
    let connection = |it: &Value| it["environments"]["main"]["connectionStatus"].clone();
    let status = gateway.status_where("an interruption", |it| connection(it)["state"] == "INTERRUPTED").await;
    assert_eq!(connection(&status)["lastError"]["kind"], "NETWORK_ERROR", "U030");
    sdk.receives("put", put(some_data())).await;
    assert!(closed.elapsed() >= Duration::from_millis(500), "U030: {:?}", closed.elapsed());
    let status = gateway.status_where("a recovery", |it| connection(it)["state"] == "VALID").await;
    assert_eq!(connection(&status)["lastError"]["kind"], "NETWORK_ERROR", "U030: kept");
}

#[tokio::test]
async fn each_failure_doubles_the_wait() {
    // U031, its first three gaps. The curve itself has unit tests.
    let failing = |cloud: &FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Status(503); 3]);
    let gateway = Setup::with(some_data()).prepare(failing).start().await;
    let gaps = gaps(&gateway.upstream);
    let least = [500, 1000, 2000].map(Duration::from_millis);
    assert_eq!(gaps.len(), 3);
    assert!(gaps.iter().zip(least).all(|(gap, least)| *gap >= least), "U031: {gaps:?}");
}

#[tokio::test]
async fn a_reset_connection_is_opened_again() {
    // U029
    let upstream = RawUpstream::start().await;
    upstream.plays([Step::Reset]);
    upstream.plays([Step::stream(format!("event: put\ndata: {}\n\n", put(some_data()))), Step::Hold]);
    let gateway = Setup::new().set("launchdarkly.stream_uri", upstream.url()).start().await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
    let kind = gateway.status().await["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
    assert_eq!((upstream.heads().len(), kind), (2, json!("NETWORK_ERROR")));
}

#[tokio::test]
async fn upstream_may_set_the_reconnect_delay() {
    // U009, within an event, in a separate block, and in an unfinished block. Far below the default of half a second,
    // so that a busy machine does not hide the difference.
    for bytes in ["event: whatever\nretry: 20\ndata: x\n\n", "retry: 20\n\n", "data: unfinished\nretry: 20\n"] {
        let gateway = Setup::with(some_data()).start().await;
        let mut sdk = gateway.opens("/all", SDK_KEY).await;
        sdk.receives("put", put(some_data())).await;
        gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
        sdk.receives_event("patch").await;
        gateway.upstream.sends_bytes(SDK_KEY, bytes);
        gateway.upstream.closes_streams(SDK_KEY);
        let closed = tokio::time::Instant::now();
        sdk.receives_event("put").await;
        let took = closed.elapsed();
        assert!((Duration::from_millis(10)..Duration::from_millis(500)).contains(&took), "U009 {bytes:?}: {took:?}");
        gateway.stop().await;
    }
}

/// Counts connections within two and a half seconds when each requests the shortest possible delay, and ends.
async fn tries(row: &str, first: &str, setup: impl FnOnce(&RawUpstream) -> Setup) {
    let upstream = RawUpstream::start().await;
    for retry in [0, 1].into_iter().cycle().take(1000) {
        upstream.plays([Step::stream(format!("retry: {retry}\n\n{first}retry: {retry}\ndata: x\n\n"))]);
    }
    let gateway = setup(&upstream).set("launchdarkly.min_reconnect_delay", "1s").without_waiting().start().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    // At 0 s, then after 0.5 to 1 s, then after another 1 to 2 s.
    let tries = upstream.heads().len();
    assert!((2..=3).contains(&tries), "{row}: {tries}");
    gateway.stop().await;
}

#[tokio::test]
async fn upstream_cannot_cause_a_hot_loop() {
    let first = format!("event: put\ndata: {}\n\n", put(some_data()));
    let flags = tries("flags", &first, |it| Setup::new().set("launchdarkly.stream_uri", it.url()));
    let list = r#"{"path":"/","data":{"environments":{}}}"#;
    let auto_config = |it: &RawUpstream| {
        let setup = Setup::new().environments([]).set("launchdarkly.auto_config.key", "rel-auto");
        setup.set("launchdarkly.stream_uri", it.url())
    };
    let first = format!("event: put\ndata: {list}\n\n");
    tokio::join!(flags, tries("auto-configuration", &first, auto_config));
}
