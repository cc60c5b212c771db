//! Responses to SDKs.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, segment, started, token};
use crate::expected::{Expected, empty, json as any_json};

const ID: &str = "11111111-2222-4333-8444-555555555555";

/// Expects a complete JSON response. The label of every request is the ID of a row.
pub(super) fn answer(status: u16, body: Value) -> Expected {
    let charset = if status < 400 { "utf-8" } else { "UTF-8" };
    any_json(status, body)
        .with_type(&format!("application/json; charset={charset}"))
        .with(&format!("x-request-id: {ID}"))
}

pub(super) fn error(status: u16, text: &str) -> Expected {
    answer(status, json!({ "error": text }))
}

fn message(status: u16, text: &str) -> Expected {
    answer(status, json!({ "message": text }))
}

pub(super) fn get(path: &str) -> Call {
    Call::get(path).header("X-Request-ID", ID)
}

fn auth(body: &str) -> Call {
    Call::post("/client/auth", body).header("X-Request-ID", ID)
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

#[tokio::test]
async fn keys_are_exchanged_for_tokens() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "auth_secret = \"sesame, open\"\nvalidate_targets = true").await;
    let bad = |text: &str| error(400, &format!("bad request: {text}"));
    for (row, body, expected) in [
        ("F049", "", bad("request body cannot be empty")),
        ("F049", "{}", bad("apiKey cannot be empty")),
        ("F049", r#"{"apiKey":""}"#, bad("apiKey cannot be empty")),
        ("F048", r#"{"apiKey":"nobody"}"#, error(401, "unauthorised")),
        ("F050", r#"{"apiKey":"nobody","target":{"identifier":"a b"}}"#, bad("target identifier is invalid")),
        ("F050", r#"{"apiKey":"nobody","target":{"identifier":"a/b"}}"#, bad("target identifier is invalid")),
        ("F050", r#"{"apiKey":"nobody","target":{"identifier":"a","name":"x/y"}}"#, bad("target name is invalid")),
        ("F050", r#"{"apiKey":"nobody","target":{"identifier":"a"}}"#, error(401, "unauthorised")),
    ] {
        gateway.answers_as(row, auth(body), expected).await;
    }
    assert_eq!(gateway.answers(&auth("{\"apiKey\"")).await.status, 400, "F049");
    gateway.answers_as("F052", get("/client/auth"), message(405, "Method Not Allowed").with("allow: POST")).await;

    let token = token(&gateway, KEY).await;
    let claims = claims(&token);
    let expected = [
        ("environment", json!(ENV)),
        ("clusterIdentifier", json!("1")),
        ("environmentIdentifier", json!("prod")),
        ("apiKey", json!(format!("auth-key-{}", FakeHarness::hash(KEY)))),
    ];
    for (claim, value) in expected {
        assert_eq!(claims[claim], value, "F045 {claims}");
    }
    assert!(claims["iat"].is_u64() && claims["nbf"].is_u64() && claims.get("exp").is_none(), "F045 {claims}");
    assert!(!token.contains(KEY) && !claims.to_string().contains(KEY), "F085");

    // F008: a key that was not configured, but is listed.
    cloud.adds_environment(ENV, "prod", ["another-key"]);
    let body = r#"{"apiKey":"another-key"}"#;
    eventually(&gateway, &auth(body), "an unknown key that is refreshed", |status, _| status == 200).await;

    // F047: a token outlives the gateway.
    let gateway = gateway.restarted().await;
    let path = format!("/client/env/{ENV}/feature-configs/a");
    assert_eq!(gateway.answers(&get(&path).key(&token)).await.status, 200, "F047");
}

#[tokio::test]
async fn nothing_is_served_without_the_right_token() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "auth_secret = \"sesame, open\"").await;
    let (mine, other) = (token(&gateway, KEY).await, token(&gateway, OTHER_KEY).await);
    let base = format!("/client/env/{ENV}");
    let paths = [
        "/feature-configs",
        "/feature-configs/a",
        "/target-segments",
        "/target-segments/s",
        "/target/t/evaluations",
        "/target/t/evaluations/a",
    ];
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let mut parts = mine.trim_start_matches("Bearer ").split('.');
    let (header, payload) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let unsigned = format!("Bearer {}.{payload}.", part(&json!({"alg": "none", "typ": "JWT"})));
    let forged = format!("Bearer {header}.{payload}.{}", URL_SAFE_NO_PAD.encode([7; 32]));
    for path in paths.map(|path| format!("{base}{path}")).iter().map(String::as_str).chain(["/stream", "/nowhere"]) {
        for wrong in ["", "Basic x", "Bearer x", "Bearer a.b.c", &unsigned, &forged] {
            let call = if wrong.is_empty() { get(path) } else { get(path).key(wrong) };
            gateway.answers_as("F053 F054", call, error(401, "missing or invalid token")).await;
        }
        if path.starts_with(&base) {
            let expected = error(401, "the token belongs to another environment");
            gateway.answers_as("F055", get(path).key(&other), expected).await;
        }
    }
    let metrics = Call::post(format!("/metrics/{ENV}"), "{}").header("X-Request-ID", ID);
    gateway.answers_as("F053", metrics.clone(), error(401, "missing or invalid token")).await;
    gateway.answers_as("F094", get("/nowhere").key(&mine), message(404, "Not Found")).await;
    let call = Call::post(format!("{base}/feature-configs"), "").header("X-Request-ID", ID).key(&mine);
    gateway.answers_as("F094", call, message(405, "Method Not Allowed").with("allow: GET")).await;

    // F091: a browser can read the error; F090: and sends a preflight first.
    let call = get(&format!("{base}/target/t/evaluations")).header("Origin", "https://shop.example");
    let expected = error(401, "missing or invalid token").with("access-control-allow-origin: *").with("vary: Origin");
    gateway.answers_as("F091", call, expected).await;
    let call = Call::options(format!("{base}/target/t/evaluations"))
        .header("X-Request-ID", ID)
        .header("Origin", "https://shop.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization,harness-target");
    let expected = empty(204)
        .with(&format!("x-request-id: {ID}"))
        .with("access-control-allow-origin: *")
        .with("access-control-allow-methods: GET,OPTIONS,POST")
        .with("allow: GET,OPTIONS,POST")
        .with("access-control-allow-headers: authorization,harness-target")
        .with("vary: Access-Control-Request-Method, Access-Control-Request-Headers")
        .with("vary: Origin");
    gateway.answers_as("F090", call, expected).await;
    let generated = gateway.answers(&Call::get("/health")).await;
    let id = generated.headers.iter().find(|(name, _)| name == "x-request-id").map(|it| it.1.len());
    assert_eq!(id, Some(36), "F092");
}

#[tokio::test]
async fn a_key_that_is_removed_upstream_is_rejected() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "key_refresh_interval = \"50ms\"").await;
    let call = get(&format!("/client/env/{ENV}/feature-configs/a")).key(&token(&gateway, KEY).await);
    assert_eq!(gateway.answers(&call).await.status, 200);
    cloud.removes_key(ENV, &FakeHarness::hash(KEY));
    eventually(&gateway, &call, "F056: a removed key", |status, _| status == 401).await;
}

#[tokio::test]
async fn configurations_are_served_in_the_format_of_sdks() {
    let cloud = cloud().await;
    let (mut bare, mut old) = (flag("bare", 1), segment("old", 1));
    bare["variationToTargetMap"] = Value::Null;
    bare["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "true"},
        "clauses": [{"id": "c", "attribute": "x", "op": "equal", "values": ["1"]}]}]);
    bare["x-unknown"] = json!(1.0);
    old.as_object_mut().expect("an object").remove("servingRules");
    let mut new = segment("new", 1);
    new.as_object_mut().expect("an object").remove("rules");
    cloud.puts(ENV, [bare.clone(), flag("a", 2)], [segment("s", 1), old.clone(), new]);
    let gateway = started(&cloud, "").await;
    let token = token(&gateway, KEY).await;
    bare["variationToTargetMap"] = json!([]);
    bare["rules"][0]["clauses"][0]["negate"] = json!(false);
    let without = |mut it: Value, property: &str| {
        it.as_object_mut().expect("an object").remove(property);
        it
    };
    let rules = |identifier: &str| without(segment(identifier, 1), "servingRules");
    let serving = |identifier: &str| without(segment(identifier, 1), "rules");
    for prefix in ["", "/api/1.0"] {
        for (row, path, expected) in [
            ("F058 F059 F060", "feature-configs", answer(200, json!([bare, flag("a", 2)]))),
            ("F059", "feature-configs/bare?cluster=1", answer(200, bare.clone())),
            ("F063 F065 F067", "target-segments", answer(200, json!([rules("s"), old, rules("new")]))),
            ("F064", "target-segments?rules=v2", answer(200, json!([serving("s"), old, serving("new")]))),
            ("F066", "target-segments/s", answer(200, rules("s"))),
            ("F066", "target-segments/s?rules=v2", answer(200, serving("s"))),
        ] {
            gateway.answers_as(row, get(&format!("{prefix}/client/env/{ENV}/{path}")).key(&token), expected).await;
        }
    }
    for path in ["feature-configs/none", "target-segments/none"] {
        let answer = gateway.answers(&get(&format!("/client/env/{ENV}/{path}")).key(&token)).await;
        assert_eq!(answer.status, 404, "F061 F066");
        assert!(answer.json()["error"].as_str().is_some_and(|it| it.starts_with("not found: ")), "F061 F066");
    }
}

