//! The vendor's client-side SDKs: one test for all of them, and specifics of the one for Node.
//!
//! They have a context from the start and receive only the results for it, so their results are compared with those
//! that the server-side SDK evaluates itself from the same data.

use serde_json::{Value, json};
use yardarm_testkit::{FakeLaunchDarkly, Recorded, WAIT_TIMEOUT, within};

use super::driven::{Driven, Language};
use super::{SOON, flag};
use crate::running::{ENV_ID, Running, SDK_KEY, Setup};

/// Characters of more than one byte, which cause a `-` or a `_` in paths.
const ADA: &str = r#"{"kind":"user","key":"ada","name":"Åda Løvelace ÿþ 日本","email":"ada@example.com"}"#;
const EVE: &str = r#"{"kind":"multi","org":{"key":"acme"},"user":{"key":"eve"}}"#;
/// What an experiment counts: every page view.
const GOALS: &str = r#"[{"key":"seen","kind":"pageview","urls":[{"kind":"substring","substring":"/"}]}]"#;

/// Streams that send changed results.
const EVALUATED: (&str, &str) = ("launchdarkly.client_streams", "evaluated");

/// The state after the common test, for a test that continues.
pub(super) struct Lived {
    pub(super) client: Driven,
    pub(super) gateway: Running,
    pub(super) cloud: FakeLaunchDarkly,
}

/// Data in which a client's results change for every possible reason: a flag, a segment, a prerequisite.
fn client_data() -> Value {
    let mut data = super::data();
    let mut dependent = flag("dependent", 7, &json!({"depth": [1, 2.5, null]}));
    dependent["prerequisites"] = json!([{"key": "greeting", "variation": 1}]);
    let mut hidden = flag("hidden", 3, &json!("for servers only"));
    hidden["clientSide"] = json!(false);
    hidden["clientSideAvailability"]["usingEnvironmentId"] = json!(false);
    for flag in [dependent, hidden, flag("number", 4, &json!(0.1))] {
        let key = flag["key"].as_str().expect("a key").to_owned();
        data["flags"][key] = flag;
    }
    data
}

pub(super) fn open(context: &str, uses_report: bool, more: &Value) -> String {
    let context: Value = serde_json::from_str(context).expect("a context");
    let mut options = json!({"context": context, "useReport": uses_report});
    for (name, value) in more.as_object().expect("options") {
        options[name] = value.clone();
    }
    format!("open {options}")
}

/// Checks that the client has the results of the server-side SDK, flag by flag and reason by reason, except for hidden
/// flags.
async fn sees_what_servers_see(client: &mut Driven, server: &mut Driven, context: &str) {
    let state = server.answers(&format!("state {context}"), "state").await;
    let mut expected = json!({});
    for (key, about) in state["$flagsState"].as_object().expect("flags").iter().filter(|(key, _)| *key != "hidden") {
        let value = &state[key];
        let detail = json!({"value": value, "variationIndex": about["variation"], "reason": about["reason"]});
        assert_eq!(client.answers(&format!("evaluate {key}"), "value").await, *value, "{key} for {context}");
        assert_eq!(client.answers(&format!("detail {key}"), "detail").await, detail, "{key} for {context}");
        expected[key] = value.clone();
    }
    assert_eq!(client.answers("all", "all").await, expected, "{context}");
    assert_eq!(state["hidden"], "for servers only");
    assert_eq!(client.answers("evaluate hidden", "value").await, "default");
}

