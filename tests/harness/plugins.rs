//! All hooks on the Harness side.

use serde_json::json;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, until, within};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, listens, segment, started, token};
use crate::plugins::{gate, gold, put, redactor, sample};
use crate::running::{Running, harness_toml};

const TENANTS: &str = r#"
    [plugin]
    name = "tenants"
    grants = ["query"]
    [[bind]]
    hook = "route-resolver"
"#;

const HIDE: &str = r#"
    [plugin]
    name = "flag-override"
    grants = ["flag-data"]
    [plugin.config.environments."harness/*"]
    hide = ["b"]
    [[bind]]
    hook = "HOOK"
"#;

#[tokio::test]
async fn plugins_are_called_for_requests() {
    let gateway = started(&cloud().await, "").await;
    let token = token(&gateway, KEY).await;
    let call = Call::get(format!("/client/env/{ENV}/feature-configs")).key(&token);
    assert_eq!(gateway.answers(&call).await.status, 200);
    put(gateway.plugins(), "request-gate.toml", gate("deny_as = \"forbidden\""));
    put(gateway.plugins(), "request-gate.wasm", sample("request-gate"));
    eventually(&gateway, &call, "a gate", |status, _| status == 403).await;
    let exchange = Call::post("/client/auth", json!({ "apiKey": KEY }).to_string());
    let stream = Call::get("/stream").key(&token).header("API-Key", KEY);
    let metrics = Call::post(format!("/metrics/{ENV}"), "{}").key(&token);
    for call in
        [exchange, stream, metrics.clone(), Call::get(format!("/client/env/{ENV}/target/t/evaluations")).key(&token)]
    {
        assert_eq!(gateway.answers(&call).await.status, 403, "{call}");
    }
    assert_eq!(gateway.answers(&metrics.header("X-Gate-Token", "open sesame")).await.status, 200);
    assert_eq!(gateway.answers(&Call::get("/health")).await.status, 200, "without a credential");
}

#[tokio::test]
async fn plugins_are_called_for_metrics() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
    put(gateway.plugins(), "event-redactor.toml", redactor("drop_kinds = [\"target\"]\nkeep_declared_private = true"));
    put(gateway.plugins(), "event-redactor.wasm", sample("event-redactor"));
    let path = format!("/metrics/{ENV}");
    let target = json!({"identifier": "ada", "name": "Ada", "attributes": []});
    let metric = json!({"timestamp": 1, "count": 1, "metricsType": "FFMETRICS", "attributes": [{"key": "featureIdentifier", "value": "a"}]});
    within("an event filter", async {
        while gateway.operator_gets("/api/plugins").await.json()["plugins"][0]["state"] != "active" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let body = json!({"metricsData": [metric], "targetData": [target, target]}).to_string();
    let call = Call::post(&path, body).key(&token(&gateway, KEY).await);
    assert_eq!(gateway.answers(&call).await.status, 200);
    until("metrics", || !cloud.posts(&path).is_empty()).await;
    assert!(cloud.posts(&path)[0].json().get("targetData").is_none());
    let environments = gateway.operator_gets("/api/environments").await.json();
    let mine = environments["environments"].as_array().into_iter().flatten().find(|it| it["events"]["received"] == 3);
    assert_eq!(mine.expect("an environment that was sent three")["events"]["filtered"], json!([["event-redactor", 2]]));
}

#[tokio::test]
async fn plugins_are_called_for_results() {
    let gateway = started(&cloud().await, "").await;
    let token = token(&gateway, KEY).await;
    put(gateway.plugins(), "flag-override.toml", HIDE.replace("HOOK", "evaluation-transform"));
    put(gateway.plugins(), "flag-override.wasm", sample("flag-override"));
    let call = Call::get(format!("/client/env/{ENV}/target/t/evaluations")).key(&token);
    eventually(&gateway, &call, "one flag", |_, all| {
        all.as_array().is_some_and(|it| it.len() == 1 && it[0]["flag"] == "a")
    })
    .await;
    let call = Call::get(format!("/client/env/{ENV}/target/t/evaluations/b")).key(&token);
    assert_eq!(gateway.answers(&call).await.status, 404);
    let call = Call::get(format!("/client/env/{ENV}/feature-configs/b")).key(&token);
    assert_eq!(gateway.answers(&call).await.status, 200, "server SDKs evaluate by themselves");
}

#[tokio::test]
async fn plugins_are_called_for_data() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    put(gateway.plugins(), "flag-override.toml", HIDE.replace("HOOK", "payload-transform"));
    put(gateway.plugins(), "flag-override.wasm", sample("flag-override"));
    // SDKs receive a deletion, and other flags as before.
    assert_eq!(sdk.receives_event("*").await["event"], "delete");
    let token = token(&gateway, KEY).await;
    let flags = gateway.answers(&Call::get(format!("/client/env/{ENV}/feature-configs")).key(&token)).await.json();
    assert_eq!(flags.as_array().map(Vec::len), Some(1), "{flags}");
    cloud.changes_segment(ENV, &segment("s", 2));
    assert_eq!(sdk.receives_event("*").await["identifier"], "s");
}

