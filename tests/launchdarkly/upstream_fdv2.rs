//! U047 to U053: FDv2 upstream, from the requests to what SDKs receive.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly, TransferAnswer};

use crate::flags::{by_key, data, flag, put, segment, some_data};
use crate::running::{Running, SDK_KEY, Setup};

/// An event that is ignored and makes reconnects quick.
const HURRY: &str = "event: heart-beat\nretry: 10\ndata: not JSON\n\n";

pub(super) const POLL: &str = "/sdk/poll";
pub(super) const STREAM: &str = "/sdk/stream";

pub(super) fn setup() -> Setup {
    Setup::with(some_data())
        .set("launchdarkly.upstream_protocol", "fdv2")
        .set("launchdarkly.max_reconnect_delay", "50ms")
}

/// Returns the paths of all requests to a path, with their queries.
pub(super) fn paths(cloud: &FakeLaunchDarkly, path: &str) -> Vec<String> {
    cloud.requests_to(path).into_iter().map(|it| it.path).collect()
}

pub(super) async fn flags(gateway: &Running) -> Value {
    gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.json()
}

/// Waits until an FDv2 stream is open.
pub(super) async fn streaming(gateway: &Running, count: usize) {
    let cloud = &gateway.upstream;
    let is_open = || paths(cloud, STREAM).len() >= count && cloud.open_transfer_streams(SDK_KEY) > 0;
    gateway.eventually("an open stream", is_open).await;
}

/// Returns events of a stream.
fn events(all: &[(&str, Value)]) -> String {
    all.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect()
}

fn intent(code: &str) -> (&'static str, Value) {
    ("server-intent", json!({"payloads": [{"id": "p", "target": 9, "intentCode": code, "reason": "r"}]}))
}

fn object(flag: &Value) -> (&'static str, Value) {
    ("put-object", json!({"version": 9, "kind": "flag", "key": flag["key"], "object": flag}))
}

fn end(state: &str) -> (&'static str, Value) {
    ("payload-transferred", json!({"state": state, "version": 9}))
}

#[tokio::test]
async fn the_requests_are_complete() {
    // U047, U050
    let gateway = setup().start().await;
    streaming(&gateway, 1).await;
    assert_eq!(paths(&gateway.upstream, POLL), [POLL], "U047: no basis");
    assert_eq!(paths(&gateway.upstream, STREAM), ["/sdk/stream?basis=%28p%3Afake%3A1%29"], "U050: after the poll");
    let instance = |path| gateway.upstream.requests_to(path)[0].header("x-launchdarkly-instance-id").map(str::to_owned);
    assert!(uuid::Uuid::parse_str(&instance(POLL).expect("an ID")).is_ok());
    assert_eq!(instance(POLL), instance(STREAM));
    for (path, accept) in [(POLL, "*/*"), (STREAM, "text/event-stream")] {
        let request = &gateway.upstream.requests_to(path)[0];
        let product = concat!("Yardarm/", env!("CARGO_PKG_VERSION"));
        for (name, value) in [("authorization", SDK_KEY), ("user-agent", product), ("accept", accept)] {
            assert_eq!(request.header(name), Some(value), "{path}: {name}");
        }
    }
    assert!(gateway.upstream.stream_requests().is_empty(), "no FDv1");

    // U047: without a first poll the stream has no basis either.
    let no_poll = |cloud: &FakeLaunchDarkly| cloud.answers_transfers_with(POLL, [TransferAnswer::status(503)]);
    let gateway = setup().prepare(no_poll).start().await;
    streaming(&gateway, 1).await;
    assert_eq!(paths(&gateway.upstream, STREAM), [STREAM], "U047");
    assert_eq!(flags(&gateway).await, some_data()["flags"]);
}

