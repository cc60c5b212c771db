//! Last good data: it is served again while Harness is down, however the process ended.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeHarness, until};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, listens, segment, started, token};
use crate::program::{Program, Signal};
use crate::running::{Running, harness_toml};

const SOON: &str = "flag_poll_interval = \"50ms\"\ntarget_poll_interval = \"50ms\"";

fn path(rest: &str) -> String {
    format!("/client/env/{ENV}/{rest}")
}

fn auth(key: &str) -> Call {
    Call::post("/client/auth", json!({ "apiKey": key }).to_string())
}

async fn report(gateway: &Running, name: &str) -> Value {
    let all = gateway.operator_gets("/api/environments").await.json();
    all["environments"].as_array().expect("a list").iter().find(|it| it["name"] == name).cloned().unwrap_or_default()
}

#[tokio::test]
async fn persisted_data_is_served_until_harness_answers() {
    let cloud = cloud().await;
    cloud.adds_key(ENV, &FakeHarness::hash("listed"));
    let mut by_plan = flag("by-plan", 1);
    by_plan["rules"] = json!([{
        "ruleId": "r", "priority": 1, "serve": {"variation": "false"},
        "clauses": [{"id": "c", "attribute": "plan", "op": "equal", "negate": false, "values": ["free"]}],
    }]);
    cloud.changes_flag(ENV, &by_plan);
    cloud.sets_targets(ENV, [json!({"identifier": "ada", "name": "Ada", "attributes": {"plan": "free"}})]);
    let gateway = started(&cloud, SOON).await;
    let mine = token(&gateway, KEY).await;
    let result = Call::get(path("target/ada/evaluations/by-plan")).key(&mine);
    eventually(&gateway, &result, "the target's attributes", |_, it| it["value"] == "false").await;
    let paths = ["feature-configs", "target-segments", "target-segments?rules=v2", "feature-configs/a"].map(path);
    let mut before = Vec::new();
    for path in &paths {
        before.push(gateway.answers(&Call::get(path.as_str()).key(&mine)).await.json());
    }

    cloud.goes_down();
    let gateway = gateway.restarted().await;
    for (path, before) in paths.iter().zip(before) {
        let answer = gateway.answers(&Call::get(path.as_str()).key(&mine)).await;
        assert_eq!((answer.status, answer.json()), (200, before), "F047 {path}");
    }
    assert_eq!(gateway.answers(&result).await.json()["value"], "false", "targets are kept too");
    token(&gateway, "listed").await;
    assert_eq!(gateway.answers(&auth("nobody")).await.status, 401, "all keys are known from disk");
    let stream = Call::get("/stream").key(&mine).header("API-Key", KEY);
    assert_eq!(gateway.answers(&stream).await.status, 503, "SDKs poll while the gateway receives nothing");
    assert_eq!(report(&gateway, "prod").await["is_stale"], true);

    // Changes made meanwhile are served as soon as Harness answers and streams are open.
    cloud.stores_flag(ENV, &flag("a", 9));
    cloud.comes_back();
    let flag_a = Call::get(path("feature-configs/a")).key(&mine);
    eventually(&gateway, &flag_a, "the newest data", |_, it| it["version"] == 9).await;
    let mut sdk = listens(&gateway, KEY).await;
    assert_eq!(report(&gateway, "prod").await["is_stale"], false);
    cloud.changes_segment(ENV, &segment("s", 5));
    assert_eq!(sdk.receives_event("*").await["identifier"], "a", "what it missed");
    assert_eq!(sdk.receives_event("*").await["identifier"], "s");
}

#[tokio::test]
async fn a_key_that_moved_leaves_its_old_environment() {
    let cloud = cloud().await;
    let gateway = Running::before_harness(&cloud, &[KEY], SOON).await;
    gateway.wait_until_ready().await;
    let mine = token(&gateway, KEY).await;
    let moved = "0a1b2c3d-4e5f-4000-8000-00000000cccc";
    cloud.goes_down();
    cloud.adds_environment(moved, "moved", [KEY]);
    cloud.puts(moved, [flag("new", 1)], []);
    let gateway = gateway.restarted().await;
    assert_eq!(gateway.answers(&Call::get(path("feature-configs/a")).key(&mine)).await.status, 200);
    cloud.comes_back();
    let old = Call::get(path("feature-configs/a")).key(&mine);
    eventually(&gateway, &old, "the end of the old environment", |status, _| status == 401).await;
    let fresh = Call::get(format!("/client/env/{moved}/feature-configs/new")).key(&token(&gateway, KEY).await);
    eventually(&gateway, &fresh, "the new environment", |status, _| status == 200).await;
    cloud.goes_down();
    let gateway = gateway.restarted().await;
    assert_eq!(gateway.answers(&fresh).await.status, 200);
    assert_eq!(report(&gateway, "prod").await, Value::Null, "of the old one nothing is kept");
}

