//! L267, L268, V008, V024 to V032: FDv2 for server-side SDKs. L266 is tested with the routes.

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly};

use crate::expected::{TEXT_B, TEXT_C, json as json_answer, not_initialized, text};
use crate::flags::{data, flag, segment, some_data};
use crate::running::{MOBILE_KEY, Running, SDK_KEY, Setup};
use crate::sdk::Sdk;

fn setup() -> Setup {
    Setup::with(some_data())
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
    // L267, L268, V008, V022, V023: all headers are compared, so that no response directs SDKs to FDv1.
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
        ("V008", format!("?selector={state}"), &nothing),
        ("V008", format!("?basis=&selector={state}"), &nothing),
        ("V008: `basis` counts", format!("?basis=old&selector={state}"), &everything),
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
    let resumed = |header: &str| Call::get("/sdk/stream").key(SDK_KEY).header("Last-Event-ID", header);
    let mut resumed_by_id = gateway.opens_with(&resumed(&third)).await;
    resumed_by_id.receives("server-intent", intent(&third, 3, "none", "up-to-date")).await; // V024
    let mut other_id = gateway.opens_with(&resumed(&second)).await;
    other_id.receives("server-intent", intent(&third, 3, "xfer-full", "cant-catchup")).await;
    // An old version changes nothing, and neither does the same data again.
    gateway.upstream.patches(SDK_KEY, &flag("plain", 1));
    gateway.upstream.puts(SDK_KEY, &data([flag("plain", 4)], []));
    // Another set of objects begins with an intent again.
    gateway.upstream.puts(SDK_KEY, &data([flag("other", 1)], []));
    for stream in [&mut sdk, &mut back, &mut resumed_by_id] {
        let whole = stream.receives_event("server-intent").await;
        assert_eq!(whole["payloads"][0]["intentCode"], "xfer-full");
        stream.receives("put-object", put("flag", flag("other", 1))).await;
        receives_group_end(stream).await;
    }
}

#[tokio::test]
async fn equal_data_has_an_equal_state_everywhere() {
    // V032
    let cloud = FakeLaunchDarkly::start().await;
    let gateway = setup().cloud(&cloud).start().await;
    let replica = setup().cloud(&cloud).start().await;
    for change in [flag("plain", 4), flag("other", 1)] {
        cloud.patches(SDK_KEY, &change);
        let all = |gateway: &Running| gateway.address;
        for address in [all(&gateway), all(&replica)] {
            let path = format!("/sdk/flags/{}", change["key"].as_str().expect("a key"));
            let is_there = async {
                while Call::get(path.as_str()).key(SDK_KEY).to(address).await.body != change.to_string() {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            yardarm_testkit::within("the change", is_there).await;
        }
    }
    let before = state(&gateway).await;
    assert_eq!(state(&replica).await, before, "V032: a replica");
    let gateway = gateway.restarted().await;
    assert_eq!(state(&gateway).await, before, "V032: after a restart");
    let none = gateway.answers(&poll(&format!("?basis={before}"))).await.json();
    assert_eq!(none["events"][0]["data"]["payloads"][0]["intentCode"], "none", "V032");
}

#[tokio::test]
async fn filters_that_are_not_configured_are_ignored() {
    // V028, D6
    let setup = setup().environment(json!({"filters": ["a"]}));
    let gateway = setup.data(&format!("{SDK_KEY}?filter=a"), data([flag("part", 2)], [])).start().await;
    let whole = state(&gateway).await;
    for (query, keys) in
        [("?filter=unknown", &["plain", "crew"][..]), ("?filter=", &["plain", "crew"]), ("?filter=a", &["part"])]
    {
        let answer = gateway.answers(&poll(query)).await;
        assert_eq!(answer.status, 200, "{query}");
        let events = answer.json()["events"].as_array().expect("events").clone();
        let put: Vec<_> =
            events.iter().filter(|it| it["event"] == "put-object").map(|it| it["data"]["key"].clone()).collect();
        assert_eq!(put, keys, "V028: {query}");
        let is_whole = events[0]["data"]["payloads"][0]["id"] == whole;
        assert_eq!(is_whole, keys.len() == 2, "V028: its own state");
    }
    let mut stream = gateway.opens("/sdk/stream?filter=unknown", SDK_KEY).await;
    stream.receives_event("server-intent").await;
    gateway.answers_as("L236", Call::get("/sdk/flags?filter=unknown").key(SDK_KEY), text(404, TEXT_B)).await;
    gateway.answers_as("L022", Call::get("/sdk/poll?filter=unknown").key("sdk-unknown"), text(401, TEXT_C)).await;
}

#[tokio::test]
async fn everything_can_be_polled_with_a_tag() {
    // V030, D13
    let gateway = setup().start().await;
    let call = || Call::get("/sdk/latest-all").key(SDK_KEY);
    let first = gateway.answers(&call()).await;
    assert_eq!((first.status, first.json()), (200, some_data()));
    let tag = first.header("etag").expect("a tag").to_owned();
    let again = gateway.answers(&call().header("If-None-Match", &tag)).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    while stream.receives_event("put").await["data"]["flags"]["plain"]["version"] != 4 {
        stream = gateway.opens("/all", SDK_KEY).await;
    }
    let changed = gateway.answers(&call().header("If-None-Match", &tag)).await;
    assert_eq!((changed.status, &changed.json()["flags"]["plain"]), (200, &flag("plain", 4)));
    gateway.answers_as("L028", Call::get("/sdk/latest-all").key(MOBILE_KEY), text(401, TEXT_C)).await;
}

#[tokio::test]
async fn before_there_is_data_polls_are_rejected_and_streams_wait() {
    // V025, V026
    let setup = Setup::new().set("launchdarkly.init_timeout", "50ms").without_waiting();
    let gateway = setup.set("launchdarkly.heartbeat_interval", "50ms").start().await;
    let mut sdk = gateway.opens_when_ready("/sdk/stream", SDK_KEY).await;
    sdk.receives_only_heartbeats(2).await;
    gateway.answers_as("V026", poll(""), not_initialized()).await;
    gateway.answers_as("V026", Call::get("/sdk/latest-all").key(SDK_KEY), not_initialized()).await;
    gateway.upstream.puts(SDK_KEY, &some_data());
    let whole = sdk.receives_event("server-intent").await;
    assert_eq!(whole["payloads"][0]["intentCode"], "xfer-full", "V025");
    sdk.receives("put-object", put("flag", flag("plain", 3))).await;
    sdk.receives("put-object", put("segment", segment("crew", 2))).await;
    receives_group_end(&mut sdk).await;
}