#[tokio::test]
async fn a_transfer_becomes_visible_at_its_end() {
    // U048
    let beginning = events(&[intent("xfer-full"), object(&flag("a", 1)), object(&flag("b", 1))]);
    let prepare = |cloud: &FakeLaunchDarkly| {
        cloud.answers_transfers_with(POLL, [TransferAnswer::status(503)]);
        cloud.answers_transfers_with(STREAM, [TransferAnswer::body(beginning)]);
    };
    let gateway = setup().set("launchdarkly.init_timeout", "50ms").prepare(prepare).without_waiting().start().await;
    let mut sdk = gateway.opens_when_ready("/all", SDK_KEY).await;
    streaming(&gateway, 1).await;
    let poll = Call::get("/sdk/flags").key(SDK_KEY);
    assert_eq!(gateway.answers(&poll).await.status, 503, "U048: half of it is not visible");
    gateway.upstream.sends_transfer_bytes(SDK_KEY, events(&[end("one")]));
    sdk.receives("put", put(data([flag("a", 1), flag("b", 1)], []))).await;

    // Another complete transfer: old objects are gone.
    gateway.upstream.sends_transfer_bytes(SDK_KEY, events(&[intent("xfer-full"), object(&flag("c", 1))]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(flags(&gateway).await, by_key([flag("a", 1), flag("b", 1)]), "U048");
    gateway.upstream.sends_transfer_bytes(SDK_KEY, events(&[end("two")]));
    sdk.receives("put", put(data([flag("c", 1)], []))).await;
    assert_eq!(flags(&gateway).await, by_key([flag("c", 1)]), "U048");
    gateway.upstream.sends_transfer_bytes(SDK_KEY, HURRY);
    gateway.upstream.closes_streams(SDK_KEY);
    streaming(&gateway, 2).await;
    assert_eq!(paths(&gateway.upstream, STREAM)[1], "/sdk/stream?basis=two", "U050");
}

#[tokio::test]
async fn changes_are_merged_and_visible_together() {
    // U049
    let gateway = setup().start().await;
    streaming(&gateway, 1).await;
    let mut old = gateway.opens("/all", SDK_KEY).await;
    let mut new = gateway.opens("/sdk/stream", SDK_KEY).await;
    let mut flags_only = gateway.opens("/flags", SDK_KEY).await;
    old.receives("put", put(some_data())).await;
    flags_only.receives_event("put").await;
    for name in ["server-intent", "put-object", "put-object", "payload-transferred"] {
        new.receives_event(name).await;
    }
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    old.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await;
    flags_only.receives("patch", json!({"path": "/plain", "data": flag("plain", 4)})).await;
    new.receives_event("put-object").await;
    new.receives_event("payload-transferred").await;

    // Several objects are one change, for SDKs of both versions of the protocol.
    let group = [flag("plain", 5), flag("second", 1)];
    gateway.upstream.patches_together(SDK_KEY, &group);
    old.receives("patch", json!({"path": "/flags/plain", "data": group[0]})).await;
    assert_eq!(flags(&gateway).await, by_key(group.clone()), "U049: with the first event, all is visible");
    old.receives("patch", json!({"path": "/flags/second", "data": group[1]})).await;
    flags_only.receives_event("patch").await;
    flags_only.receives("patch", json!({"path": "/second", "data": group[1]})).await;
    for name in ["put-object", "put-object", "payload-transferred"] {
        new.receives_event(name).await;
    }
    gateway.upstream.patches_segment(SDK_KEY, &segment("crew", 3));
    old.receives("patch", json!({"path": "/segments/crew", "data": segment("crew", 3)})).await;
    new.receives_event("put-object").await;
    new.receives_event("payload-transferred").await;

    // Versions of the events are of another count than those of objects. SDKs compare the latter.
    gateway.upstream.patches(SDK_KEY, &flag("second", 90));
    old.receives_event("patch").await;
    gateway.upstream.deletes(SDK_KEY, "/flags/second", 0);
    old.receives("delete", json!({"path": "/flags/second", "version": 91})).await;
    // An object that begins anew has a lower version, which a `patch` would not carry.
    gateway.upstream.patches(SDK_KEY, &flag("second", 1));
    old.receives("put", put(data([flag("plain", 5), flag("second", 1)], [segment("crew", 3)]))).await;
    assert_eq!(paths(&gateway.upstream, STREAM).len(), 1);
}

#[tokio::test]
async fn a_reconnection_continues_from_the_last_state() {
    // U050, U053
    let gateway = setup().set("launchdarkly.rejected_retry_interval", "20ms").start().await;
    streaming(&gateway, 1).await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives_event("put").await;
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives_event("patch").await;
    gateway.upstream.sends_transfer_bytes(SDK_KEY, HURRY);
    // Nothing was missed: the intent is `none`.
    gateway.upstream.closes_streams(SDK_KEY);
    streaming(&gateway, 2).await;
    assert_eq!(paths(&gateway.upstream, STREAM)[1], "/sdk/stream?basis=%28p%3Afake%3A2%29", "U050");
    let is_valid = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
    gateway.status_where("U053: a valid connection", is_valid).await;
    assert_eq!(flags(&gateway).await, by_key([flag("plain", 4)]), "U053");
    // What was missed comes as changes, which are visible together, segments first.
    gateway.upstream.refuses_transfer_streams(Some(401));
    gateway.upstream.patches(SDK_KEY, &flag("plain", 5));
    gateway.upstream.deletes(SDK_KEY, "/segments/crew", 0);
    gateway.upstream.refuses_transfer_streams(None);
    sdk.receives("delete", json!({"path": "/segments/crew", "version": 4})).await;
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 5)})).await;
    assert_eq!(paths(&gateway.upstream, POLL).len(), 1, "a key that is rejected is no reason to poll");
}

