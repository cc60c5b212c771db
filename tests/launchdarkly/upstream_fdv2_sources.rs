//! U054, and where FDv2 comes from upstream: polls while the stream is not available, another key, another gateway, and
//! what stays FDv1.

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly, TransferAnswer};

use super::auto_config::{AUTO_KEY, ID, main, path, ready};
use super::upstream_fdv2::{POLL, STREAM, flags, paths, setup, streaming};
use crate::flags::{by_key, data, flag, put, some_data};
use crate::running::{Running, SDK_KEY, Setup};

const FALLBACK: &str = "X-LD-FD-Fallback";
const TTL: &str = "X-LD-FD-Fallback-TTL";

/// Waits until FDv1 is used, and checks that it works.
async fn falls_back(gateway: &Running, row: &str) {
    let cloud = &gateway.upstream;
    gateway.eventually(&format!("{row}: a stream of FDv1"), || cloud.open_streams(SDK_KEY) > 0).await;
    assert_eq!(cloud.stream_requests().last().expect("a request").header("authorization"), Some(SDK_KEY), "{row}");
    assert_eq!(cloud.open_transfer_streams(SDK_KEY), 0, "{row}");
}

#[tokio::test]
async fn the_service_directs_to_fdv1_by_a_poll() {
    // U054: the payload of a success is applied first.
    let body = json!({"events": [
        {"event": "server-intent", "data": {"payloads": [{"id": "p", "target": 1, "intentCode": "xfer-full"}]}},
        {"event": "put-object", "data": {"version": 1, "kind": "flag", "key": "first", "object": flag("first", 1)}},
        {"event": "payload-transferred", "data": {"state": "s", "version": 1}},
    ]});
    let answer = TransferAnswer::body(body.to_string()).header(FALLBACK, "TRUE");
    let prepare = |cloud: &FakeLaunchDarkly| {
        cloud.answers_transfers_with(POLL, [answer]);
        cloud.answers_streams_with([yardarm_testkit::StreamAnswer::Silence]);
    };
    let gateway = setup().prepare(prepare).start().await;
    falls_back(&gateway, "U054").await;
    assert_eq!(flags(&gateway).await, by_key([flag("first", 1)]), "U054: applied first");
    assert!(paths(&gateway.upstream, STREAM).is_empty(), "U054: no stream of FDv2");
}

#[tokio::test]
async fn the_service_directs_to_fdv1_for_a_time() {
    // U054
    let refusal = || TransferAnswer::status(503).header(FALLBACK, "true").header(TTL, "1");
    let prepare = move |cloud: &FakeLaunchDarkly| {
        cloud.answers_transfers_with(POLL, [refusal()]);
    };
    let gateway = setup().prepare(prepare).start().await;
    falls_back(&gateway, "U054: an error").await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives_event("patch").await;
    // Afterwards FDv2 again, and nothing is announced twice.
    streaming(&gateway, 1).await;
    assert_eq!(gateway.upstream.open_streams(SDK_KEY), 0);
    assert_eq!(paths(&gateway.upstream, POLL), [POLL, POLL], "data of FDv1 has no state");
    gateway.upstream.patches(SDK_KEY, &flag("plain", 5));
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 5)})).await;

    // By the head of a stream: what it transfers is applied first.
    let head = |ttl: &str| TransferAnswer::status(200).header(FALLBACK, "true").header(TTL, ttl);
    gateway.upstream.answers_transfers_with(STREAM, [head("1")]);
    gateway.upstream.refuses_transfer_streams(Some(503));
    gateway.upstream.patches(SDK_KEY, &flag("plain", 6));
    gateway.upstream.refuses_transfer_streams(None);
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 6)})).await;
    falls_back(&gateway, "U054: a stream").await;

    // By `goodbye`.
    gateway.eventually("FDv2 again", || gateway.upstream.open_transfer_streams(SDK_KEY) > 0).await;
    let goodbye = "event: goodbye\ndata: {\"reason\":\"r\",\"protocolFallbackTTL\":3600}\n\n";
    gateway.upstream.sends_transfer_bytes(SDK_KEY, goodbye);
    falls_back(&gateway, "U054: `goodbye`").await;
}

#[tokio::test]
async fn polls_take_the_place_of_a_stream_that_is_not_available() {
    for status in [503, 403, 404] {
        let gateway = setup().prepare(move |cloud| cloud.refuses_transfer_streams(Some(status))).start().await;
        let mut sdk = gateway.opens("/all", SDK_KEY).await;
        sdk.receives("put", put(some_data())).await;
        gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
        sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await;
        let is_valid = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
        gateway.status_where("a valid connection", is_valid).await;
        let last = || paths(&gateway.upstream, POLL).last().cloned();
        gateway.eventually("a poll from the last state", || last().is_some_and(|it| it.ends_with("%3A2%29"))).await;
        if status == 503 {
            gateway.upstream.refuses_transfer_streams(None);
            streaming(&gateway, 2).await;
            let polls = paths(&gateway.upstream, POLL).len();
            gateway.upstream.patches(SDK_KEY, &flag("plain", 5));
            sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 5)})).await;
            assert_eq!(paths(&gateway.upstream, POLL).len(), polls, "no polls while the stream is open");
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_incomplete_poll_changes_nothing() {
    let event = |name: &str, data: Value| json!({"event": name, "data": data});
    let put_object = event("put-object", json!({"version": 1, "kind": "flag", "key": "x", "object": flag("x", 1)}));
    let full = event("server-intent", json!({"payloads": [{"id": "p", "target": 1, "intentCode": "xfer-full"}]}));
    let bodies = [json!({"events": []}), json!({"events": [full, put_object]}), json!({}), json!([])];
    let answers = bodies.map(|it| TransferAnswer::body(it.to_string()));
    let prepare = move |cloud: &FakeLaunchDarkly| {
        cloud.refuses_transfer_streams(Some(503));
        cloud.answers_transfers_with(POLL, answers);
    };
    let gateway = setup().prepare(prepare).start().await;
    assert_eq!(flags(&gateway).await, some_data()["flags"]);
    assert!(paths(&gateway.upstream, POLL).iter().take(5).all(|it| it == POLL), "no basis before the first data");
}

