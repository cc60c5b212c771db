//! Payload plugins see changed items only, and everything again when an item changes that they have read. One rule for both
//! vendors.

use serde_json::{Value, json};
use yardarm_testkit::guests::{Guest, GuestHook, HIDE_UNLESS};
use yardarm_testkit::{Call, FakeHarness};

use super::{Plugged, put};
use crate::expected::text;
use crate::flags::{data, flag};
use crate::running::{Running, SDK_KEY, Setup};

const BINDING: &str = r#"
    [plugin]
    grants = ["flag-data"]
    [[bind]]
    hook = "payload-transform"
"#;

/// A guest that hides the first of the items that it is shown, unless there is a flag `show`.
fn guest() -> Vec<u8> {
    Guest::new("hide-unless").hook(GuestHook::PayloadTransform, HIDE_UNLESS).component().expect("a component")
}

#[tokio::test]
async fn a_flag_that_a_plugin_looked_for_changes_all_flags_of_launchdarkly() {
    let data = data([flag("a", 1), flag("b", 1)], []);
    let plugged = Plugged::start(Setup::with(data), |folder| {
        put(folder, "hide-unless.toml", BINDING);
        put(folder, "hide-unless.wasm", guest());
    })
    .await;
    plugged.wait_until_active("hide-unless").await;
    let mut sdk = plugged.gateway.opens("/all", SDK_KEY).await;
    let flags = |put: &Value| -> Vec<String> {
        let flags = put["data"]["flags"].as_object().expect("flags");
        flags.keys().cloned().collect()
    };
    assert_eq!(flags(&sdk.receives_event("put").await), ["b"], "of everything, `a` is the first");
    let upstream = &plugged.gateway.upstream;
    upstream.patches(SDK_KEY, &flag("b", 2));
    let delete = sdk.receives_event("delete").await;
    assert_eq!(delete, json!({"path": "/flags/b", "version": 2}), "of `b` alone, `b` is");
    upstream.patches(SDK_KEY, &flag("show", 1));
    assert_eq!(flags(&sdk.receives_event("put").await), ["a", "b", "show"], "the flag that was looked for is there");
    upstream.patches(SDK_KEY, &flag("b", 3));
    let patch = sdk.receives_event("patch").await;
    assert_eq!(patch["data"], flag("b", 3));
}

#[tokio::test]
async fn a_flag_that_a_plugin_looked_for_changes_all_flags_of_harness() {
    const ENV: &str = "0a1b2c3d-0000-4000-8000-000000000001";
    const KEY: &str = "server-key";
    let flag = |identifier: &str, version: i64| {
        let variation = |name: &str| json!({"identifier": name, "name": name, "value": name});
        json!({
            "project": "shop", "environment": "prod", "feature": identifier, "state": "on", "kind": "boolean",
            "defaultServe": {"variation": "true"}, "offVariation": "false",
            "variations": [variation("true"), variation("false")], "rules": [], "prerequisites": [],
            "variationToTargetMap": [], "version": version,
        })
    };
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [KEY]);
    cloud.puts(ENV, [flag("a", 1), flag("b", 1)], []);
    let gateway = Running::before_harness(&cloud, &[KEY], "").await;
    gateway.wait_until_ready().await;
    put(gateway.plugins(), "hide-unless.toml", BINDING);
    put(gateway.plugins(), "hide-unless.wasm", guest());
    let answer = gateway.answers(&Call::post("/client/auth", json!({ "apiKey": KEY }).to_string())).await;
    let token = format!("Bearer {}", answer.json()["authToken"].as_str().expect("a token"));
    let call = Call::get(format!("/client/env/{ENV}/feature-configs")).key(&token);
    let served = async |expected: &[&str]| {
        yardarm_testkit::within(&format!("{expected:?}"), async {
            loop {
                let flags = gateway.answers(&call).await.json();
                let names: Vec<_> = flags.as_array().into_iter().flatten().map(|it| it["feature"].clone()).collect();
                if names == expected.iter().map(|it| json!(it)).collect::<Vec<_>>() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    };
    served(&["b"]).await;
    cloud.changes_flag(ENV, &flag("b", 2));
    served(&[]).await;
    cloud.changes_flag(ENV, &flag("show", 1));
    served(&["a", "b", "show"]).await;
    cloud.changes_flag(ENV, &flag("b", 3));
    served(&["a", "b", "show"]).await;
    text(200, "live\n").compare("/live", &gateway.operator_gets("/live").await);
}
