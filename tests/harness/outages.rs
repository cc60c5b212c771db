//! Outages of Harness, and temporary rejections: no change is missed, and recovery is as fast as possible.

use serde_json::json;
use yardarm_testkit::{HarnessAnswer, until};

use super::upstream::serves;
use super::{ENV, KEY, cloud, flag, listens, segment, started};

#[tokio::test]
async fn nothing_is_missed_in_an_outage() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    cloud.streams_go_down();
    cloud.stores_flag(ENV, &flag("a", 7));
    serves(&gateway, "feature-configs/a", "F032: polled", |_, it| it["version"] == 7).await;
    cloud.goes_down();
    serves(&gateway, "feature-configs/a", "served while upstream is down", |_, it| it["version"] == 7).await;
    cloud.stores_flag(ENV, &flag("a", 8));
    cloud.comes_back();
    cloud.streams_come_back();
    serves(&gateway, "feature-configs/a", "F033", |_, it| it["version"] == 8).await;
}

#[tokio::test]
async fn streams_receive_every_change_that_they_missed() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdks = Vec::new();
    for _ in 0..4 {
        sdks.push(listens(&gateway, KEY).await);
    }
    // Harness' stream ends, and everything changes that can before it is back.
    cloud.streams_go_down();
    for sdk in &mut sdks {
        sdk.receives_end().await;
    }
    cloud.puts(ENV, [flag("a", 7), flag("c", 1)], [segment("s", 2), segment("t", 1)]);
    cloud.streams_come_back();
    let expected = [
        "patch flag a 7",
        "create flag c 1",
        "delete flag b 1",
        "patch target-segment s 2",
        "create target-segment t 1",
    ];
    let received = async |sdk: &mut crate::sdk::Sdk, count: usize| {
        let mut received = std::collections::BTreeSet::new();
        for _ in 0..count {
            let event = sdk.receives_event("*").await;
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            received.insert(format!(
                "{} {} {} {}",
                text("event"),
                text("domain"),
                text("identifier"),
                event["version"]
            ));
        }
        received
    };
    let all: std::collections::BTreeSet<_> = expected.map(str::to_owned).into();
    for _ in 0..4 {
        let mut sdk = listens(&gateway, KEY).await;
        assert_eq!(received(&mut sdk, 5).await, all, "all of them");
        serves(&gateway, "feature-configs/a", "the announced version", |_, it| it["version"] == 7).await;
        sdks.push(sdk);
    }
    // Each once: the next is a new one.
    cloud.changes_flag(ENV, &flag("a", 8));
    for sdk in &mut sdks[4..] {
        assert_eq!(sdk.receives_event("*").await["version"], 8);
    }
    // An SDK disconnects by itself.
    drop(sdks);
    cloud.changes_flag(ENV, &flag("a", 9));
    serves(&gateway, "feature-configs/a", "the change", |_, it| it["version"] == 9).await;
    let mut sdk = listens(&gateway, KEY).await;
    yardarm_testkit::within("the change", async { while sdk.receives_event("*").await["version"] != 9 {} }).await;
}

#[tokio::test]
async fn changes_during_a_restart_are_announced_too() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    drop(listens(&gateway, KEY).await);
    cloud.goes_down();
    cloud.stores_flag(ENV, &flag("a", 7));
    let gateway = gateway.restarted().await;
    serves(&gateway, "feature-configs/a", "what was kept", |_, it| it["version"] == 2).await;
    cloud.comes_back();
    let mut sdk = listens(&gateway, KEY).await;
    let event = sdk.receives_event("*").await;
    assert_eq!((&event["identifier"], &event["version"]), (&json!("a"), &json!(7)));
}

#[tokio::test]
async fn an_item_that_lags_its_event_is_announced_again() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"200ms\"").await;
    let mut sdk = listens(&gateway, KEY).await;
    // The event precedes the change in the fake's own data.
    cloud.sends_event(ENV, &json!({"event": "patch", "domain": "flag", "identifier": "a", "version": 7}));
    assert_eq!(sdk.receives_event("*").await["version"], 7);
    cloud.stores_flag(ENV, &flag("a", 7));
    serves(&gateway, "feature-configs/a", "the announced version", |_, it| it["version"] == 7).await;
    assert_eq!(sdk.receives_event("*").await["version"], 7, "now it can be fetched");
    // The subject of a malformed event is unknown.
    cloud.stores_flag(ENV, &flag("b", 5));
    cloud.sends_bytes(ENV, "event: *\ndata: {\"event\":\n\n");
    assert_eq!(sdk.receives_event("*").await["identifier"], "b");
}

#[tokio::test]
async fn a_rejection_for_a_while_is_an_interruption() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    drop(listens(&gateway, KEY).await);
    for (path, status) in
        [("/client/auth", 401), ("/client/auth", 403), ("/stream", 401), ("/feature-configs", 403), ("/stream", 404)]
    {
        for _ in 0..2 {
            cloud.answers_next(path, [status; 2]);
            let before = cloud.gets("/stream").len();
            cloud.closes_streams(ENV);
            let start = tokio::time::Instant::now();
            until("another stream", || cloud.gets("/stream").len() > before && cloud.open_streams(ENV) > 0).await;
            assert!(start.elapsed() < std::time::Duration::from_secs(20), "{path} {status}: {:?}", start.elapsed());
            // Removes script entries that another environment consumed.
            cloud.clears_script();
        }
    }
    // Later ordinary disconnects have the usual delay.
    let start = tokio::time::Instant::now();
    for version in 20..24 {
        cloud.stores_flag(ENV, &flag("a", version));
        cloud.closes_streams(ENV);
        serves(&gateway, "feature-configs/a", "a change", |_, it| it["version"] == version).await;
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_path_that_is_temporarily_missing_is_retried() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    // The other path for streams never has a stream, whatever it answers.
    let listed = format!("/client/env/{ENV}/stream");
    let page = HarnessAnswer::from(200).body("text/html", "<html>");
    let answers = [HarnessAnswer::from(403), page.clone(), HarnessAnswer::from(405), page];
    cloud.answers_next(&listed, answers.into_iter().cycle().take(1000));
    for _ in 0..3 {
        cloud.answers_next("/stream", [404]);
        cloud.closes_streams(ENV);
        sdk.receives_end().await;
        until("the real path", || cloud.open_streams(ENV) == 1).await;
        sdk = listens(&gateway, KEY).await;
    }
    assert_eq!(cloud.gets(&listed).len(), 3, "once for each answer that there is no such path");
}
