//! Streams: their events, their bytes, their recipients, and their end.

use serde_json::{Value, json};
use yardarm_testkit::{Call, Connection, SseClient, StreamItem};

use crate::sdk::Sdk;

use super::downstream::{answer, error, get};
use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, listens, segment, started, token};

#[tokio::test]
async fn streams_carry_changes_of_their_environment_only() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "heartbeat_interval = \"200ms\"").await;
    let token_of_mine = token(&gateway, KEY).await;
    let stream = get("/stream").key(&token_of_mine);
    gateway.answers_as("F076", stream.clone(), error(400, "bad request: API-Key can't be empty")).await;
    let unknown = gateway.answers(&stream.clone().header("API-Key", "nobody-at-all")).await;
    assert_eq!(unknown.status, 404, "F076");
    assert!(!String::from_utf8_lossy(&unknown.body).contains("nobody-at-all"), "F085");

    let call = stream.header("API-Key", KEY);
    drop(listens(&gateway, KEY).await);
    let mut raw = SseClient::open(gateway.address, &call).await.with_framed_comments();
    assert_eq!(raw.head().header("content-type"), Some("text/event-stream"), "F077");
    assert_eq!(raw.next().await, StreamItem::Comment(String::new()), "F077: at once");
    assert_eq!(raw.next().await, StreamItem::Comment(String::new()), "F077: and again");

    let (mut mine, mut other) = (listens(&gateway, KEY).await, listens(&gateway, OTHER_KEY).await);
    cloud.changes_flag(ENV, &flag("a", 3));
    let event = |domain: &str, event: &str, identifier: &str, version: i64| json!({"event": event, "domain": domain, "identifier": identifier, "version": version});
    mine.receives("*", event("flag", "patch", "a", 3)).await;
    let call = get(&format!("/client/env/{ENV}/feature-configs/a")).key(&token_of_mine);
    gateway.answers_as("F080 F022", call, answer(200, flag("a", 3))).await;
    cloud.changes_flag(ENV, &flag("grün", 1));
    mine.receives("*", event("flag", "create", "grün", 1)).await;
    cloud.deletes_flag(ENV, "b");
    mine.receives("*", event("flag", "delete", "b", 2)).await;
    cloud.changes_segment(ENV, &segment("s", 2));
    mine.receives("*", event("target-segment", "patch", "s", 2)).await;
    cloud.changes_flag(OTHER_ENV, &flag("other", 2));
    other.receives("*", event("flag", "patch", "other", 2)).await;

    // F082: where no changes are received, SDKs must poll.
    cloud.streams_go_down();
    assert_eq!(mine.next().await, StreamItem::End, "F082");
    gateway.answers_as("F082", stream_of(&token_of_mine), error(503, "SaaS stream disconnected")).await;
    eventually(&gateway, &get("/health"), "F088", |_, it| {
        let states = it["environments"].as_array().into_iter().flatten();
        states.filter(|it| it["streamStatus"]["state"] == "DISCONNECTED").count() == 2
    })
    .await;
    cloud.streams_come_back();
    eventually(&gateway, &get("/health"), "F088", |_, it| {
        it["environments"][0]["streamStatus"]["state"] == "CONNECTED"
    })
    .await;
}

fn stream_of(token: &str) -> Call {
    get("/stream").key(token).header("API-Key", KEY)
}

#[tokio::test]
async fn without_upstream_streams_no_streams_are_served() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "stream_enabled = false").await;
    let token = token(&gateway, KEY).await;
    let expected = error(501, "endpoint not implemented: streaming endpoint disabled");
    gateway.answers_as("F083", stream_of(&token), expected).await;
    assert!(cloud.gets("/stream").is_empty(), "F034");
}

#[tokio::test]
async fn every_stream_receives_every_change_of_its_environment() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mut other = listens(&gateway, OTHER_KEY).await;
    let mut streams = vec![listens(&gateway, KEY).await];
    let call = stream_of(&token(&gateway, KEY).await);
    for _ in 1..1000 {
        let client = SseClient::open(gateway.address, &call).await.with_framed_comments();
        streams.push(Sdk::new(client, &call));
    }
    for version in 3..13 {
        cloud.changes_flag(ENV, &flag("a", version));
    }
    cloud.changes_flag(OTHER_ENV, &flag("other", 2));
    for stream in &mut streams {
        for version in 3..13 {
            let event = stream.receives_event("*").await;
            assert_eq!((&event["identifier"], &event["version"]), (&json!("a"), &json!(version)), "F084");
        }
    }
    assert_eq!(other.receives_event("*").await["identifier"], "other", "F081");
}

#[tokio::test]
async fn every_event_is_a_chunk_of_its_own() {
    // F079: the Node and JavaScript SDKs parse each chunk separately, and discard a chunk that begins with a heartbeat.
    let cloud = cloud().await;
    let gateway = started(&cloud, "heartbeat_interval = \"10ms\"").await;
    drop(listens(&gateway, KEY).await);
    let token = token(&gateway, KEY).await;
    let mut connection = Connection::open(gateway.address).await;
    let request =
        format!("GET /stream?cluster=1 HTTP/1.1\r\nHost: relay\r\nAuthorization: {token}\r\nAPI-Key: {KEY}\r\n\r\n");
    connection.sends(request).await;
    assert_eq!(connection.head().await.expect("a head").status, 200);
    let last = 40;
    let changes = async {
        for version in 3..=last {
            cloud.changes_flag(ENV, &flag("a", version));
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let reads = async {
        let (mut events, mut beats) = (0, 0);
        loop {
            let chunk = connection.chunk().await.expect("an open stream");
            let text = std::str::from_utf8(&chunk).expect("text");
            if text == ":\n\n" {
                beats += 1;
                continue;
            }
            let data = text.strip_prefix("event: *\ndata: ").and_then(|it| it.strip_suffix("\n\n"));
            let data: Value = serde_json::from_str(data.unwrap_or_else(|| panic!("F079: {text:?}"))).expect("JSON");
            events += 1;
            if data["version"] == last {
                return (events, beats);
            }
        }
    };
    let ((), (events, beats)) = tokio::join!(changes, reads);
    assert!(events > 0 && beats > 1, "F077 F079: {events} events, {beats} heartbeats");
}