#[tokio::test]
async fn clients_receive_results() {
    let cloud = cloud().await;
    let mut layout = flag("layout", 1);
    layout["kind"] = json!("json");
    layout["variations"][0]["value"] = json!(r#"{"columns":1}"#);
    let mut broken = flag("broken", 1);
    broken["defaultServe"] = json!({"variation": "nowhere"});
    let mut by_plan = flag("plan", 1);
    by_plan["defaultServe"] = json!({"variation": "false"});
    by_plan["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "true"},
        "clauses": [{"id": "c", "attribute": "plan", "op": "equal", "negate": false, "values": ["pro"]}]}]);
    cloud.puts(ENV, [layout, broken, by_plan], []);
    let gateway = started(&cloud, "").await;
    let token = token(&gateway, KEY).await;
    let entry = |flag: &str, kind: &str, variation: &str, value: &str| json!({"flag": flag, "kind": kind, "identifier": variation, "value": value});
    let all = |plan: &str| {
        let layout = entry("layout", "json", "true", r#"{"columns":1}"#);
        answer(200, json!([entry("broken", "boolean", "", ""), layout, entry("plan", "boolean", plan, plan)]))
    };
    let ask = |target: &str| get(&format!("/client/env/{ENV}/target/{target}/evaluations?cluster=1")).key(&token);
    let one = |flag: &str| get(&format!("/client/env/{ENV}/target/ada/evaluations/{flag}")).key(&token);
    gateway.answers_as("F068 F069 F070 F073", ask("ada"), all("false")).await;
    gateway.answers_as("F068", one("layout"), answer(200, entry("layout", "json", "true", r#"{"columns":1}"#))).await;
    gateway.answers_as("F074", one("none"), error(404, "not found")).await;
    assert_eq!(gateway.answers(&one("broken")).await.status, 500, "F073");

    let target = r#"{"identifier":"ada@example.com","name":"Ada","attributes":{"plan":"pro"}}"#;
    let body = format!(r#"{{"apiKey":"{KEY}","target":{target}}}"#);
    assert_eq!(gateway.answers(&auth(&body)).await.status, 200);
    gateway.answers_as("F071 F075", ask("ada%40example.com"), all("true")).await;
    let header = STANDARD.encode(r#"{"identifier":"x","attributes":{"plan":"free"}}"#);
    gateway.answers_as("F072", ask("ada@example.com").header("Harness-Target", &header), all("false")).await;
    gateway.answers_as("F072", ask("ada@example.com").header("Harness-Target", "%%%"), all("true")).await;
}

#[tokio::test]
async fn health_needs_no_credential() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let are_connected = |_: u16, it: &Value| {
        let mut states = it["environments"].as_array().into_iter().flatten();
        states.all(|it| it["streamStatus"]["state"] == "CONNECTED")
    };
    eventually(&gateway, &get("/health"), "F087: connected streams", are_connected).await;
    let health = gateway.answers(&get("/health")).await.json();
    assert_eq!(health["cacheStatus"], "healthy", "F087");
    let mut ids: Vec<_> =
        health["environments"].as_array().expect("a list").iter().map(|it| it["id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [Some(ENV), Some(OTHER_ENV)], "F087");
    for environment in health["environments"].as_array().expect("a list") {
        assert_eq!(environment["streamStatus"]["state"], "CONNECTED", "F087");
        let since = environment["streamStatus"]["since"].as_u64().expect("a number");
        assert!((1_700_000_000..10_000_000_000).contains(&since), "F087: seconds");
    }
}

#[tokio::test]
async fn before_the_first_sync_no_client_receives_an_empty_list_of_flags() {
    let cloud = cloud().await;
    cloud.goes_down();
    let gateway = crate::running::Running::before_harness(&cloud, &[KEY], "").await;
    gateway.answers_as("F051", auth(&json!({ "apiKey": KEY }).to_string()), error(500, "keys are not known yet")).await;
    cloud.comes_back();
    gateway.wait_until_ready().await;
    token(&gateway, KEY).await;
}

#[tokio::test]
async fn tokens_are_not_needed_where_authentication_is_bypassed() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "bypass_auth = true").await;
    let flags = format!("/client/env/{ENV}/feature-configs");
    gateway.answers_as("F057", get(&flags), answer(200, json!([flag("b", 1), flag("a", 2)]))).await;
    gateway.answers_as("F061", get("/client/env/nobody/feature-configs"), answer(200, json!([]))).await;
    gateway.answers_as("F057", auth(r#"{"apiKey":"nobody"}"#), error(401, "unauthorised")).await;
    assert_eq!(gateway.answers(&get("/stream").header("API-Key", "nobody")).await.status, 404, "F057");
}

#[tokio::test]
async fn an_environment_without_data_answers_with_an_error() {
    let cloud = cloud().await;
    cloud.answers_next("/feature-configs", [500; 1000]);
    let gateway = crate::running::Running::before_harness(&cloud, &[KEY], "").await;
    let exchange = auth(&json!({ "apiKey": KEY }).to_string());
    eventually(&gateway, &exchange, "keys without flags", |status, _| status == 200).await;
    let token = token(&gateway, KEY).await;
    for path in ["feature-configs", "feature-configs/a", "target/t/evaluations", "target/t/evaluations/a"] {
        let call = get(&format!("/client/env/{ENV}/{path}")).key(&token);
        gateway.answers_as("F062", call, error(500, "environment has no data yet")).await;
    }
}
