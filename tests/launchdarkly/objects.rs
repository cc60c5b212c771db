//! L267 and L268: FDv2, where it is enabled. L266 is tested with the routes.

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly};

use crate::expected::{TEXT_C, json as json_answer, not_initialized, text};
use crate::flags::{data, flag, segment, some_data};
use crate::running::{MOBILE_KEY, Running, SDK_KEY, Setup};
use crate::sdk::Sdk;

fn setup() -> Setup {
    Setup::with(some_data()).set("launchdarkly.fdv2", true)
}

fn poll(query: &str) -> Call {
    Call::get(format!("/sdk/poll{query}")).key(SDK_KEY)
}

fn intent(state: &str, target: u64, code: &str, reason: &str) -> Value {
    json!({"payloads": [{"id": state, "target": target, "intentCode": code, "reason": reason}]})
}

fn put(kind: &str, object: Value) -> Value {
    json!({"version": object["version"], "kind": kind, "key": object["key"], "object": object})
}

/// Returns the state of a poll, which is also its tag.
async fn state(gateway: &Running) -> String {
    let answer = gateway.answers(&poll("")).await;
    let state = answer.json()["events"][0]["data"]["payloads"][0]["id"].as_str().expect("a state").to_owned();
    assert_eq!(answer.header("etag"), Some(format!("relay-{state}").as_str()), "L267");
    state
}

/// Expects the end of a group that follows an intent or another group.
async fn receives_group_end(sdk: &mut Sdk) -> (String, u64) {
    let end = sdk.receives_event("payload-transferred").await;
    (end["state"].as_str().expect("a state").to_owned(), end["version"].as_u64().expect("a version"))
}

#[tokio::test]
async fn a_poll_transfers_everything_or_answers_not_modified() {
    let gateway = setup().start().await;
    let state = state(&gateway).await;
    let event = |name: &str, data: Value| json!({"event": name, "data": data});
    let everything = json!({"events": [
        event("server-intent", intent(&state, 1, "xfer-full", "cant-catchup")),
        event("put-object", put("flag", flag("plain", 3))),
        event("put-object", put("segment", segment("crew", 2))),
        event("payload-transferred", json!({"state": state, "version": 1})),
    ]});
    let nothing = json!({"events": [event("server-intent", intent(&state, 1, "none", "up-to-date"))]});
    let etag = format!("etag: relay-{state}");
    for (row, query, body) in [
        ("L267", String::new(), &everything),
        ("L267", "?basis=".to_owned(), &everything),
        ("L268: any other basis", "?basis=(p:old:7)".to_owned(), &everything),
        ("L268", format!("?basis={state}"), &nothing),
    ] {
        gateway.answers_as(row, poll(&query), json_answer(200, body.clone()).with(&etag)).await;
    }
    let again = gateway.answers(&poll("").header("If-None-Match", &format!("relay-{state}"))).await;
    assert_eq!((again.status, again.body.len()), (304, 0), "L267: 304");
    gateway.answers_as("L028", Call::get("/sdk/poll").key(MOBILE_KEY), text(401, TEXT_C)).await;
}

#[tokio::test]
async fn a_stream_transfers_everything_and_then_what_changes() {
    let gateway = setup().start().await;
    let first = state(&gateway).await;
    let mut sdk = gateway.opens("/sdk/stream", SDK_KEY).await;
    sdk.receives("server-intent", intent(&first, 1, "xfer-full", "cant-catchup")).await;
    sdk.receives("put-object", put("flag", flag("plain", 3))).await;
    sdk.receives("put-object", put("segment", segment("crew", 2))).await;
    assert_eq!(receives_group_end(&mut sdk).await, (first.clone(), 1));

    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives("put-object", put("flag", flag("plain", 4))).await;
    let (second, version) = receives_group_end(&mut sdk).await;
    assert_eq!(version, 2);
    assert_ne!(second, first);
    assert_eq!(state(&gateway).await, second, "what a stream announced can be polled at once");
    gateway.upstream.deletes(SDK_KEY, "/segments/crew", 3);
    sdk.receives("delete-object", json!({"version": 3, "kind": "segment", "key": "crew"})).await;
    let (third, _) = receives_group_end(&mut sdk).await;

    // A client that is up to date receives only later changes.
    let mut back = gateway.opens(&format!("/sdk/stream?basis={third}"), SDK_KEY).await;
    back.receives("server-intent", intent(&third, 3, "none", "up-to-date")).await;
    let mut old = gateway.opens(&format!("/sdk/stream?basis={second}"), SDK_KEY).await;
    old.receives("server-intent", intent(&third, 3, "xfer-full", "cant-catchup")).await;
    // An old version changes nothing, and neither does the same data again.
    gateway.upstream.patches(SDK_KEY, &flag("plain", 1));
    gateway.upstream.puts(SDK_KEY, &data([flag("plain", 4)], []));
    // Another set of objects begins with an intent again.
    gateway.upstream.puts(SDK_KEY, &data([flag("other", 1)], []));
    for stream in [&mut sdk, &mut back] {
        let whole = stream.receives_event("server-intent").await;
        assert_eq!(whole["payloads"][0]["intentCode"], "xfer-full");
        stream.receives("put-object", put("flag", flag("other", 1))).await;
        receives_group_end(stream).await;
    }
}

#[tokio::test]
async fn states_mean_the_same_after_a_restart() {
    let cloud = FakeLaunchDarkly::start().await;
    let gateway = setup().cloud(&cloud).start().await;
    let before = state(&gateway).await;
    let gateway = gateway.restarted().await;
    assert_eq!(state(&gateway).await, before);
}

#[tokio::test]
async fn before_there_is_data_polls_are_rejected_and_streams_wait() {
    let setup = Setup::new().set("launchdarkly.fdv2", true).set("launchdarkly.init_timeout", "50ms").without_waiting();
    let gateway = setup.set("launchdarkly.heartbeat_interval", "50ms").start().await;
    let mut sdk = gateway.opens_when_ready("/sdk/stream", SDK_KEY).await;
    sdk.receives_only_heartbeats(2).await;
    gateway.answers_as("V026", poll(""), not_initialized()).await;
    gateway.upstream.puts(SDK_KEY, &some_data());
    sdk.receives_event("server-intent").await;
}
