//! L078, L079, U007, U012 to U014, U019, U026: items are forwarded as upstream wrote them.

use serde_json::{Value, json};
use yardarm_testkit::Call;

use crate::flags::{by_key, data, flag, put, some_data};
use crate::running::{SDK_KEY, Setup};

#[tokio::test]
async fn unknown_properties_are_preserved() {
    // L078, U026; numbers keep their text, and strings their escapes.
    let mut strange = flag("strange", 1);
    strange["futureProperty"] = json!({"deep": [1.0, "\u{2028}", null]});
    let gateway = Setup::with(data([strange.clone()], [])).start().await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(data([strange.clone()], []))).await;
    gateway.opens("/flags", SDK_KEY).await.receives("put", by_key([strange.clone()])).await;
    let polled = gateway.answers(&Call::get("/sdk/flags/strange").key(SDK_KEY)).await;
    assert_eq!(polled.json(), strange);
    assert!(polled.text().contains("[1.0,"), "numbers keep their text: {}", polled.text());
}

#[tokio::test]
async fn a_minimal_flag_equals_the_reference_once_defaults_are_filled_in() {
    // L079
    let upstream = json!({"key": "plain", "on": true, "version": 4, "variations": [true, false], "fallthrough": {"variation": 1}, "name": "n"});
    let reference = json!({"key": "plain", "on": true, "prerequisites": [], "targets": [], "contextTargets": [], "rules": [], "fallthrough": {"variation": 1}, "offVariation": null, "variations": [true, false], "clientSide": false, "salt": "", "trackEvents": false, "trackEventsFallthrough": false, "debugEventsUntilDate": null, "version": 4, "deleted": false});
    let gateway = Setup::with(data([upstream], [])).start().await;
    let served = gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.json();
    let defaults = json!({"on": false, "prerequisites": [], "targets": [], "contextTargets": [], "rules": [], "fallthrough": {}, "offVariation": null, "variations": [], "clientSide": false, "salt": "", "trackEvents": false, "trackEventsFallthrough": false, "debugEventsUntilDate": null, "version": 0, "deleted": false});
    for (name, expected) in reference.as_object().unwrap() {
        let value = served.get(name).or_else(|| defaults.get(name)).unwrap_or(&Value::Null);
        assert_eq!(value, expected, "{name}");
    }
}

#[tokio::test]
async fn a_deleted_item_in_a_put_is_left_out() {
    // U019, decision R2.
    let mut deleted = flag("gone", 8);
    deleted["deleted"] = json!(true);
    let gateway = Setup::with(some_data()).start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    gateway.upstream.puts(SDK_KEY, &data([flag("plain", 4), deleted], []));
    sdk.receives("put", put(data([flag("plain", 4)], []))).await;
    gateway.opens("/flags", SDK_KEY).await.receives("put", by_key([flag("plain", 4)])).await;
    assert_eq!(gateway.answers(&Call::get("/sdk/flags/gone").key(SDK_KEY)).await.status, 404);
}

#[tokio::test]
async fn every_formatting_of_upstream_events_is_parsed() {
    let gateway = Setup::with(some_data()).start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    let item = |version: i64| json!({"key": "x", "version": version});
    let patch = |version: i64| json!({"path": "/flags/x", "data": {"key": "x", "version": version}});
    for (row, bytes, name, received) in [
        (
            "U007: CR LF",
            "event: patch\r\ndata: {\"path\":\"/flags/x\",\"data\":{\"key\":\"x\",\"version\":1}}\r\n\r\n",
            "patch",
            patch(1),
        ),
        (
            "U007: CR",
            "event: patch\rdata: {\"path\":\"/flags/x\",\"data\":{\"key\":\"x\",\"version\":2}}\r\r:\n",
            "patch",
            patch(2),
        ),
        (
            "U007: three lines",
            "event: patch\ndata: {\"path\":\"/flags/x\",\ndata: \"data\":{\"key\":\"x\",\ndata: \"version\":3}}\n\n",
            "patch",
            patch(3),
        ),
        (
            "U013: data first",
            "event: patch\ndata: {\"data\":{\"key\":\"x\",\"version\":4},\"path\":\"/flags/x\"}\n\n",
            "patch",
            patch(4),
        ),
        (
            "U014: a slash in the key",
            "event: patch\ndata: {\"path\":\"/flags/a/b%2Fc\",\"data\":{\"key\":\"a/b%2Fc\",\"version\":5}}\n\n",
            "patch",
            json!({"path": "/flags/a/b%2Fc", "data": {"key": "a/b%2Fc", "version": 5}}),
        ),
        (
            "no blanks",
            "event:patch\ndata:{\"path\":\"/flags/x\",\"data\":{\"key\":\"x\",\"version\":6}}\n\n",
            "patch",
            patch(6),
        ),
        (
            "a deleted item in a patch",
            "event: patch\ndata: {\"path\":\"/flags/x\",\"data\":{\"key\":\"x\",\"version\":7,\"deleted\":true}}\n\n",
            "delete",
            json!({"path": "/flags/x", "version": 7}),
        ),
        (
            "U012: no path",
            "event: put\ndata: {\"data\":{\"flags\":{\"x\":{\"key\":\"x\",\"version\":8}}}}\n\n",
            "put",
            put(json!({"flags": {"x": item(8)}, "segments": {}})),
        ),
        (
            "unknown kinds",
            "event: put\ndata: {\"data\":{\"flags\":{},\"configs\":{\"a\":1}}}\n\n",
            "put",
            put(json!({"flags": {}, "segments": {}})),
        ),
    ] {
        gateway.upstream.sends_bytes(SDK_KEY, bytes);
        let data = sdk.receives_event(name).await;
        assert_eq!(data, received, "{row}");
    }
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "on one connection");
}
