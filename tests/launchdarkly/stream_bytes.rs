//! Arbitrary bytes on an upstream stream: an invalid message affects only itself, and the next message on the same
//! connection takes effect.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, RawUpstream, RedisServer, Step, until};

use super::auto_config::{self, AUTO_KEY, ID, becomes, poll};
use crate::flags::{data, flag, put, segment, some_data};
use crate::running::{Running, SDK_KEY, Setup};

/// Bytes in between, none of which are a valid message.
const ODD: [&[u8]; 9] = [
    b": a comment \xff\xfe\xc3\n",
    b"\xe2\x82: a field\n\n",
    b"unknown: \xff\n\n",
    b"event: \xff\ndata: \xff\n\n",
    b"id: \xff\n\n",
    b"data\n\n",
    b"event: patch\n\n",
    b"retry: x\rid: \0\r\r\n\r\n",
    b":\r:\r\n:\n\r",
];

async fn started() -> (Running, crate::sdk::Sdk) {
    let gateway = Setup::with(some_data()).start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    (gateway, sdk)
}

fn patch(flag: &Value) -> Value {
    json!({"path": format!("/flags/{}", flag["key"].as_str().expect("a key")), "data": flag})
}

async fn connection(gateway: &Running) -> Value {
    gateway.status().await["environments"]["main"]["connectionStatus"].clone()
}

#[tokio::test]
async fn invalid_bytes_affect_only_themselves() {
    let (gateway, mut sdk) = started().await;
    for (version, odd) in (4..).zip(ODD) {
        gateway.upstream.sends_bytes(SDK_KEY, odd);
        let changed = flag("plain", version);
        gateway.upstream.patches(SDK_KEY, &changed);
        sdk.receives("patch", patch(&changed)).await;
    }
    // Within a string they are replaced.
    gateway.upstream.sends_bytes(
        SDK_KEY,
        b"event: patch\ndata: {\"path\":\"/flags/plain\",\"data\":{\"version\":90,\"salt\":\"\xff\xc3\"}}\n\n",
    );
    let salted = json!({"version": 90, "salt": "\u{fffd}\u{fffd}"});
    sdk.receives("patch", json!({"path": "/flags/plain", "data": salted})).await;
    // Outside of a string they are not JSON; that ends the connection, like any malformed event.
    gateway.upstream.sends_bytes(SDK_KEY, b"event: patch\ndata: \xff{}\n\n");
    gateway.eventually("a reconnect", || gateway.upstream.stream_requests().len() == 2).await;
    assert_eq!(connection(&gateway).await["lastError"]["kind"], "INVALID_DATA");
}