#[tokio::test]
async fn the_service_discards_and_closes() {
    // U051, U052
    let gateway = setup().start().await;
    streaming(&gateway, 1).await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives_event("put").await;
    let discarded =
        [object(&flag("plain", 8)), object(&flag("more", 1)), ("error", json!({"id": "p", "reason": "no"}))];
    gateway.upstream.sends_transfer_bytes(SDK_KEY, events(&discarded));
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await;
    assert_eq!(flags(&gateway).await, by_key([flag("plain", 4)]), "U051");
    assert_eq!(paths(&gateway.upstream, STREAM).len(), 1, "U051: the connection is kept");

    gateway.upstream.sends_transfer_bytes(SDK_KEY, HURRY);
    for (count, bytes) in [
        (2, "event: goodbye\ndata: {\"reason\":\"deploy\"}\n\n"),
        (3, "event: goodbye\ndata: not JSON\n\n"),
        // U052 with a half transfer before it.
        (4, "event: put-object\ndata: {\"kind\":\"flag\",\"key\":\"x\",\"object\":{}}\n\nevent: goodbye\ndata: {}\n\n"),
    ] {
        gateway.upstream.sends_transfer_bytes(SDK_KEY, bytes);
        streaming(&gateway, count).await;
        assert_eq!(paths(&gateway.upstream, STREAM)[count - 1], "/sdk/stream?basis=%28p%3Afake%3A2%29", "U052");
        gateway.upstream.sends_transfer_bytes(SDK_KEY, HURRY);
    }
    assert_eq!(flags(&gateway).await, by_key([flag("plain", 4)]), "U052");
}

#[tokio::test]
async fn malformed_events_end_the_connection_and_lose_no_data() {
    let gateway = setup().start().await;
    streaming(&gateway, 1).await;
    for (count, bytes) in (2..).zip([
        "event: put-object\ndata: {sorry\n\n",
        "event: put-object\ndata: {\"kind\":\"flag\",\"key\":\"plain\",\"object\":true}\n\n",
        "event: server-intent\ndata: {\"payloads\":[]}\n\n",
        "event: server-intent\ndata: {\"payloads\":[{\"intentCode\":\"xfer-some\"}]}\n\n",
        "event: payload-transferred\ndata: {}\n\n",
    ]) {
        gateway.upstream.sends_transfer_bytes(SDK_KEY, HURRY);
        gateway.upstream.sends_transfer_bytes(SDK_KEY, bytes);
        streaming(&gateway, count).await;
        let kind = gateway.status().await["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
        assert_eq!(kind, "INVALID_DATA", "{bytes}");
        assert_eq!(flags(&gateway).await, some_data()["flags"], "{bytes}");
    }
}
