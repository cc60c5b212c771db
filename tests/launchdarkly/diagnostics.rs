//! L211 to L215: diagnostics, which are forwarded at once, and the pixel.

use std::time::Duration;

use serde_json::json;
use yardarm_testkit::Call;

use crate::expected::{TEXT_B, empty, text};
use crate::flags::some_data;
use crate::running::{ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

const BODY: &str = r#"{"kind":"diagnostic-init","id":{"diagnosticId":"d1","sdkKeySuffix":"444402"},"creationDate":1}"#;

fn diagnostics() -> [(Call, String); 3] {
    let browser = format!("/events/diagnostic/{ENV_ID}");
    let post = |path: &str| Call::post(path, BODY).header("User-Agent", "AndroidClient/5.0.0").header("X-Custom", "c");
    [
        (post("/diagnostic").key(&format!("api_key {SDK_KEY}")), "/diagnostic".to_owned()),
        (post("/mobile/events/diagnostic").key(MOBILE_KEY), "/mobile/events/diagnostic".to_owned()),
        (post(&browser), browser),
    ]
}

fn is_browser(path: &str) -> bool {
    path.contains(ENV_ID)
}

#[tokio::test]
async fn diagnostics_are_forwarded_at_once_with_the_headers_of_the_sdk() {
    // L211, U170. An hour between flushes shows that diagnostics do not wait for one.
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h").start().await;
    for (call, path) in diagnostics() {
        let accepted = if is_browser(&path) { empty(202).cors("*", "POST,OPTIONS") } else { empty(202) };
        gateway.answers_as("L211", call, accepted).await;
        gateway.eventually(&path, || gateway.upstream.posts(&path).len() == 1).await;
        let post = &gateway.upstream.posts(&path)[0];
        assert_eq!(post.body(), BODY, "L211");
        for (name, value) in [
            ("user-agent", "AndroidClient/5.0.0"),
            ("x-custom", "c"),
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ] {
            assert_eq!(post.header(name), Some(value), "L211: {path}");
        }
        let key = (!is_browser(&path))
            .then(|| if path == "/diagnostic" { format!("api_key {SDK_KEY}") } else { MOBILE_KEY.to_owned() });
        assert_eq!(post.header("authorization"), key.as_deref(), "L211: copied as it came");
        assert_eq!(post.header("x-launchdarkly-payload-id"), None, "L211: nothing is added");
        assert_eq!(post.header("x-launchdarkly-event-schema"), None, "L211: nothing is added");
    }
}

#[tokio::test]
async fn diagnostics_are_answered_before_upstream_answers() {
    // L212, decision R8: the responses arrive while upstream still delays all three posts.
    let gateway = Setup::with(some_data()).events().start().await;
    gateway.upstream.delays_posts(Duration::from_secs(2));
    let start = tokio::time::Instant::now();
    for (call, path) in diagnostics() {
        let accepted = if is_browser(&path) { empty(202).cors("*", "POST,OPTIONS") } else { empty(202) };
        gateway.answers_as("L212", call, accepted).await;
    }
    assert!(start.elapsed() < Duration::from_secs(2), "no answer waited for upstream: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_diagnostic_is_retried_once_and_disables_nothing() {
    let gateway = Setup::with(some_data()).events().start().await;
    gateway.upstream.answers_posts_with([503, 202, 401]);
    let (call, path) = diagnostics()[0].clone();
    gateway.answers_as("L211, L212", call.clone(), empty(202)).await;
    gateway.eventually("a retry", || gateway.upstream.posts(&path).len() == 2).await;
    let sent = gateway.upstream.posts(&path);
    assert_eq!(sent[0].raw_body, sent[1].raw_body);
    assert!(sent[1].at - sent[0].at >= Duration::from_millis(950));
    for count in [3, 4] {
        gateway.answers_as("L211: a refusal disables nothing", call.clone(), empty(202)).await;
        gateway.eventually("another post", || gateway.upstream.posts(&path).len() == count).await;
    }
}

#[tokio::test]
async fn a_pixel_carries_events() {
    let pixel = [
        0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x21, 0xf9, 4, 1, 0, 0,
        0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 1, 0x44, 0, 0x3b,
    ];
    assert_eq!(pixel.len(), 42);
    let gateway = Setup::with(some_data()).events().start().await;
    let image = || empty(200).bytes(&pixel).with("content-type: image/gif").cors("*", "GET,OPTIONS");
    let path = format!("/a/{ENV_ID}.gif");
    let upstream_path = format!("/events/bulk/{ENV_ID}");
    // L213
    let call = Call::get(format!("{path}?d=W3sia2luZCI6ImN1c3RvbSIsImtleSI6ImsifV0%3D"));
    gateway.answers_as("L213", call.header("X-LaunchDarkly-Event-Schema", "4"), image()).await;
    gateway.eventually("the event", || !gateway.upstream.posts(&upstream_path).is_empty()).await;
    let post = &gateway.upstream.posts(&upstream_path)[0];
    assert_eq!(post.json(), json!([{"kind": "custom", "key": "k"}]), "L213");
    assert_eq!(post.header("x-launchdarkly-event-schema"), Some("3"), "L213");
    for query in ["", "?d=", "?d=!!!", "?d=Pz8_", "?d=bm90IEpTT04%3D"] {
        gateway.answers_as("L213: always an image", Call::get(format!("{path}{query}")), image()).await;
    }
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    assert_eq!(upstream.posts(&upstream_path).len(), 1, "L213: nothing came of the others");
}

#[tokio::test]
async fn events_for_an_unknown_filter_are_rejected() {
    let gateway = Setup::with(some_data()).events().start().await;
    let call = Call::post("/bulk?filter=unknown", "[1]").key(SDK_KEY);
    gateway.answers_as("L215", call, text(404, TEXT_B)).await;
}
