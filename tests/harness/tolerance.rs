//! Unusual requests of SDKs and unusual events that the vendor's relay accepts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, Connection, until, within};

use super::ff_proxy::online;
use super::{ENV, KEY, cloud, eventually, flag, listens, started, token};
use crate::program::Program;
use crate::running::Running;

/// Returns a flag that is off for targets whose attribute `plan` is `pro`.
fn by_plan() -> Value {
    let mut flag = flag("plan", 1);
    flag["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "false"},
        "clauses": [{"id": "c", "attribute": "plan", "op": "equal", "negate": false, "values": ["pro"]}]}]);
    flag
}

/// Returns JSON with this many levels of nesting.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn evaluation(target: &str) -> Call {
    Call::get(format!("/client/env/{ENV}/target/{target}/evaluations/plan"))
}

async fn value(gateway: &Running, call: &Call) -> Value {
    gateway.answers(call).await.json()["value"].clone()
}

#[tokio::test]
async fn unusual_targets_are_accepted() {
    let cloud = cloud().await;
    cloud.puts(ENV, [by_plan()], []);
    let gateway = started(&cloud, "").await;
    let mine = token(&gateway, KEY).await;
    let plan = r#""attributes":{"plan":"pro"}"#;
    for (index, target) in [
        format!(r#"{{"identifier":"ID",{plan}}}"#),
        format!(r#"{{"identifier":"ID","attributes":{{"plan":"pro","deep":{}}}}}"#, nested(200)),
        format!(r#"{{"identifier":"ID","attributes":{{"deep":{},"plan":"pro"}}}}"#, nested(20_000)),
        format!(r#"{{"identifier":"ID","unknown":{},{plan}}}"#, nested(200)),
        format!(r#"{{"identifier":"x","identifier":"ID",{plan}}}"#),
        format!(r#"{{"identifier":"ID","attributes":{{"plan":"free"}},{plan}}}"#),
        format!(r#"{{"identifier":"ID","name":null,"anonymous":null,{plan}}}"#),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("target{index}");
        let target = target.replace("ID", &name);
        let call = evaluation("unknown").key(&mine).header("Harness-Target", &STANDARD.encode(&target));
        let shown = target.get(..90).unwrap_or(&target);
        assert_eq!(value(&gateway, &call).await, "false", "in a header: {shown}");
        let body = format!(r#"{{"apiKey":"another","apiKey":"{KEY}","target":{target}}}"#);
        assert_eq!(gateway.answers(&Call::post("/client/auth", body)).await.status, 200, "{shown}");
        assert_eq!(value(&gateway, &evaluation(&name).key(&mine)).await, "false", "in a body: {shown}");
        until("a registration", || cloud.registered_targets().iter().any(|it| it.1["identifier"] == name)).await;
    }
    // A target without an identifier is not stored; its attributes are used where they are sent along.
    for target in ["{}", r#"{"identifier":null}"#, r#"{"name":"x"}"#, r#"{"identifier":null,"attributes":null}"#] {
        let body = format!(r#"{{"apiKey":"{KEY}","target":{target}}}"#);
        assert_eq!(gateway.answers(&Call::post("/client/auth", body)).await.status, 200, "{target}");
    }
    for start in ["", r#""identifier":null,"#, r#""identifier":"","#] {
        let target = STANDARD.encode(format!("{{{start}{plan}}}"));
        let call = evaluation("unknown").key(&mine).header("Harness-Target", &target);
        assert_eq!(value(&gateway, &call).await, "false", "{start}");
    }
}

#[tokio::test]
async fn paths_may_contain_invalid_utf_8() {
    let cloud = cloud().await;
    cloud.puts(ENV, [by_plan()], []);
    let gateway = started(&cloud, "").await;
    let mine = token(&gateway, KEY).await;
    for path in ["caf%E9", "%ff%FE", "%c3%28", "%ED%A0%BD"] {
        assert_eq!(value(&gateway, &evaluation(path).key(&mine)).await, "true", "{path}");
        assert_eq!(gateway.answers(&evaluation(path)).await.status, 401, "{path}");
        let call = Call::get(format!("/api/1.0/client/env/{ENV}/feature-configs/{path}")).key(&mine);
        assert_eq!(gateway.answers(&call).await.status, 404, "{path}");
    }
    let start = format!(r#"{{"apiKey":"{KEY}","target":{{"identifier":"caf"#);
    let body = [start.as_bytes(), b"\xe9", br#"","attributes":{"plan":"pro"}}}"#];
    assert_eq!(gateway.answers(&Call::post("/client/auth", body.concat())).await.status, 200);
    assert_eq!(value(&gateway, &evaluation("caf%E9").key(&mine)).await, "false", "the same target in both forms");
}

#[tokio::test]
async fn one_good_token_of_several_is_enough() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mine = token(&gateway, KEY).await;
    let path = format!("/client/env/{ENV}/feature-configs/a");
    for others in [&["Basic eDp5"][..], &["Bearer x.y.z"], &["Basic eDp5", "Bearer x", "Token y"]] {
        let call = others.iter().fold(Call::get(&path), |call, it| call.key(it));
        assert_eq!(gateway.answers(&call).await.status, 401, "{others:?}");
        assert_eq!(gateway.answers(&call.key(&mine)).await.status, 200, "{others:?}");
        let call = Call::get(&path).key(&mine);
        let call = others.iter().fold(call, |call, it| call.key(it));
        assert_eq!(gateway.answers(&call).await.status, 200, "{others:?}");
    }
}

#[tokio::test]
async fn a_deep_event_is_an_event() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    for (version, levels) in [(7, 120), (8, 200), (9, 20_000)] {
        cloud.stores_flag(ENV, &flag("a", version));
        let start = r#""event":"patch","domain":"flag","identifier":"a""#;
        cloud.sends_bytes(ENV, format!("data: {{\"x\":{},{start},\"version\":{version}}}\n\n", nested(levels)));
        let event = within("the event", sdk.receives_event("*")).await;
        assert_eq!((&event["identifier"], &event["version"]), (&json!("a"), &json!(version)), "{levels}");
        let call = Call::get(format!("/client/env/{ENV}/feature-configs/a")).key(&token(&gateway, KEY).await);
        eventually(&gateway, &call, "the change", |_, it| it["version"] == version).await;
    }
}

#[tokio::test]
async fn large_targets_fit_into_the_header_in_place_of_the_other_program() {
    let cloud = cloud().await;
    cloud.puts(ENV, [by_plan()], []);
    let dir = TempDir::new().unwrap();
    let program = Program::launch(online(&cloud, dir.path(), KEY)).await;
    within("`/ready`", program.wait_until_ready()).await;
    let auth = program.answers(&Call::post("/client/auth", json!({ "apiKey": KEY }).to_string())).await;
    let mine = format!("Bearer {}", auth.json()["authToken"].as_str().expect("a token"));
    // The JavaScript SDK sends up to 262,143 characters.
    let target = json!({"identifier": "x", "attributes": {"plan": "pro", "notes": "n".repeat(196_500)}}).to_string();
    let call = evaluation("unknown").key(&mine).header("Harness-Target", &STANDARD.encode(target));
    assert_eq!(program.answers(&call).await.json()["value"], "false");
}

#[tokio::test]
async fn large_targets_are_accepted_and_never_keep_out_small_ones() {
    let cloud = cloud().await;
    cloud.puts(ENV, [by_plan()], []);
    let gateway = started(&cloud, "").await;
    let mine = token(&gateway, KEY).await;
    let auth = |identifier: &str, length: usize| {
        // Mostly text, which is read quickly also without optimization.
        let (numbers, filler) = (vec![7; length / 20], "x".repeat(length * 19 / 10));
        let attributes = json!({"plan": "pro", "numbers": numbers, "filler": filler});
        let target = json!({"identifier": identifier, "attributes": attributes});
        json!({"apiKey": KEY, "target": target}).to_string()
    };
    let large = auth("large", 500_000);
    assert!(large.len() < 1 << 20);
    assert_eq!(gateway.answers(&Call::post("/client/auth", large.clone())).await.status, 200);
    assert_eq!(value(&gateway, &evaluation("large").key(&mine)).await, "false", "its attributes count");
    // Nothing is stored for an unknown key.
    let unknown = large.replace(KEY, "unknown");
    assert_eq!(gateway.answers(&Call::post("/client/auth", unknown)).await.status, 401);
    // Unfinished bodies use up the memory for large ones.
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut connection = Connection::open(gateway.address).await;
        let head = format!("POST /client/auth HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", large.len());
        let _ = connection.try_send(&format!("{head}{}", &large[..large.len() - 1])).await;
        open.push(connection);
    }
    let refused = Call::post("/client/auth", large.clone());
    eventually(&gateway, &refused, "a full memory", |status, _| status == 503).await;
    assert_eq!(gateway.answers(&Call::post("/client/auth", auth("small", 10))).await.status, 200);
    drop(open);
    eventually(&gateway, &refused, "memory again", |status, _| status == 200).await;
}
