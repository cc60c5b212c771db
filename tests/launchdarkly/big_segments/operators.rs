//! The state of Big Segments in `/api/status` and in `/metrics`, while they work and while they do not.

use serde_json::{Value, json};
use yardarm_testkit::{RedisServer, until};

use super::{gated, includes, revision, setup, synchronized_on, unix_ms};
use crate::flags::some_data;
use crate::running::{Running, SDK_KEY};

/// Returns `/api/status`, and the series of the metrics with their values.
async fn shown(gateway: &Running) -> (Value, Vec<(String, u64)>) {
    let status = gateway.operator_gets("/api/status").await.json()["environments"][0]["big_segments"].clone();
    let metrics = gateway.operator_gets("/metrics").await.text().to_owned();
    let series = metrics.lines().filter_map(|it| it.strip_prefix("yardarm_big_segments_"));
    let series = series.map(|it| {
        let (name, value) = it.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a whole number"))
    });
    (status, series.collect())
}

/// Waits until both have these values.
async fn becomes(what: &str, gateway: &Running, is_available: bool, is_stale: bool, synchronized_ms: Option<u64>) {
    let labels = r#"{environment="main",vendor="launchdarkly"}"#;
    let mut last = (Value::Null, Vec::new());
    let looks = async {
        loop {
            last = shown(gateway).await;
            let at_ms = last.0["synchronized_on_ms"].as_u64().unwrap_or(u64::MAX);
            let expected = json!({"is_available": is_available, "is_stale": is_stale, "synchronized_on_ms": at_ms});
            let series = [
                (format!("available{labels}"), u64::from(is_available)),
                (format!("stale{labels}"), u64::from(is_stale)),
                (format!("synchronized_seconds{labels}"), at_ms / 1000),
            ];
            let is_at = synchronized_ms.is_none_or(|it| it == at_ms);
            if is_at && last.0 == expected && last.1 == series {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(yardarm_testkit::WAIT_TIMEOUT, looks).await.is_err() {
        panic!("waited for {what}, shown is {last:?}");
    }
}

#[tokio::test]
async fn without_a_big_segment_there_is_nothing_to_show() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, some_data()).start().await;
    assert_eq!(shown(&gateway).await, (Value::Null, Vec::new()));
}

#[tokio::test]
async fn availability_and_staleness_are_shown_to_operators() {
    let Some(mut redis) = RedisServer::start() else { return };
    let before = unix_ms();
    let setup = setup(&redis, gated()).prepare(|cloud| cloud.fails_revisions(SDK_KEY, true));
    let gateway = setup.start().await;
    becomes("members that were never synchronized", &gateway, true, true, Some(0)).await;

    gateway.upstream.fails_revisions(SDK_KEY, false);
    gateway.upstream.revises(SDK_KEY, &revision(1, includes("a")));
    until("a synchronization", || synchronized_on(&redis).is_some()).await;
    becomes("members that are up to date", &gateway, true, false, None).await;
    let at_ms = shown(&gateway).await.0["synchronized_on_ms"].as_u64().expect("a time");
    assert!((before..=unix_ms()).contains(&at_ms), "{at_ms} is the time of this test");

    // An outage in which nothing is known: the same as in `/status`.
    redis.kill();
    becomes("a database that is down", &gateway, false, false, Some(0)).await;
    let is_down = |it: &Value| it["environments"]["main"]["bigSegmentStatus"]["available"] == false;
    let status = gateway.status_where("L233", is_down).await;
    assert_eq!(status["environments"]["main"]["bigSegmentStatus"]["potentiallyStale"], false);

    redis.restart();
    until("another synchronization", || synchronized_on(&redis).is_some()).await;
    becomes("the end of the outage", &gateway, true, false, None).await;
    gateway.stop().await;
}