async fn serves(program: &Program, call: &Call, version: i64) {
    let asks = async {
        while program.answers(call).await.json()["version"] != version {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    yardarm_testkit::within("the newest data", asks).await;
}

#[tokio::test]
async fn a_killed_process_has_lost_nothing() {
    let cloud = cloud().await;
    let folder = TempDir::new().expect("a folder");
    let toml = harness_toml(folder.path(), &cloud, &[KEY], SOON);
    std::fs::write(folder.path().join("yardarm.toml"), format!("log.format = \"json\"\n{toml}")).expect("a file");
    let program = Program::start(folder.path()).await;
    program.wait_until_ready().await;
    let mine = format!("Bearer {}", program.answers(&auth(KEY)).await.json()["authToken"].as_str().expect("a token"));
    let flag_a = Call::get(path("feature-configs/a")).key(&mine);
    // Data that was never written cannot survive.
    let store = folder.path().join("data/store.redb");
    let is_kept = || std::fs::read(&store).is_ok_and(|it| it.windows(9).any(|it| it == b"\"feature\""));
    until("the first data on disk", is_kept).await;
    // Killed repeatedly, at random moments, while data changes.
    let mut program = program;
    for version in 3..8 {
        cloud.changes_flag(ENV, &flag("a", version));
        serves(&program, &flag_a, version).await;
        tokio::time::sleep(std::time::Duration::from_millis(u64::try_from(version).expect("small") * 60)).await;
        program.signal(Signal::KILL);
        program.ends().await;
        cloud.goes_down();
        program = Program::start(folder.path()).await;
        program.wait_until_ready().await;
        let answer = program.answers(&flag_a).await;
        assert_eq!(answer.status, 200, "F047: neither data nor secret is lost: {:#?}", program.log());
        let kept = answer.json()["version"].as_i64().expect("a version");
        assert!((2..=version).contains(&kept), "{kept}");
        cloud.comes_back();
        serves(&program, &flag_a, version).await;
    }
    program.signal(Signal::TERM);
    assert!(program.ends().await.0.success());
}

#[tokio::test]
async fn pending_and_rejected_keys_are_shown() {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [KEY]);
    cloud.puts(ENV, [flag("a", 1)], []);
    let gateway = Running::before_harness(&cloud, &[KEY, OTHER_KEY], "").await;
    gateway.wait_until_ready().await;
    let refused = yardarm_testkit::within("the refused key", async {
        loop {
            let it = report(&gateway, "environments[1]").await;
            if it["phase"] == "rejected" {
                return it;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!((&refused["connection"], &refused["last_error"]["status"]), (&json!("off"), &json!(401)), "F017");
    assert_eq!(gateway.answers(&auth("nobody")).await.status, 401, "a rejected key is not waited for");
    assert_eq!(report(&gateway, "prod").await["phase"], "ready");
    assert!(!cloud.gets("/stream").is_empty() && cloud.gets(OTHER_ENV).is_empty());
}

#[tokio::test]
async fn keys_are_authenticated_in_configured_order() {
    let cloud = FakeHarness::start().await;
    let keys: Vec<String> = (0..12).map(|it| format!("key-{it:02}")).collect();
    for (index, key) in keys.iter().enumerate() {
        cloud.adds_environment(&format!("env-{index}"), &format!("e{index}"), [key.as_str()]);
    }
    let list: Vec<&str> = keys.iter().map(String::as_str).collect();
    let gateway = Running::before_harness(&cloud, &list, "").await;
    gateway.wait_until_ready().await;
    let first = |it: &Value| it.get("target").is_some();
    let sent: Vec<_> = cloud.posts("/client/auth").iter().map(yardarm_testkit::Recorded::json).filter(first).collect();
    let sent: Vec<_> = sent.iter().filter_map(|it| it["apiKey"].as_str()).collect();
    assert_eq!(sent, list, "F001");
}

#[tokio::test]
async fn streams_of_a_withdrawn_key_end() {
    let cloud = cloud().await;
    cloud.adds_key(ENV, &FakeHarness::hash("second"));
    let gateway = started(&cloud, "").await;
    token(&gateway, "second").await;
    cloud.removes_key(ENV, &FakeHarness::hash("second"));
    // The list of keys is delayed, so for a while the one from disk counts.
    cloud.delays("/admin/apikey", std::time::Duration::from_secs(5));
    let gateway = gateway.restarted().await;
    let mut sdk = listens(&gateway, "second").await;
    sdk.receives_end().await;
    assert_eq!(gateway.answers(&auth("second")).await.status, 401, "F056");
}

#[tokio::test]
async fn a_poll_without_changes_writes_nothing() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "stream_enabled = false\nflag_poll_interval = \"20ms\"").await;
    let file = gateway.folder().join("data/store.redb");
    let polls = || cloud.gets(&format!("/client/env/{ENV}/feature-configs")).len();
    let written = || std::fs::metadata(&file).and_then(|it| it.modified()).ok();
    // The first data may be written in more than one step.
    let mut seen = (written(), polls());
    until("the first data on disk, and rest", || {
        if seen.0.is_none() || written() != seen.0 {
            seen = (written(), polls());
        }
        polls() > seen.1 + 40
    })
    .await;
    cloud.stores_flag(ENV, &flag("a", 9));
    until("the change on disk", || written() != seen.0).await;
}
