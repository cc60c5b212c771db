//! L150 to L161: requests of the PHP SDK.

use serde_json::json;
use yardarm_testkit::Call;

use crate::expected::{TEXT_C, empty, json as json_answer, page_not_found, text};
use crate::flags::{by_key, data, flag, segment, some_data};
use crate::running::{ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

fn poll(path: &str) -> Call {
    Call::get(path).key(SDK_KEY)
}

/// Makes a change and waits until SDKs have received it.
async fn after(gateway: &Running, change: impl FnOnce()) {
    let mut sdk = gateway.opens("/mping", MOBILE_KEY).await;
    sdk.receives_ping().await;
    change();
    sdk.receives_ping().await;
}

#[tokio::test]
async fn flags_and_segments_are_polled_with_their_tags() {
    let gateway = Setup::with(some_data()).start().await;
    let tagged = |body, tag: &str| json_answer(200, body).with(&format!("etag: {tag}"));
    let unknown = text(401, TEXT_C);
    for (row, call, expected) in [
        ("L150, L154", poll("/sdk/flags"), tagged(by_key([flag("plain", 3)]), "relay-7958a0a3e057e9d")),
        ("L151", poll("/sdk/flags/plain"), tagged(flag("plain", 3), "relay-3")),
        ("L152", poll("/sdk/segments/crew"), tagged(segment("crew", 2), "relay-2")),
        ("L153", poll("/sdk/flags/none"), empty(404)),
        ("L153", poll("/sdk/segments/none"), empty(404)),
        ("L153", poll("/sdk/segments/plain"), empty(404)),
        ("L160", poll("/sdk/segments"), page_not_found()),
        ("L161", Call::get("/sdk/flags").key(MOBILE_KEY), unknown.clone()),
        ("L161", Call::get("/sdk/flags").key(ENV_ID), unknown),
    ] {
        // L159: neither `Expires` nor `Vary`; `answers_as` compares all headers.
        gateway.answers_as(row, call, expected).await;
    }
}

#[tokio::test]
async fn no_flags_have_a_tag_too() {
    let gateway = Setup::with(json!({"flags": {}, "segments": {}})).start().await;
    let expected = json_answer(200, json!({})).with("etag: relay-da39a3ee5e6b4b0");
    gateway.answers_as("L155", poll("/sdk/flags"), expected).await;
}

#[tokio::test]
async fn unchanged_data_is_not_sent_again() {
    let gateway = Setup::with(data([flag("plain", 3), flag("other", 1)], [segment("crew", 2)])).start().await;
    let mut tags = Vec::new();
    for path in ["/sdk/flags", "/sdk/flags/plain", "/sdk/segments/crew"] {
        let tag = gateway.answers(&poll(path)).await.header("etag").unwrap().to_owned();
        gateway.answers_as("L156", poll(path).header("If-None-Match", &tag), empty(304)).await;
        for other in [format!("\"{tag}\""), format!("W/{tag}"), format!("{tag}, relay-0"), "*".to_owned()] {
            let answer = gateway.answers(&poll(path).header("If-None-Match", &other)).await;
            assert_eq!(answer.status, 200, "L156: {path} {other}");
        }
        tags.push((path, tag));
    }
    after(&gateway, || gateway.upstream.patches(SDK_KEY, &flag("plain", 4))).await;
    after(&gateway, || gateway.upstream.patches_segment(SDK_KEY, &segment("crew", 5))).await;
    for (path, before) in tags {
        let answer = gateway.answers(&poll(path).header("If-None-Match", &before)).await;
        assert_eq!(answer.status, 200, "L157: {path}");
        assert_ne!(answer.header("etag"), Some(before.as_str()), "L157: {path}");
    }
    // L150, L153, L154: a deleted flag is not served and still part of the tag.
    let with_plain = gateway.answers(&poll("/sdk/flags")).await;
    after(&gateway, || gateway.upstream.deletes(SDK_KEY, "/flags/plain", 5)).await;
    gateway.answers_as("L153", poll("/sdk/flags/plain"), empty(404)).await;
    let without = gateway.answers(&poll("/sdk/flags")).await;
    assert_eq!(without.json(), by_key([flag("other", 1)]), "L150");
    assert_ne!(without.header("etag"), with_plain.header("etag"));
}

#[tokio::test]
async fn a_time_to_live_becomes_an_expiry() {
    let gateway = Setup::with(some_data()).environment(json!({"ttl": "2m"})).start().await;
    let answer = gateway.answers(&poll("/sdk/flags/plain")).await;
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type", "etag", "expires", "vary", "x-ld-envid"], "L158: no `Cache-Control`");
    assert_eq!(answer.header("vary"), Some("Authorization"), "L158");
    let expires = unix_seconds(answer.header("expires").unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // Whole seconds, rounded down, and the response is slightly older.
    assert!((now + 100..=now + 121).contains(&expires), "L158: {expires} at {now}");

    let again = gateway.answers(&poll("/sdk/flags/plain").header("If-None-Match", "relay-3")).await;
    let names: Vec<_> = again.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((again.status, names), (304, vec!["expires", "vary", "x-ld-envid"]), "L156: no `Etag` on 304");
    gateway.answers_as("L153: nothing for 404", poll("/sdk/flags/none"), empty(404)).await;
}

/// Parses a date such as `Sun, 22 Nov 2026 02:04:23 GMT` to Unix seconds.
fn unix_seconds(date: &str) -> u64 {
    let parts: Vec<_> = date.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { panic!("no date: {date}") };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|it| *it == month).expect("a month") + 1;
    let text = format!("{year}-{month:02}-{day}T{time}Z");
    let time = humantime::parse_rfc3339(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    time.duration_since(std::time::UNIX_EPOCH).expect("a date after 1970").as_secs()
}
