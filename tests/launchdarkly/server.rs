//! L052 to L079: `/all` and `/flags`.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, SseClient};

use crate::flags::{by_key, data, flag, put, segment, some_data};
use crate::running::{ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};
use crate::sdk::Sdk;

const HEAD: &[(&str, &str)] = &[
    ("access-control-allow-origin", "*"),
    ("cache-control", "no-cache, no-store, must-revalidate"),
    ("connection", "keep-alive"),
    ("content-type", "text/event-stream; charset=utf-8"),
    ("date", "*"),
    ("transfer-encoding", "chunked"),
    ("x-accel-buffering", "no"),
    ("x-ld-envid", ENV_ID),
];

/// Returns all headers of a stream, `Date` as `*`.
pub(crate) fn shown(sdk: &Sdk) -> Vec<(String, String)> {
    let shown =
        |(name, value): &(String, String)| (name.clone(), if name == "date" { "*".to_owned() } else { value.clone() });
    sdk.client().head().headers.iter().map(shown).collect()
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Opens both kinds of streams, and reads their first `put`.
async fn both(gateway: &Running, expected: Value) -> (Sdk, Sdk) {
    let mut all = gateway.opens("/all", SDK_KEY).await;
    let mut flags = gateway.opens("/flags", SDK_KEY).await;
    flags.receives("put", expected["flags"].clone()).await; // L056
    all.receives("put", put(expected)).await; // L053
    (all, flags)
}

#[tokio::test]
async fn the_head_is_complete_and_nothing_more() {
    let gateway = Setup::with(some_data()).start().await;
    for path in ["/all", "/flags"] {
        let sdk = gateway.opens(path, SDK_KEY).await;
        assert_eq!(shown(&sdk), owned(HEAD), "L052: {path}");
        assert_eq!(sdk.client().head().version, "HTTP/1.1");
    }
    // L075: `Accept` changes nothing, and neither does `Accept-Encoding`.
    let call = Call::get("/all").key(SDK_KEY).header("Accept", "application/json").header("Accept-Encoding", "gzip");
    let mut sdk = gateway.opens_with(&call).await;
    assert_eq!(shown(&sdk), owned(HEAD), "L075");
    sdk.receives("put", put(some_data())).await;
}

#[tokio::test]
async fn an_empty_data_set_is_a_put_too() {
    let gateway = Setup::with(data([flag("a", 1)], [])).start().await;
    let (mut all, mut flags) = both(&gateway, json!({"flags": by_key([flag("a", 1)]), "segments": {}})).await; // L054
    gateway.upstream.puts(SDK_KEY, &data([], [segment("s", 1)]));
    all.receives("put", put(data([], [segment("s", 1)]))).await;
    flags.receives("put", json!({})).await;
    both(&gateway, data([], [segment("s", 1)])).await; // L055
}

#[tokio::test]
async fn every_change_is_forwarded_in_the_format_of_its_stream() {
    let gateway = Setup::with(data([flag("plain", 3), flag("a.b-c_d", 1)], [segment("crew", 2)])).start().await;
    let (mut all, mut flags) = both(&gateway, data([flag("plain", 3), flag("a.b-c_d", 1)], [segment("crew", 2)])).await;
    let upstream = &gateway.upstream;

    upstream.patches(SDK_KEY, &flag("plain", 4)); // L058
    all.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await;
    flags.receives("patch", json!({"path": "/plain", "data": flag("plain", 4)})).await;

    upstream.patches_segment(SDK_KEY, &segment("crew", 3)); // L059: and nothing on `/flags`
    all.receives("patch", json!({"path": "/segments/crew", "data": segment("crew", 3)})).await;

    upstream.patches(SDK_KEY, &flag("a.b-c_d", 2)); // L064
    all.receives("patch", json!({"path": "/flags/a.b-c_d", "data": flag("a.b-c_d", 2)})).await;
    flags.receives("patch", json!({"path": "/a.b-c_d", "data": flag("a.b-c_d", 2)})).await;

    upstream.deletes(SDK_KEY, "/flags/plain", 5); // L060
    all.receives("delete", json!({"path": "/flags/plain", "version": 5})).await;
    flags.receives("delete", json!({"path": "/plain", "version": 5})).await;

    upstream.deletes(SDK_KEY, "/segments/crew", 4); // L061
    all.receives("delete", json!({"path": "/segments/crew", "version": 4})).await;

    // L057: a new client does not receive deleted items.
    let rest = data([flag("a.b-c_d", 2)], []);
    both(&gateway, rest).await;

    let lower = data([flag("plain", 1)], [segment("crew", 1)]);
    upstream.puts(SDK_KEY, &lower); // L062, L063: everything is replaced, also by lower versions.
    all.receives("put", put(lower.clone())).await;
    flags.receives("put", lower["flags"].clone()).await;
    let polled = gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await;
    assert_eq!(polled.json(), flag("plain", 1), "L063");

    for version in [2, 3, 4] {
        upstream.patches(SDK_KEY, &flag("plain", version));
    }
    for version in [2, 3, 4] {
        all.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", version)})).await; // L065
        flags.receives("patch", json!({"path": "/plain", "data": flag("plain", version)})).await;
    }
}

#[tokio::test]
async fn old_changes_are_announced_and_not_kept() {
    // SDKs check versions themselves. U015, U017, U018.
    let gateway = Setup::with(some_data()).start().await;
    let (mut all, _flags) = both(&gateway, some_data()).await;
    let upstream = &gateway.upstream;
    for version in [2, 3] {
        upstream.patches(SDK_KEY, &flag("plain", version));
        all.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", version)})).await;
    }
    upstream.deletes(SDK_KEY, "/flags/plain", 3);
    all.receives("delete", json!({"path": "/flags/plain", "version": 3})).await;
    let polled = gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await;
    assert_eq!(polled.json(), flag("plain", 3), "U015, U017");

    upstream.deletes(SDK_KEY, "/flags/never-was", 7);
    all.receives("delete", json!({"path": "/flags/never-was", "version": 7})).await;

    upstream.deletes(SDK_KEY, "/flags/plain", 6); // U016
    all.receives("delete", json!({"path": "/flags/plain", "version": 6})).await;
    upstream.patches(SDK_KEY, &flag("plain", 6)); // U018
    all.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 6)})).await;
    assert_eq!(gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.status, 404, "U016, U018");
    upstream.patches(SDK_KEY, &flag("plain", 7));
    all.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 7)})).await;
    assert_eq!(gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.json(), flag("plain", 7));
}

