//! The vendor's two browser SDKs, in a page in a real browser, whose origin differs from the gateway's.

use serde_json::{Value, json};
use yardarm_testkit::FakeLaunchDarkly;

use super::client::{evaluated, lives_through_everything, open, secure_mode_holds, wait_until_sent};
use super::driven::{Driven, Language};
use super::{SOON, data, flag};
use crate::running::{ENV_ID, SDK_KEY, Setup};

const EVE: &str = r#"{"kind":"user","key":"eve"}"#;

/// The test of all client-side SDKs, and what only browsers do: preflights and goals.
async fn a_page_lives_through_everything(language: Language, uses_report: bool, settings: &[(&str, Value)]) {
    let Some(mut lived) = lives_through_everything(language, uses_report, settings).await else { return };
    let by_path = [
        format!("OPTIONS /sdk/evalx/{ENV_ID}/contexts/ey"),
        format!("GET /sdk/evalx/{ENV_ID}/contexts/ey"),
        format!("GET /eval/{ENV_ID}/ey"),
    ];
    // A browser's event source can send only GET, so the stream is the one without a context.
    let by_body = [
        format!("OPTIONS /sdk/evalx/{ENV_ID}/context?"),
        format!("REPORT /sdk/evalx/{ENV_ID}/context?"),
        format!("GET /ping/{ENV_ID}"),
    ];
    let always = [
        format!("GET /sdk/goals/{ENV_ID}"),
        format!("OPTIONS /events/bulk/{ENV_ID}"),
        format!("POST /events/bulk/{ENV_ID}"),
        format!("POST /events/diagnostic/{ENV_ID}"),
    ];
    let mut expected = Vec::from(by_path.map(|it| (it, !uses_report)));
    expected.extend(by_body.map(|it| (it, uses_report)));
    expected.extend(always.map(|it| (it, true)));
    wait_until_sent(&mut lived.client, &expected).await;

    // Goals were fetched from upstream, and their events were sent there.
    assert!(lived.cloud.requests().iter().any(|it| it.path == format!("/sdk/goals/{ENV_ID}")));
    let is_seen = |it: &Value| it["kind"] == "pageview" && it["key"] == "seen";
    let has_seen = || {
        let posts = lived.cloud.posts(&format!("/events/bulk/{ENV_ID}"));
        posts.iter().any(|it| it.json().as_array().expect("a batch").iter().any(is_seen))
    };
    lived.gateway.eventually("the view of the page", has_seen).await;
    lived.client.close().await;
    lived.gateway.stop().await;
}

/// V020: the SDK with a data system, which polls and follows by FDv2.
async fn a_page_lives_on_objects(streams: &str) {
    if !Language::Browser.is_installed() {
        return;
    }
    let cloud = FakeLaunchDarkly::start().await;
    let setup = Setup::with(data()).set("launchdarkly.client_streams", streams);
    let mut gateway = setup.cloud(&cloud).start().await;
    let mut client = Driven::start(Language::Browser, &gateway.url(), ENV_ID).await;
    let open = open(EVE, false, &json!({"dataSystem": {}}));
    assert_eq!(client.answers(&open, "ready").await, true, "{streams}");
    assert_eq!(client.answers("evaluate greeting", "value").await, "hello", "{streams}");
    cloud.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    client.eventually_answers("evaluate greeting", "value", &json!("good morning")).await;
    cloud.deletes(SDK_KEY, "/flags/rolled", 9);
    client.eventually_answers("evaluate rolled", "value", &json!("default")).await;
    // The gateway restarts, at the same address.
    gateway = gateway.restarted().await;
    cloud.patches(SDK_KEY, &flag("greeting", 3, &json!("good night")));
    client.eventually_answers("evaluate greeting", "value", &json!("good night")).await;
    let expected = [
        ("GET /sdk/poll/eval/ey".to_owned(), true),
        ("GET /sdk/stream/eval/ey".to_owned(), true),
        (format!("GET /sdk/evalx/{ENV_ID}"), false),
        (format!("GET /eval/{ENV_ID}"), false),
    ];
    wait_until_sent(&mut client, &expected).await;
    client.close().await;
    gateway.stop().await;
}

/// A page may send requests where its origin is allowed, and is blocked by the browser where another one is.
async fn only_allowed_origins_get_in(language: Language) {
    if !language.is_installed() {
        return;
    }
    let cloud = FakeLaunchDarkly::start().await;
    let mut client = Driven::start(language, "http://127.0.0.1:1", "none").await;
    let origin = client.receives("origin").await;
    let origins = json!(["https://elsewhere.example", origin]);
    let environments = [
        json!({"name": "ours", "sdk_key": "sdk-1", "env_id": "ours", "allowed_origins": origins}),
        json!({"name": "theirs", "sdk_key": "sdk-2", "env_id": "theirs", "allowed_origins": ["https://elsewhere.example"]}),
    ];
    let setup = Setup::new().environments(environments).data("sdk-1", data()).data("sdk-2", data());
    let gateway = setup.events().cloud(&cloud).start().await;
    for (uses_report, version) in [(false, 2), (true, 3)] {
        let open = |key: &str| open(EVE, uses_report, &json!({"url": gateway.url(), "key": key}));
        let problem = client.answers(&open("theirs"), "problem").await;
        assert!(problem.as_str().is_some_and(|it| it.contains("blocked by CORS policy")), "{problem}");
        assert_eq!(client.receives("ready").await, false);
        assert_eq!(client.answers("evaluate greeting", "value").await, "default");

        assert_eq!(client.answers(&open("ours"), "ready").await, true);
        cloud.patches("sdk-1", &flag("greeting", version, &json!(version)));
        client.receives_exactly("changed", "greeting", SOON).await;
        assert_eq!(client.answers("evaluate greeting", "value").await, version);
    }
    client.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_sdk_lives_through_everything_with_get() {
    a_page_lives_through_everything(Language::Browser, false, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_sdk_lives_through_everything_with_report() {
    a_page_lives_through_everything(Language::Browser, true, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_browser_sdk_lives_through_everything_with_get() {
    a_page_lives_through_everything(Language::LegacyBrowser, false, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_browser_sdk_lives_through_everything_with_report() {
    a_page_lives_through_everything(Language::LegacyBrowser, true, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_sdk_lives_through_everything_with_evaluated_streams() {
    for uses_report in [false, true] {
        a_page_lives_through_everything(Language::Browser, uses_report, &evaluated()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_legacy_browser_sdk_lives_through_everything_with_evaluated_streams() {
    for uses_report in [false, true] {
        a_page_lives_through_everything(Language::LegacyBrowser, uses_report, &evaluated()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_sdk_takes_objects_after_pings() {
    a_page_lives_on_objects("ping").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_sdk_takes_objects_from_streams() {
    a_page_lives_on_objects("evaluated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_sdks_need_the_right_hash_in_secure_mode() {
    for language in [Language::Browser, Language::LegacyBrowser] {
        secure_mode_holds(language).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_sdks_get_in_from_allowed_origins_only() {
    for language in [Language::Browser, Language::LegacyBrowser] {
        only_allowed_origins_get_in(language).await;
    }
}