#[tokio::test]
async fn attributes_that_plugins_add_to_targets_decide_flags() {
    let cloud = cloud().await;
    let mut flag = flag("plan", 1);
    let clause = json!({"id": "c", "attribute": "plan", "op": "equal", "negate": false, "values": ["gold"]});
    flag["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "false"}, "clauses": [clause]}]);
    cloud.changes_flag(ENV, &flag);
    let gateway = started(&cloud, "").await;
    let token = token(&gateway, KEY).await;
    let call = Call::get(format!("/client/env/{ENV}/target/t/evaluations/plan")).key(&token);
    eventually(&gateway, &call, "the default", |_, it| it["value"] == "true").await;
    put(gateway.plugins(), "plans.wasm", gold("target"));
    eventually(&gateway, &call, "the rule for gold", |_, it| it["value"] == "false").await;
}

#[tokio::test]
async fn flags_that_plugins_add_are_found_like_others() {
    let gateway = started(&cloud().await, "").await;
    let token = token(&gateway, KEY).await;
    let path = format!("/client/env/{ENV}/target/t/evaluations");
    let one = Call::get(format!("{path}/extra")).key(&token);
    assert_eq!(gateway.answers(&one).await.status, 404);
    let guest =
        Guest::new("adds").hook(GuestHook::EvaluationTransform, guests::ADD_RESULT).component().expect("a guest");
    put(gateway.plugins(), "adds.wasm", guest);
    eventually(&gateway, &Call::get(path).key(&token), "the flag in the list", |_, all| {
        all.as_array().is_some_and(|it| it.iter().any(|it| it["flag"] == "extra"))
    })
    .await;
    let answer = gateway.answers(&one).await;
    assert_eq!((answer.status, &answer.json()["value"]), (200, &json!("from a plugin")));
}

#[tokio::test]
async fn resolvers_choose_the_environment_of_a_key() {
    let cloud = cloud().await;
    let dir = tempfile::TempDir::new().expect("a folder");
    let toml = harness_toml(dir.path(), &cloud, &[KEY, OTHER_KEY], "").replacen(
        "plugins.dir",
        "plugins.delegated_auth = [\"test\"]\n        plugins.dir",
        1,
    );
    std::fs::write(dir.path().join("yardarm.toml"), toml).expect("a file");
    let gateway = Running::in_folder(dir).await;
    gateway.wait_until_ready().await;
    put(gateway.plugins(), "tenants.toml", TENANTS);
    let tenants = Guest::new("tenants").hook(GuestHook::RouteResolver, guests::RESOLVE_QUERY).component();
    put(gateway.plugins(), "tenants.wasm", tenants.expect("a guest"));
    let exchange = |environment: &str, key: &str| {
        Call::post(format!("/client/auth?{environment}"), json!({ "apiKey": key }).to_string())
    };
    eventually(&gateway, &exchange("test", KEY), "a resolver", |status, _| status == 401).await;
    for (environment, key, expected) in [("prod", KEY, 200), ("test", OTHER_KEY, 200), ("prod", OTHER_KEY, 401)] {
        assert_eq!(gateway.answers(&exchange(environment, key)).await.status, expected, "{environment} {key}");
    }
    // A request plugin decides about the callers of `test`, whatever key they have.
    put(gateway.plugins(), "gate.toml", "[plugin]\nname = \"gate\"\n[[bind]]\nhook = \"request-auth\"\n");
    let gate = Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component();
    put(gateway.plugins(), "gate.wasm", gate.expect("a guest"));
    eventually(&gateway, &exchange("test", "a key of nobody"), "a token", |status, _| status == 200).await;
    let token = gateway.answers(&exchange("test", "another")).await.json()["authToken"].as_str().map(str::to_owned);
    let token = format!("Bearer {}", token.expect("a token"));
    let flags = Call::get(format!("/client/env/{OTHER_ENV}/feature-configs")).key(&token);
    assert_eq!(gateway.answers(&flags).await.json()[0]["feature"], "other");
    let elsewhere = Call::get(format!("/client/env/{ENV}/feature-configs")).key(&token);
    assert_ne!(gateway.answers(&elsewhere).await.status, 200, "a token is for one environment");
    assert_eq!(gateway.answers(&exchange("prod", "another")).await.status, 401, "not delegated");
    let stream = Call::get("/stream?test").key(&token).header("API-Key", "another");
    let opened = within("a stream", async {
        loop {
            let client = yardarm_testkit::SseClient::open(gateway.address, &stream).await;
            if client.head().status != 503 {
                return client.head().status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    assert_eq!(opened.await, 200);
}