#[tokio::test]
async fn a_key_that_upstream_rejects_is_reported() {
    let prepare = |cloud: &FakeLaunchDarkly| {
        cloud.answers_transfers_with(POLL, [TransferAnswer::status(401)]);
    };
    let gateway = setup().prepare(prepare).without_waiting().start().await;
    let state = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"].clone();
    gateway.status_where("a rejected key", |it| state(it) == "OFF").await;
    assert_eq!(gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 503);
    assert!(paths(&gateway.upstream, STREAM).is_empty());
}

#[tokio::test]
async fn another_key_takes_over_once_it_has_all_data() {
    // V031
    let setup = super::auto_config::setup().set("launchdarkly.upstream_protocol", "fdv2");
    let gateway = ready(setup).await;
    let cloud = &gateway.upstream;
    gateway.eventually("a stream", || cloud.open_transfer_streams("sdk-a") == 1).await;
    cloud.lists_one(AUTO_KEY, &path(ID), &main(2, "sdk-b"));
    // The new key is rejected at first, and has no data then.
    let tries =
        |key: &str| cloud.requests_to(STREAM).iter().filter(|it| it.header("authorization") == Some(key)).count();
    gateway.eventually("an attempt with the new key", || tries("sdk-b") > 0).await;
    cloud.add_environment("sdk-b");
    gateway.eventually("a stream with the new key", || cloud.open_transfer_streams("sdk-b") == 1).await;
    let mut sdk = gateway.opens("/all", "sdk-b").await;
    sdk.receives("put", put(data([flag("plain", 3)], []))).await;
    cloud.patches("sdk-a", &flag("plain", 4));
    sdk.receives_event("patch").await;
    assert_eq!(cloud.open_transfer_streams("sdk-a"), 1, "the old connection is kept");
    cloud.puts("sdk-b", &data([flag("plain", 5)], []));
    sdk.receives("put", put(data([flag("plain", 5)], []))).await;
    gateway.eventually("the end of the old connection", || cloud.open_transfer_streams("sdk-a") == 0).await;
    cloud.patches("sdk-b", &flag("plain", 6));
    sdk.receives_event("patch").await;
    let with_new = cloud.requests_to(STREAM).into_iter().filter(|it| it.header("authorization") == Some("sdk-b"));
    assert!(with_new.into_iter().all(|it| it.path == STREAM), "all data, not changes");
}

#[tokio::test]
async fn a_gateway_behind_a_gateway_follows_and_resumes() {
    let cloud = FakeLaunchDarkly::start().await;
    let first = Setup::with(some_data()).cloud(&cloud).start().await;
    let behind =
        |setup: Setup| setup.set("launchdarkly.stream_uri", first.url()).set("launchdarkly.base_uri", first.url());
    let second = behind(setup()).start().await;
    assert_eq!(flags(&second).await, some_data()["flags"]);
    let mut sdk = second.opens("/all", SDK_KEY).await;
    let mut new_sdk = second.opens("/sdk/stream", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    for name in ["server-intent", "put-object", "put-object", "payload-transferred"] {
        new_sdk.receives_event(name).await;
    }
    cloud.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await;
    new_sdk.receives_event("put-object").await;
    new_sdk.receives_event("payload-transferred").await;
    // The first gateway restarts and has equal data in an equal state, so nothing is sent again.
    let first = first.restarted().await;
    let opened = || async {
        let streams = first.operator_gets("/api/status").await.json()["streams"].clone();
        streams.as_array().expect("a list").iter().any(|it| it["route"] == "server.stream.objects" && it["open"] != 0)
    };
    yardarm_testkit::within("the second gateway to be connected again", async {
        while !opened().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    cloud.deletes(SDK_KEY, "/segments/crew", 3);
    sdk.receives("delete", json!({"path": "/segments/crew", "version": 3})).await;
    new_sdk.receives("delete-object", json!({"version": 3, "kind": "segment", "key": "crew"})).await;
    second.stop().await;
}

#[tokio::test]
async fn filtered_environments_and_the_default_use_fdv1() {
    let filtered = setup().environment(json!({"filters": ["a"]}));
    let gateway = filtered.data(&format!("{SDK_KEY}?filter=a"), data([flag("part", 2)], [])).start().await;
    streaming(&gateway, 1).await;
    let all: Vec<_> = gateway.upstream.stream_requests().into_iter().map(|it| it.path).collect();
    assert_eq!(all, ["/all?filter=a"]);
    let answer = gateway.answers(&Call::get("/sdk/flags?filter=a").key(SDK_KEY)).await;
    assert_eq!(answer.json(), by_key([flag("part", 2)]));
    let default = Setup::with(some_data()).start().await;
    assert!(paths(&default.upstream, POLL).is_empty() && paths(&default.upstream, STREAM).is_empty());
}
