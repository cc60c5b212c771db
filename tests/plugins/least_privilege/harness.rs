//! Harness: server and client SDKs, and targets that are registered.

use std::time::Duration;

use serde_json::json;
use yardarm_testkit::{Call, FakeHarness, SseClient, until, within};

use super::emitted::{Canary, Emitted, Place, shown};
use super::{
    ADDRESS, ATTRIBUTE, COMMON, CONTEXT_KEY, COOKIE, EVENT, FLAG, HEADER, PRINCIPAL, QUERY, all_grants, start,
};
use crate::program::Program;
use crate::running::harness_toml;
use crate::sdk::Sdk;

const ENV: &str = "0a1b2c3d-4e5f-4000-8000-000000000001";
const KEY: &str = "canary00-4e5f-4000-8000-00000000aaaa";

fn canaries() -> Vec<Canary> {
    let own: [Canary; 5] = [
        (KEY, &[Place::Upstream]),
        (FakeHarness::ADMIN_TOKEN, &[Place::Upstream]),
        // The gateway registers targets and forwards metrics, as the vendor's relay does.
        (CONTEXT_KEY, &[Place::Upstream]),
        (ATTRIBUTE, &[Place::Upstream]),
        (EVENT, &[Place::Upstream]),
    ];
    COMMON.into_iter().chain(own).collect()
}

/// Runs the gateway with the plugins, sends requests of every kind; returns what was emitted and the token of the SDK.
async fn emitted(grants: &str) -> (Emitted, String) {
    let flag = |version: i64| {
        let variation = |name: &str| json!({"identifier": name, "name": name, "value": name});
        json!({
            "project": "shop", "environment": "prod", "feature": "plain", "state": "on", "kind": "string",
            "defaultServe": {"variation": FLAG}, "offVariation": "other", "rules": [], "prerequisites": [],
            "variations": [variation(FLAG), variation("other")], "variationToTargetMap": [], "version": version,
        })
    };
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [KEY]);
    cloud.puts(ENV, [flag(3)], []);
    let dir = tempfile::TempDir::new().expect("a folder");
    let root = dir.path();
    let toml = harness_toml(root, &cloud, &[KEY], "metric_post_interval = \"100ms\"");
    let more = "plugins.secrets_dir = \"secrets\"\n log.level = \"trace\"\n log.format = \"json\"\n \
                server.trusted_proxies = [\"127.0.0.0/8\"]\n plugins.dir";
    std::fs::write(root.join("yardarm.toml"), toml.replacen("plugins.dir", more, 1)).expect("a file");
    let program = start(root, grants).await;
    let mut emitted = Emitted::default();
    let (responses, token) = responses(&program).await;
    emitted.add(Place::Responses, responses);
    let stream = Call::get("/stream").key(&format!("Bearer {token}")).header("API-Key", KEY);
    let client = within("an open stream", async {
        loop {
            let client = SseClient::open(program.address, &stream).await.with_framed_comments();
            if client.head().status == 200 {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut sdk = Sdk::new(client.await, &stream);
    cloud.changes_flag(ENV, &flag(4));
    assert_eq!(sdk.receives_event("*").await["identifier"], "plain");
    until("the metrics", || {
        cloud.posts(&format!("/metrics/{ENV}")).iter().any(|it| it.json().to_string().contains(EVENT))
    })
    .await;
    emitted.end(program, root).await;
    emitted.add_upstream(cloud.requests());
    (emitted, token)
}

/// Sends requests of every kind of SDK, with canaries in all that an SDK sends; returns the responses, and the token that the
/// gateway has issued.
async fn responses(program: &Program) -> (Vec<String>, String) {
    let call = |call: Call| call.header("x-canary", HEADER).header("cookie", COOKIE).header("x-forwarded-for", ADDRESS);
    let target = json!({"identifier": CONTEXT_KEY, "attributes": {"email": ATTRIBUTE}});
    let exchange = json!({"apiKey": KEY, "target": target}).to_string();
    let exchange = program.answers(&call(Call::post(format!("/client/auth?x={QUERY}"), exchange))).await;
    let token = exchange.json()["authToken"].as_str().expect("a token").to_owned();
    let metric = json!({"timestamp": 1, "count": 1, "metricsType": "FFMETRICS", "attributes": [
        {"key": "featureIdentifier", "value": "plain"}, {"key": "featureName", "value": EVENT},
        {"key": "variationIdentifier", "value": "x"}, {"key": "target", "value": "t"}]});
    let metrics = json!({"metricsData": [metric]}).to_string();
    let mut responses = vec![shown(&exchange)];
    let calls = [
        Call::get(format!("/client/env/{ENV}/feature-configs?x={QUERY}")),
        Call::get(format!("/client/env/{ENV}/target-segments?x={QUERY}")),
        Call::get(format!("/client/env/{ENV}/target/{CONTEXT_KEY}/evaluations?x={QUERY}")),
        Call::get(format!("/client/env/{ENV}/target/{CONTEXT_KEY}/evaluations/plain?x={QUERY}")),
        Call::post(format!("/metrics/{ENV}?x={QUERY}"), metrics),
    ];
    for one in calls {
        let one = call(one.key(&format!("Bearer {token}")));
        let answer = program.answers(&one).await;
        assert_eq!(answer.status, 200, "{one}");
        responses.push(shown(&answer));
    }
    (responses, token)
}

#[tokio::test]
async fn without_grants_no_canary_is_anywhere_it_does_not_belong() {
    let (emitted, token) = emitted("").await;
    emitted.assert_in_place(&canaries());
    emitted.assert_in_place(&[(&token, &[Place::Responses])]);
    // They are where they belong, so the search is one of what was sent.
    for (canary, place) in [(EVENT, Place::Upstream), (FLAG, Place::Responses), (KEY, Place::Upstream)] {
        assert!(emitted.find(canary).contains_key(&place), "{canary} {place:?}");
    }
}

#[tokio::test]
async fn with_grants_the_same_plugin_obtains_what_they_give() {
    let (emitted, token) = emitted(&all_grants()).await;
    let read = [HEADER, COOKIE, ADDRESS, QUERY, CONTEXT_KEY, ATTRIBUTE, EVENT, FLAG, PRINCIPAL, KEY];
    emitted.assert_read(&canaries(), &read);
    assert!(emitted.find(&token).contains_key(&Place::GuestLog), "in the header `authorization`");
}