#[tokio::test]
async fn a_byte_order_mark_and_every_line_end_are_accepted() {
    for end in ["\n", "\r", "\r\n"] {
        let upstream = RawUpstream::start().await;
        let event = |name: &str, data: &Value| format!("event:{name}{end}data: {data}{end}{end}");
        let first = format!("\u{feff}:{end}{}", event("put", &put(some_data())));
        let changed = flag("plain", 4);
        upstream.plays([Step::stream(first), Step::chunk(event("patch", &patch(&changed))), Step::Hold]);
        let gateway = Setup::new().set("launchdarkly.stream_uri", upstream.url()).start().await;
        let call = Call::get("/sdk/flags/plain").key(SDK_KEY);
        let is_served = async {
            while gateway.answers(&call).await.json() != changed {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        yardarm_testkit::within(&format!("the patch with {end:?}"), is_served).await;
        assert_eq!(upstream.heads().len(), 1, "{end:?}: no reconnect");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_id_that_is_not_a_valid_header_is_ignored() {
    for id in ["a\u{1}b".to_owned(), "\u{7f}".to_owned(), "x".repeat(100_000)] {
        let upstream = RawUpstream::start().await;
        let event = format!("retry: 10\nid: {id}\nevent: put\ndata: {}\n\n", put(some_data()));
        upstream.plays([Step::stream(event)]);
        upstream
            .plays([Step::stream(format!("event: put\ndata: {}\n\n", put(data([flag("new", 1)], [])))), Step::Hold]);
        let gateway = Setup::new().set("launchdarkly.stream_uri", upstream.url()).start().await;
        becomes(&gateway, "the next connection", &Call::get("/sdk/flags/new").key(SDK_KEY), 200).await;
        assert!(!upstream.heads()[1].to_lowercase().contains("last-event-id"), "{:?}", upstream.heads()[1]);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_id_that_is_refused_is_not_sent_again() {
    let upstream = RawUpstream::start().await;
    upstream.plays([Step::stream(format!("retry: 10\nid: old\nevent: put\ndata: {}\n\n", put(some_data())))]);
    upstream.plays([Step::bytes("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")]);
    upstream.plays([Step::stream(format!("event: put\ndata: {}\n\n", put(data([flag("new", 1)], [])))), Step::Hold]);
    let gateway = Setup::new().set("launchdarkly.stream_uri", upstream.url()).start().await;
    becomes(&gateway, "the third connection", &Call::get("/sdk/flags/new").key(SDK_KEY), 200).await;
    let sent: Vec<_> = upstream.heads().iter().map(|it| it.to_lowercase().contains("last-event-id: old")).collect();
    assert_eq!(sent, [false, true, false]);
}

#[tokio::test]
async fn an_invalid_version_affects_only_its_item() {
    let (gateway, mut sdk) = started().await;
    let plain = Call::get("/sdk/flags/plain").key(SDK_KEY);
    for version in ["1e308", "1e999", "-1", "2.5", "9007199254740992"] {
        let item = format!(r#"{{"key":"plain","version":{version}}}"#);
        gateway
            .upstream
            .sends_bytes(SDK_KEY, format!("event: patch\ndata: {{\"path\":\"/flags/plain\",\"data\":{item}}}\n\n"));
        gateway.upstream.sends_bytes(
            SDK_KEY,
            format!("event: delete\ndata: {{\"path\":\"/flags/plain\",\"version\":{version}}}\n\n"),
        );
        // In a `put` the item's current version stays, and the rest is applied.
        let other = flag("other", 1);
        let all = format!(r#"{{"path":"/","data":{{"flags":{{"plain":{item},"other":{other}}},"segments":{{}}}}}}"#);
        gateway.upstream.sends_bytes(SDK_KEY, format!("event: put\ndata: {all}\n\n"));
        sdk.receives("put", put(data([flag("plain", 3), other], []))).await;
        assert_eq!(gateway.answers(&plain).await.json(), flag("plain", 3), "{version}");
        let connection = connection(&gateway).await;
        assert_eq!(
            (&connection["state"], &connection["lastError"]["kind"]),
            (&json!("VALID"), &json!("INVALID_DATA")),
            "{version}"
        );
    }
    // The flag is not frozen.
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives("patch", patch(&flag("plain", 4))).await;
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "no reconnect");
}

#[tokio::test]
async fn excessive_nesting_affects_only_its_item() {
    let (gateway, mut sdk) = started().await;
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let item = format!(r#"{{"key":"plain","version":9,"x":{deep}}}"#);
    gateway
        .upstream
        .sends_bytes(SDK_KEY, format!("event: patch\ndata: {{\"path\":\"/flags/plain\",\"data\":{item}}}\n\n"));
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    sdk.receives("patch", patch(&flag("plain", 4))).await;
    let all = format!(r#"{{"path":"/","data":{{"flags":{{"plain":{item}}},"segments":{{}}}}}}"#);
    gateway.upstream.sends_bytes(SDK_KEY, format!("event: put\ndata: {all}\n\n"));
    sdk.receives("put", put(data([flag("plain", 4)], []))).await;
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "no reconnect");
}

#[tokio::test]
async fn control_characters_in_strings_are_forwarded_as_escapes() {
    let (gateway, mut sdk) = started().await;
    let item = "{\"key\":\"plain\",\"version\":9,\"salt\":\"a\tb\u{1}c\u{1f}\"}";
    let all = format!(r#"{{"path":"/","data":{{"flags":{{"plain":{item}}},"segments":{{}}}}}}"#);
    gateway.upstream.sends_bytes(SDK_KEY, format!("event: put\ndata: {all}\n\n"));
    let expected = json!({"key": "plain", "version": 9, "salt": "a\tb\u{1}c\u{1f}"});
    sdk.receives("put", put(data([expected.clone()], []))).await;
    assert_eq!(gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.json(), expected);
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "no reconnect");
}

#[tokio::test]
async fn a_key_revoked_after_invalid_bytes_is_rejected() {
    let gateway = auto_config::ready(auto_config::setup()).await;
    let gateway_data = data([flag("plain", 5)], []);
    for (version, odd) in (2..).zip(ODD) {
        let key = format!("sdk-{version}");
        gateway.upstream.puts(&key, &gateway_data);
        gateway.upstream.sends_bytes(AUTO_KEY, odd);
        gateway.upstream.lists_one(AUTO_KEY, &auto_config::path(ID), &auto_config::main(version, &key));
        becomes(&gateway, "the new key", &poll(&key), 200).await;
        let old = if version == 2 { "sdk-a".to_owned() } else { format!("sdk-{}", version - 1) };
        becomes(&gateway, "the revoked key", &poll(&old), 401).await;
    }
    let lists = gateway.upstream.requests().into_iter().filter(|it| it.path.starts_with("/relay_auto_config"));
    assert_eq!(lists.count(), 1, "no reconnect");
}

#[tokio::test]
async fn an_environment_with_an_invalid_version_is_unchanged() {
    let gateway = auto_config::ready(auto_config::setup()).await;
    let mut frozen = auto_config::main(0, "sdk-frozen");
    frozen["version"] = json!(1e308);
    gateway.upstream.sends_event(AUTO_KEY, "put", &json!({"path": "/", "data": {"environments": {ID: frozen}}}));
    gateway.upstream.puts("sdk-b", &data([flag("plain", 5)], []));
    gateway.upstream.sends_event(
        AUTO_KEY,
        "patch",
        &json!({"path": auto_config::path(ID), "data": auto_config::main(2, "sdk-b")}),
    );
    becomes(&gateway, "the next version", &poll("sdk-b"), 200).await;
    becomes(&gateway, "a key of the refused version", &poll("sdk-frozen"), 401).await;
}

#[tokio::test]
async fn members_of_big_segments_arrive_after_invalid_bytes() {
    let Some(redis) = RedisServer::start() else { return };
    let mut big = segment("big", 1);
    big["unbounded"] = json!(true);
    big["generation"] = json!(2);
    let setup = Setup::with(data([flag("plain", 1)], [big])).set("launchdarkly.redis.url", redis.url());
    let gateway = setup.set("launchdarkly.big_segments_retry_interval", "50ms").start().await;
    until("a stream", || gateway.upstream.open_revision_streams(SDK_KEY) == 1).await;
    until("the first poll behind it", || gateway.upstream.revision_requests().len() >= 3).await;
    for (number, odd) in (1..).zip([ODD[0], ODD[1], ODD[2], ODD[4], ODD[7], ODD[8]]) {
        gateway.upstream.sends_to_revision_streams(SDK_KEY, odd);
        let version = |number: u32| if number == 0 { String::new() } else { format!("1:{number}") };
        let changes = json!({"included": {"add": [format!("member{number}")], "remove": []}});
        let patch = json!({
            "environmentId": "e", "segmentId": "big.g2", "version": version(number),
            "previousVersion": version(number - 1), "changes": changes,
        });
        gateway.upstream.revises(SDK_KEY, &patch);
        until(&format!("revision {number}"), || {
            redis.get("launchdarkly:big_segments_cursor").as_deref() == Some(&version(number))
        })
        .await;
    }
    let streams = gateway.upstream.revision_requests().into_iter().filter(|it| it == "/big-segments");
    assert_eq!(streams.count(), 1, "no reconnect");
}

#[tokio::test]
async fn an_unlimited_event_ends_the_connection() {
    let upstream = RawUpstream::start().await;
    let piece = Step::chunk("x".repeat(1 << 20));
    let endless = std::iter::repeat_n(piece, 130);
    upstream.plays([Step::stream("retry: 10\n\ndata: ")].into_iter().chain(endless).chain([Step::Hold]));
    upstream.plays([Step::stream(format!("event: put\ndata: {}\n\n", put(some_data()))), Step::Hold]);
    let setup = Setup::new().set("launchdarkly.stream_uri", upstream.url()).without_waiting();
    let gateway = setup.start().await;
    becomes(&gateway, "the next connection", &Call::get("/sdk/flags/plain").key(SDK_KEY), 200).await;
    let connection = connection(&gateway).await;
    assert_eq!(
        (&connection["state"], &connection["lastError"]["kind"]),
        (&json!("VALID"), &json!("INVALID_DATA")),
        "{connection}"
    );
    let report = gateway.operator_gets("/api/environments").await;
    let report = String::from_utf8_lossy(&report.body).into_owned();
    assert!(report.contains("event larger than 128 MiB"), "{report}");
}

#[tokio::test]
async fn upstream_of_big_segments_cannot_cause_a_hot_loop() {
    let Some(redis) = RedisServer::start() else { return };
    let mut big = segment("big", 1);
    big["unbounded"] = json!(true);
    big["generation"] = json!(2);
    let setup = Setup::with(data([flag("plain", 1)], [big])).set("launchdarkly.redis.url", redis.url());
    let gateway = setup.set("launchdarkly.big_segments_retry_interval", "1s").start().await;
    until("a stream", || gateway.upstream.open_revision_streams(SDK_KEY) == 1).await;
    until("the first poll behind it", || gateway.upstream.revision_requests().len() >= 3).await;
    gateway.upstream.sends_to_revision_streams(SDK_KEY, "retry: 0\n\n");
    let before = gateway.upstream.revision_requests().len();
    gateway.upstream.fails_revisions(SDK_KEY, true);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    // After 0.5 to 1 s, then after another 1 to 2 s.
    let tries = gateway.upstream.revision_requests().len() - before;
    assert!((1..=3).contains(&tries), "{tries}");
}

#[tokio::test]
async fn a_missing_list_removes_no_environment() {
    let gateway = auto_config::ready(auto_config::setup()).await;
    for (count, list) in (2..).zip([json!({"environments": null}), json!({}), json!(null)]) {
        gateway.upstream.sends_event(AUTO_KEY, "put", &json!({"path": "/", "data": list}));
        // The connection is opened again, as after any malformed event.
        let requests =
            || gateway.upstream.requests().into_iter().filter(|it| it.path.starts_with("/relay_auto_config"));
        until("a reconnect", || requests().count() == count).await;
        assert_eq!(gateway.answers(&poll("sdk-a")).await.status, 200, "{list}");
    }
}

/// Checks that one `put` of about `size` bytes in pieces of `piece` bytes is served within a time that a quadratic
/// parser exceeds several times over, even on a busy machine.
async fn large(size: usize, piece: usize) {
    let upstream = RawUpstream::start().await;
    let filler = "x".repeat(100 << 10);
    let mut flags = String::new();
    for number in 0..size / filler.len() {
        let _ = write!(flags, r#""f{number}":{{"key":"f{number}","version":1,"salt":"{filler}"}},"#);
    }
    let last = flag("last", 7);
    let event =
        format!("event: put\ndata: {{\"data\":{{\"flags\":{{{flags}\"last\":{last}}},\"segments\":{{}}}}}}\n\n");
    let pieces = event.as_bytes().chunks(piece).map(Step::chunk);
    upstream.plays(std::iter::once(Step::stream(":\n")).chain(pieces).chain([Step::Hold]));
    let setup = Setup::new().set("launchdarkly.stream_uri", upstream.url()).without_waiting();
    let started = tokio::time::Instant::now();
    let gateway = setup.start().await;
    let call = Call::get("/sdk/flags/last").key(SDK_KEY);
    let is_served = async {
        while gateway.answers(&call).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_served).await.expect("served in time");
    println!("{size} bytes in pieces of {piece}: {:?}", started.elapsed());
    assert_eq!(upstream.heads().len(), 1, "no reconnect");
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_event_in_small_pieces_takes_linear_time() {
    large(8 << 20, 1460).await;
    large(16 << 20, 16 << 10).await;
}
