//! U001 to U025: requests to upstream, and the handling of its responses.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly, RawUpstream, Step, StreamAnswer};

use crate::flags::{data, flag, put, some_data};
use crate::running::{Running, SDK_KEY, Setup};
use crate::sdk::Sdk;

/// An unknown event, which also makes reconnects quick.
const HURRY: &str = "event: whatever\nretry: 10\ndata: not JSON\n\n";

fn put_event(data: &Value) -> String {
    format!("event: put\ndata: {}\n\n", json!({"path": "/", "data": data}))
}

#[tokio::test]
async fn the_request_is_complete_and_nothing_more() {
    let gateway = Setup::with(some_data()).start().await;
    let requests = gateway.upstream.requests();
    assert_eq!(requests.len(), 1, "U001: {requests:?}");
    assert_eq!(requests[0].path, "/all", "U001: no query");
    let mut headers: Vec<_> =
        requests[0].headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    headers.sort_unstable();
    let instance = requests[0].header("x-launchdarkly-instance-id").unwrap();
    assert!(uuid::Uuid::parse_str(instance).is_ok(), "U001: {instance}");
    let host = gateway.upstream.url().replace("http://", "");
    let expected = [
        ("accept", "text/event-stream"),
        ("authorization", SDK_KEY),
        ("cache-control", "no-cache"),
        ("host", &host),
        ("user-agent", concat!("Yardarm/", env!("CARGO_PKG_VERSION"))),
        ("x-launchdarkly-instance-id", instance),
    ];
    assert_eq!(headers, expected, "U001");
}

#[tokio::test]
async fn a_base_with_a_prefix_or_a_slash_is_joined_well() {
    // U002
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &some_data());
    for (base, path) in [("/", "/all"), ("/prefix", "/prefix/all"), ("/a/b/", "/a/b/all")] {
        let uri = format!("{}{base}", cloud.url());
        let gateway = Setup::new().set("launchdarkly.stream_uri", uri).start().await;
        assert_eq!(cloud.stream_requests().last().unwrap().path, path, "U002");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn redirects_are_followed_with_the_key() {
    // U004
    let moved = |cloud: &FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Redirect("/moved/all")]);
    let gateway = Setup::with(some_data()).prepare(moved).start().await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
    let requests = gateway.upstream.stream_requests();
    let paths: Vec<_> = requests.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["/all", "/moved/all"]);
    assert_eq!(requests[1].header("authorization"), Some(SDK_KEY));
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    // U005
    for line in ["Content-Type: text/event-stream; charset=utf-8\r\n", "Content-Type: text/plain\r\n", ""] {
        let upstream = RawUpstream::start().await;
        upstream.plays([Step::stream_of_type(line, put_event(&some_data())), Step::Hold]);
        let gateway = Setup::new().set("launchdarkly.stream_uri", upstream.url()).start().await;
        gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
        assert_eq!(upstream.heads().len(), 1, "{line}");
        gateway.stop().await;
    }
}

/// Starts a gateway with quick reconnects, and an SDK that has received its first `put`.
async fn hurried() -> (Running, Sdk) {
    let gateway = Setup::with(some_data()).set("launchdarkly.max_reconnect_delay", "50ms").start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    gateway.upstream.sends_bytes(SDK_KEY, HURRY);
    (gateway, sdk)
}

#[tokio::test]
async fn unknown_events_are_ignored() {
    // U008, U020, U021
    let (gateway, mut sdk) = hurried().await;
    for bytes in [
        ": only a comment\n",
        ":\n\n",
        "event: whatever\ndata: not JSON\n\n",
        "event: patch\ndata: {\"path\":\"/cats/Jack\",\"data\":true}\n\n",
        "event: patch\ndata: {\"path\":\"/cats/Jack\"}\n\n",
        "event: delete\ndata: {\"path\":\"/cats/Jack\",\"version\":\"no\"}\n\n",
        "unknown: field\n\n",
        "data: an event without a name\n\n",
        "event: message\ndata: {}\n\n",
    ] {
        gateway.upstream.sends_bytes(SDK_KEY, bytes);
    }
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 4)})).await;
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "no reconnect");
    let status = gateway.status().await;
    let connection = &status["environments"]["main"]["connectionStatus"];
    assert_eq!((&connection["state"], &connection["lastError"]), (&json!("VALID"), &Value::Null), "U008");
}