#[tokio::test]
async fn streams_receive_changes_of_their_environment_only() {
    let environments = [json!({"name": "one", "sdk_key": "sdk-1"}), json!({"name": "two", "sdk_key": "sdk-2"})];
    let setup = Setup::new().environments(environments).data("sdk-1", some_data()).data("sdk-2", some_data());
    let gateway = setup.start().await;
    let mut first = gateway.opens("/all", "sdk-1").await;
    let mut second = gateway.opens("/all", "sdk-1").await;
    let mut elsewhere = gateway.opens("/all", "sdk-2").await;
    for sdk in [&mut first, &mut second, &mut elsewhere] {
        sdk.receives("put", put(some_data())).await;
    }
    gateway.upstream.patches("sdk-1", &flag("plain", 4));
    for sdk in [&mut first, &mut second] {
        sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await; // L067
    }
    gateway.upstream.patches("sdk-2", &flag("plain", 9));
    elsewhere.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 9)})).await; // L068
}

#[tokio::test]
async fn the_bytes_are_those_of_the_reference() {
    let gateway =
        Setup::with(json!({"flags": {}, "segments": {}})).set("launchdarkly.heartbeat_interval", "50ms").start().await;
    // L069: the SDK's last position is ignored. The client checks that there is no `id:` and no `retry:`.
    let mut sdk = gateway.opens_with(&Call::get("/all").key(SDK_KEY).header("Last-Event-ID", "5")).await;
    sdk.receives("put", put(json!({"flags": {}, "segments": {}}))).await;
    gateway.upstream.sends_bytes(
        SDK_KEY,
        "event: patch\ndata: {\"path\":\"/flags/a\",\ndata: \"data\":{\"key\":\"a\",\"version\":1}}\n\n",
    );
    sdk.receives_event("patch").await;
    sdk.receives_only_heartbeats(2).await;

    let chunks: Vec<_> = sdk.client().chunks().iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect();
    let events: Vec<_> = chunks.iter().filter(|it| *it != ":\n").map(String::as_str).collect();
    let expected = [
        "event: put\ndata: {\"path\":\"/\",\"data\":{\"flags\":{},\"segments\":{}}}\n\n",
        "event: patch\ndata: {\"path\":\"/flags/a\",\"data\":{\"key\":\"a\",\"version\":1}}\n\n",
    ];
    assert_eq!(events, expected, "L070: one chunk per event");
}