/// Waits until the gateway has an open stream of a client.
async fn wait_for_stream(gateway: &Running) {
    let looks = async {
        loop {
            let status = gateway.operator_gets("/api/status").await.json();
            let assert_open =
                |it: &Value| it["route"].as_str().is_some_and(|it| it.starts_with("client.")) && it["open"] != 0;
            if status["streams"].as_array().expect("streams").iter().any(assert_open) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, looks).await.expect("a client that streams");
}

/// Runs the whole test, against a gateway with optional further settings.
///
/// Returns `None` if the SDK is not installed, which is a failure in CI.
pub(super) async fn lives_through_everything(
    language: Language,
    uses_report: bool,
    settings: &[(&str, Value)],
) -> Option<Lived> {
    if !language.is_installed() {
        return None;
    }
    let cloud = FakeLaunchDarkly::start().await;
    cloud.answers_goals_with(200, &[("content-type", "application/json")], GOALS);
    let usual = Setup::with(client_data()).events().cloud(&cloud);
    let setup = settings.iter().fold(usual, |setup, (path, value)| setup.set(path, value.clone()));
    let mut gateway = setup.start().await;
    let mut server = Driven::start(Language::Node, &gateway.url(), SDK_KEY).await;
    assert_eq!(server.receives("ready").await, true);
    let mut client = Driven::start(language, &gateway.url(), ENV_ID).await;

    // It starts with one context and continues with another.
    let open = open(ADA, uses_report, &json!({"evaluationReasons": true}));
    assert_eq!(client.answers(&open, "ready").await, true);
    assert_eq!(client.answers("evaluate segmented", "value").await, "other");
    sees_what_servers_see(&mut client, &mut server, ADA).await;
    client.answers(&format!("identify {EVE}"), "done").await;
    assert_eq!(client.answers("evaluate segmented", "value").await, "out");
    sees_what_servers_see(&mut client, &mut server, EVE).await;

    // Every change of a result arrives within two seconds: the flag itself, a segment, a prerequisite, a deletion.
    wait_for_stream(&gateway).await;
    cloud.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    client.receives_exactly("changed", "greeting", SOON).await;
    assert_eq!(client.answers("evaluate greeting", "value").await, "good morning");
    let friends = json!({
        "key": "friends", "version": 2, "included": ["ada", "eve"], "excluded": [], "includedContexts": [],
        "excludedContexts": [], "rules": [], "salt": "x", "generation": null, "deleted": false,
    });
    cloud.patches_segment(SDK_KEY, &friends);
    client.receives_exactly("changed", "segmented", SOON).await;
    assert_eq!(client.answers("evaluate segmented", "value").await, "other");
    let mut unfriendly = flag("greeting", 3, &json!("good morning"));
    unfriendly["fallthrough"] = json!({"variation": 0});
    cloud.patches(SDK_KEY, &unfriendly);
    client.receives_exactly("changed", "dependent", SOON).await;
    assert_eq!(client.answers("evaluate dependent", "value").await, "other");
    cloud.deletes(SDK_KEY, "/flags/rolled", 9);
    client.receives_exactly("changed", "rolled", SOON).await;
    assert_eq!(client.answers("evaluate rolled", "value").await, "default");
    server.receives_exactly("changed", "rolled", SOON).await;
    sees_what_servers_see(&mut client, &mut server, EVE).await;
    server.close().await;

    if evaluates_streams(settings) && !(uses_report && language.is_browser()) {
        polls_no_more(&mut client).await;
    }

    // Events about contexts are sent upstream, and so are diagnostics of the SDK.
    client.answers("track bought", "done").await;
    client.answers("flush", "done").await;
    events_arrived(&cloud).await;
    diagnostics_arrived(&cloud, language).await;

    // Upstream restarts.
    cloud.closes_streams(SDK_KEY);
    assert_eq!(client.answers("evaluate number", "value").await, 0.1);
    gateway.eventually("upstream is connected again", || cloud.open_streams(SDK_KEY) > 0).await;
    let version = follows_again(&mut client, &cloud, 4, "good evening").await;

    // The gateway itself restarts, at the same address: the stream is opened again and delivers the next change.
    gateway = gateway.restarted().await;
    wait_for_stream(&gateway).await;
    cloud.patches(SDK_KEY, &flag("greeting", version + 1, &json!("good night")));
    client.receives_exactly("changed", "greeting", SOON).await;
    follows_again(&mut client, &cloud, version + 2, "good night").await;
    Some(Lived { client, gateway, cloud })
}

/// Changes the greeting until the client shows it; returns the version.
///
/// The new connection to upstream receives the full data, which is announced, and the change is announced right after
/// it. The SDK polls after each, and if the first response arrives last, its results stay: only another change
/// helps.
async fn follows_again(client: &mut Driven, cloud: &FakeLaunchDarkly, from_version: i64, text: &str) -> i64 {
    for version in from_version..from_version + 10 {
        cloud.patches(SDK_KEY, &flag("greeting", version, &json!(text)));
        for _ in 0..100 {
            if client.answers("evaluate greeting", "value").await == text {
                return version;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    panic!("the client does not follow any more");
}

pub(super) fn evaluated() -> [(&'static str, Value); 1] {
    [(EVALUATED.0, json!(EVALUATED.1))]
}

fn evaluates_streams(settings: &[(&str, Value)]) -> bool {
    settings.iter().any(|(path, value)| *path == EVALUATED.0 && *value == EVALUATED.1)
}

/// Checks that it polled only for its two contexts, and that changes arrived on the stream.
async fn polls_no_more(client: &mut Driven) {
    let requests = client.answers("requests", "requests").await;
    let polls = requests.as_array().expect("requests").iter().filter_map(Value::as_str);
    let polls: Vec<_> = polls.filter(|it| it.contains(" /sdk/evalx/") && !it.starts_with("OPTIONS")).collect();
    assert_eq!(polls.len(), 2, "{requests:#}");
}

/// Returns a post to a path of this environment for which `is_wanted` holds.
async fn post(cloud: &FakeLaunchDarkly, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Recorded {
    let looks = async {
        loop {
            let posts = cloud.posts(&format!("{path}/{ENV_ID}"));
            if let Some(post) = posts.into_iter().find(|it| is_wanted(&it.json())) {
                return post;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within(&format!("a post to {path}"), looks).await
}

async fn events_arrived(cloud: &FakeLaunchDarkly) {
    let bought = |it: &Value| it["kind"] == "custom" && it["key"] == "bought" && it["context"]["user"]["key"] == "eve";
    let post = post(cloud, "/events/bulk", |it| it.as_array().expect("a batch").iter().any(bought)).await;
    for (name, value) in [
        ("content-type", Some("application/json")),
        ("content-encoding", Some("gzip")),
        ("x-launchdarkly-event-schema", Some("4")),
        ("authorization", None),
        ("origin", None),
    ] {
        assert_eq!(post.header(name), value, "{name}");
    }
    assert_eq!(post.header("x-launchdarkly-payload-id").map(str::len), Some(36), "a UUID");
}

async fn diagnostics_arrived(cloud: &FakeLaunchDarkly, language: Language) {
    let (sdk, kind) = match language {
        Language::NodeClient => ("node-client-sdk", "diagnostic-init"),
        Language::LegacyBrowser => ("js-client-sdk", "diagnostic-combined"),
        Language::Browser => ("@launchdarkly/js-client-sdk", "diagnostic-init"),
        _ => panic!("{language:?} is not one of these clients"),
    };
    let post = post(cloud, "/events/diagnostic", |it| it["kind"] == kind).await;
    assert_eq!(post.json()["sdk"]["name"], sdk);
    let name = if language.is_browser() { "x-launchdarkly-user-agent" } else { "user-agent" };
    let sdk = post.header(name).and_then(|it| it.split_once('/')).map(|(sdk, _)| sdk);
    assert_eq!(sdk, Some(if language.is_browser() { "JSClient" } else { "NodeClientSide" }));
}

/// Compares the SDK's requests to the gateway with this list: prefixes of `METHOD /path`, each with whether there was
/// such a request.
pub(super) async fn wait_until_sent(client: &mut Driven, expected: &[(String, bool)]) {
    let requests = client.answers("requests", "requests").await;
    let requests: Vec<_> = requests.as_array().expect("requests").iter().filter_map(Value::as_str).collect();
    for (beginning, is_there) in expected {
        assert_eq!(requests.iter().any(|it| it.starts_with(beginning)), *is_there, "{beginning} in {requests:#?}");
    }
}

/// With the right hash it works and receives changes; with a wrong one the SDK reports the reason.
pub(super) async fn secure_mode_holds(language: Language) {
    if !language.is_installed() {
        return;
    }
    let cloud = FakeLaunchDarkly::start().await;
    let setup = Setup::with(client_data()).environment(json!({"secure_mode": true}));
    let gateway = setup.cloud(&cloud).start().await;
    let mut server = Driven::start(Language::Node, &gateway.url(), SDK_KEY).await;
    assert_eq!(server.receives("ready").await, true);
    let hash = server.answers(&format!("hash {ADA}"), "hash").await;
    server.close().await;
    let mut client = Driven::start(language, &gateway.url(), ENV_ID).await;
    for (uses_report, version) in [(false, 11), (true, 12)] {
        let right = open(ADA, uses_report, &json!({"hash": hash}));
        assert_eq!(client.answers(&right, "ready").await, true, "REPORT: {uses_report}");
        wait_for_stream(&gateway).await;
        cloud.patches(SDK_KEY, &flag("greeting", version, &json!(version)));
        client.receives_exactly("changed", "greeting", SOON).await;
        assert_eq!(client.answers("evaluate greeting", "value").await, version);
        let wrong = open(ADA, uses_report, &json!({"hash": "0".repeat(64)}));
        assert_eq!(client.answers(&wrong, "ready").await, false, "REPORT: {uses_report}");
        assert_eq!(client.answers("all", "all").await, json!({}), "REPORT: {uses_report}");
    }
    client.close().await;
    gateway.stop().await;
}

async fn the_node_client_lives_through_everything(uses_report: bool, settings: &[(&str, Value)]) {
    let Some(mut lived) = lives_through_everything(Language::NodeClient, uses_report, settings).await else { return };
    let by_path = [format!("GET /sdk/evalx/{ENV_ID}/contexts/ey"), format!("GET /eval/{ENV_ID}/ey")];
    let by_body = [format!("REPORT /sdk/evalx/{ENV_ID}/context?"), format!("REPORT /eval/{ENV_ID}?")];
    let expected: Vec<_> =
        by_path.map(|it| (it, !uses_report)).into_iter().chain(by_body.map(|it| (it, uses_report))).collect();
    wait_until_sent(&mut lived.client, &expected).await;
    lived.client.close().await;
    lived.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_sdk_lives_through_everything_with_get() {
    the_node_client_lives_through_everything(false, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_sdk_lives_through_everything_with_report() {
    the_node_client_lives_through_everything(true, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_sdk_lives_through_everything_with_evaluated_streams() {
    for uses_report in [false, true] {
        the_node_client_lives_through_everything(uses_report, &evaluated()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_sdk_needs_the_right_hash_in_secure_mode() {
    secure_mode_holds(Language::NodeClient).await;
}