#[tokio::test]
async fn malformed_events_end_the_connection_and_lose_no_data() {
    let (gateway, mut sdk) = hurried().await;
    for (count, (row, bytes)) in (2..).zip([
        ("U022", "event: put\ndata: {sorry\n\n"),
        ("U023", "event: put\ndata: {\"data\":{\"flags\":true,\"segments\":{}}}\n\n"),
        ("U024", "event: patch\ndata: {\"path\":\"/flags/plain\",\"data\":true}\n\n"),
        ("U025", "event: delete\ndata: {\"path\":\"/flags/plain\"}\n\n"),
        ("U025", "event: delete\ndata: {\"path\":\"/flags/plain\",\"version\":\"no\"}\n\n"),
        ("U022: no data", "event: put\ndata: {\"path\":\"/\"}\n\n"),
        ("U024: no data", "event: patch\ndata: {\"path\":\"/flags/plain\"}\n\n"),
        ("U024: no path", "event: patch\ndata: {\"data\":{\"key\":\"plain\",\"version\":9}}\n\n"),
        (
            "U022 to U025",
            "event: patch\ndata: {\"path\":\"/flags/plain\",\"data\":{\"key\":\"plain\",\"version\":\"9\"}}\n\n",
        ),
        ("U023: rules", "event: put\ndata: {\"data\":{\"flags\":{\"plain\":{\"rules\":{}}}}}\n\n"),
        ("null", "event: put\ndata: {\"data\":{\"flags\":null,\"segments\":{}}}\n\n"),
        ("null", "event: put\ndata: {\"data\":null}\n\n"),
        ("nothing at all", "event: put\ndata: {\"data\":{}}\n\n"),
    ]) {
        gateway.upstream.sends_bytes(SDK_KEY, bytes);
        gateway
            .eventually(&format!("{row}: a reconnect after {bytes}"), || {
                gateway.upstream.stream_requests().len() == count
            })
            .await;
        // Nothing of it was forwarded: the next event for SDKs contains the data of the new connection.
        sdk.receives("put", put(some_data())).await;
        let kind = gateway.status().await["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
        assert_eq!(kind, "INVALID_DATA", "{row}");
        assert_eq!(
            gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.json(),
            flag("plain", 3),
            "{row}"
        );
        gateway.upstream.sends_bytes(SDK_KEY, HURRY);
    }
}

#[tokio::test]
async fn the_last_event_id_is_sent_back() {
    // U010
    let (gateway, mut sdk) = hurried().await;
    gateway.upstream.sends_bytes(SDK_KEY, "id: 5\nevent: whatever\ndata: x\n\n");
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives_event("patch").await;
    gateway.upstream.closes_streams(SDK_KEY);
    gateway.eventually("a reconnect", || gateway.upstream.stream_requests().len() == 2).await;
    let requests = gateway.upstream.stream_requests();
    assert_eq!(requests[0].header("last-event-id"), None);
    assert_eq!(requests[1].header("last-event-id"), Some("5"), "U010");
    let instance = |index: usize| requests[index].header("x-launchdarkly-instance-id");
    assert_eq!(instance(0), instance(1), "U001: one instance");
}

#[tokio::test]
async fn a_silent_connection_is_dead_and_comments_keep_it_alive() {
    // U011, then U008.
    let gateway = Setup::with(data([flag("plain", 1)], [])).set("launchdarkly.read_timeout", "1s").start().await;
    gateway.eventually("U011: a reconnect", || gateway.upstream.stream_requests().len() == 2).await;
    let kind = gateway.status().await["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
    assert_eq!(kind, "NETWORK_ERROR", "U011");
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_millis(2500) {
        gateway.upstream.sends_bytes(SDK_KEY, ":\n");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.upstream.stream_requests().len(), 2, "U008: comments keep it alive");
    // Bytes that are neither a comment nor an event do not keep the connection alive, however many they are.
    let garbage = async {
        while gateway.upstream.stream_requests().len() == 2 {
            gateway.upstream.sends_bytes(SDK_KEY, "garbage: of any kind\n\nmore\n");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    yardarm_testkit::within("a reconnect", garbage).await;
    let last = gateway.status().await["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
    assert_eq!(last, "NETWORK_ERROR");
    // An event that arrives slowly does.
    let event = format!("event: patch\ndata: {}\n\n", json!({"path": "/flags/plain", "data": flag("plain", 9)}));
    let requests = gateway.upstream.stream_requests().len();
    for piece in event.as_bytes().chunks(event.len() / 6) {
        gateway.upstream.sends_bytes(SDK_KEY, piece);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.json(), flag("plain", 9));
    assert_eq!(gateway.upstream.stream_requests().len(), requests, "no reconnect");
}