#[tokio::test]
async fn heartbeats_are_sent_periodically() {
    // L071. Intervals are measured from the first heartbeat to the tenth, and only minimum intervals are checked: a
    // busy machine may be late.
    let gateway = Setup::with(some_data()).set("launchdarkly.heartbeat_interval", "100ms").start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    sdk.receives_only_heartbeats(1).await;
    let first = tokio::time::Instant::now();
    sdk.receives_only_heartbeats(9).await;
    let took = first.elapsed();
    assert!(took >= Duration::from_millis(700), "nine beats in {took:?}");
}

#[tokio::test]
async fn a_stream_ends_regularly_after_its_maximum_lifetime_and_its_connection_stays_open() {
    // L073
    let gateway = Setup::with(some_data()).set("launchdarkly.max_client_connection_time", "500ms").start().await;
    let opened = tokio::time::Instant::now();
    let mut all = gateway.opens("/all", SDK_KEY).await;
    let mut mobile = gateway.opens("/mping", MOBILE_KEY).await;
    all.receives("put", put(some_data())).await;
    mobile.receives_ping().await;
    all.receives_end().await;
    assert!(opened.elapsed() >= Duration::from_millis(450), "ended after {:?}", opened.elapsed());
    mobile.receives_end().await;

    let mut connection = all.into_client().into_connection();
    assert_eq!(Call::get("/status").on(&mut connection).await.status, 200);
    let call = Call::get("/all").key(SDK_KEY);
    let mut again = Sdk::new(SseClient::open_on(connection, &call).await, &call);
    again.receives("put", put(some_data())).await;
    again.receives_end().await;
}

#[tokio::test]
async fn an_old_client_gets_no_chunks() {
    // L076
    let gateway = Setup::with(some_data()).start().await;
    let mut sdk = gateway.opens_with(&Call::get("/all").key(SDK_KEY).http_1_0()).await;
    let expected: Vec<_> =
        owned(HEAD).into_iter().filter(|(name, _)| name != "connection" && name != "transfer-encoding").collect();
    assert_eq!(shown(&sdk), expected);
    sdk.receives("put", put(some_data())).await;
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await;
}

#[tokio::test]
async fn losing_upstream_sends_no_event() {
    // L066
    let gateway = Setup::with(some_data()).set("launchdarkly.heartbeat_interval", "20ms").start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    gateway.upstream.goes_down();
    let is_lost = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "INTERRUPTED";
    gateway.status_where("an interruption", is_lost).await;
    sdk.receives_only_heartbeats(10).await;
}

#[tokio::test]
async fn a_disconnected_client_is_removed() {
    let gateway = Setup::with(some_data()).start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    drop(sdk);
    for _ in 0.. {
        let report = gateway.operator_gets("/api/status").await.json();
        let stream = &report["streams"][0];
        assert_eq!(stream["opened"], 1);
        if stream["open"] == 0 && report["fanout"]["streams"] == 0 {
            assert_eq!(stream["ended"][0], json!(["client-gone", 1]));
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
