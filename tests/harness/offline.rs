//! Offline mode: environments are read from a folder, and nothing is sent upstream.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeHarness};

use super::{ENV, KEY, eventually, flag, segment, token};
use crate::program;
use crate::running::{Running, common_toml};

/// Writes one environment in the format of the vendor's relay.
pub(super) fn writes(folder: &Path, id: &str, files: &[(&str, Value)]) {
    let folder = folder.join(format!("env-{id}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.join(name), content.to_string()).expect("a file");
    }
}

fn toml(dir: &Path, cloud: &FakeHarness) -> String {
    let url = cloud.url();
    format!(
        r#"{common}
        [harness]
        client_service = "{url}/api/1.0"
        admin_service = "{url}/gateway/cf"
        metric_service = "{url}/api/1.0"
        metric_post_interval = "20ms"
        offline.dir = {config:?}
        offline.monitoring_interval = "20ms"
        "#,
        common = common_toml(dir),
        config = dir.join("config"),
    )
}

pub(super) async fn started(cloud: &FakeHarness, dir: TempDir) -> Running {
    std::fs::write(dir.path().join("yardarm.toml"), toml(dir.path(), cloud)).expect("a file");
    let gateway = Running::in_folder(dir).await;
    gateway.wait_until_ready().await;
    gateway
}

#[tokio::test]
async fn a_folder_is_served_and_nothing_is_sent_upstream() {
    let cloud = FakeHarness::start().await;
    let dir = TempDir::new().expect("a folder");
    let config = dir.path().join("config");
    let mut by_plan = flag("by-plan", 1);
    by_plan["variationToTargetMap"] = json!([{"variation": "false", "targetSegments": ["s"]}]);
    let target = json!({"identifier": "ben", "name": "Ben", "attributes": {"plan": "x", "city": "x"}});
    writes(
        &config,
        ENV,
        &[
            ("auth_config.json", json!([FakeHarness::hash(KEY), FakeHarness::hash("second")])),
            ("feature_config.json", json!([flag("a", 2), by_plan])),
            ("segments.json", json!([segment("s", 1)])),
            ("targets.json", json!([target])),
        ],
    );
    let gateway = started(&cloud, dir).await;
    let mine = token(&gateway, KEY).await; // F096
    token(&gateway, "second").await;
    let unknown = Call::post("/client/auth", r#"{"apiKey":"nobody"}"#);
    assert_eq!(gateway.answers(&unknown).await.status, 401, "F096");
    let ask = |rest: &str| Call::get(format!("/client/env/{ENV}/{rest}")).key(&mine);
    assert_eq!(gateway.answers(&ask("feature-configs/a")).await.json(), flag("a", 2), "F096");
    assert_eq!(gateway.answers(&ask("target-segments/s?rules=v2")).await.status, 200, "F096");
    for (target, value) in [("ada", "false"), ("ben", "false"), ("eve", "true")] {
        let answer = gateway.answers(&ask(&format!("target/{target}/evaluations/by-plan"))).await;
        assert_eq!(answer.json()["value"], value, "F096 {target}");
    }
    // Targets are stored and not forwarded, metrics accepted and dropped.
    let presents = json!({"apiKey": KEY, "target": {"identifier": "eve", "attributes": {"plan": "x", "city": "x"}}});
    assert_eq!(gateway.answers(&Call::post("/client/auth", presents.to_string())).await.status, 200, "F097");
    assert_eq!(gateway.answers(&ask("target/eve/evaluations/by-plan")).await.json()["value"], "false", "F097");
    let metrics = json!({"metricsData": [{"timestamp": 1, "count": 1, "metricsType": "FFMETRICS", "attributes": []}]});
    let post = Call::post(format!("/metrics/{ENV}"), metrics.to_string()).key(&mine);
    assert_eq!(gateway.answers(&post).await.status, 200, "F097");
    let stream = gateway.answers(&Call::get("/stream").key(&mine).header("API-Key", KEY)).await;
    assert_eq!(stream.status, 501, "F083");
    let health = gateway.answers(&Call::get("/health")).await.json();
    assert_eq!(health, json!({"environments": [], "cacheStatus": "healthy"}), "F096");

    // The folder changes: a new flag, a removed key, a new environment.
    writes(&gateway.folder().join("config"), ENV, &[("feature_config.json", json!([flag("a", 3)]))]);
    eventually(&gateway, &ask("feature-configs/a"), "the new flag", |_, it| it["version"] == 3).await;
    writes(&gateway.folder().join("config"), ENV, &[("feature_config.json", json!({"broken": true}))]);
    let keys = json!([FakeHarness::hash("other")]);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(gateway.answers(&ask("feature-configs/a")).await.json()["version"], 3, "F098: the last good data");
    writes(&gateway.folder().join("config"), "new", &[("auth_config.json", keys)]);
    writes(
        &gateway.folder().join("config"),
        ENV,
        &[("feature_config.json", Value::Null), ("auth_config.json", json!([FakeHarness::hash("second")]))],
    );
    eventually(&gateway, &ask("feature-configs"), "F056: the end of the key", |status, _| status == 401).await;
    token(&gateway, "other").await;
    let second = token(&gateway, "second").await;
    let flags = gateway.answers(&Call::get(format!("/client/env/{ENV}/feature-configs")).key(&second)).await;
    assert_eq!((flags.status, flags.json()), (200, json!([])), "F098: null is empty");
    std::fs::remove_dir_all(gateway.folder().join(format!("config/env-{ENV}"))).expect("a folder");
    let call = Call::get(format!("/client/env/{ENV}/feature-configs")).key(&second);
    eventually(&gateway, &call, "the end of the environment", |status, _| status == 401).await;
    gateway.stop().await;
    assert_eq!(cloud.requests().len(), 0, "F097");
}

#[tokio::test]
async fn an_unusable_folder_fails_the_start_and_is_named() {
    let cloud = FakeHarness::start().await;
    for (file, text) in [("feature_config.json", "[{"), ("segments.json", "{}"), ("auth_config.json", "[7]")] {
        let dir = TempDir::new().expect("a folder");
        let folder = dir.path().join("config/env-x");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(file), text).expect("a file");
        std::fs::write(dir.path().join("yardarm.toml"), toml(dir.path(), &cloud)).expect("a file");
        let output = program::run(dir.path(), &["run"]);
        assert_eq!(output.status.code(), Some(78), "F098 {file}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("env-x/{file}")) && text.contains("harness.offline.dir"), "F098 {text}");
    }
    assert!(cloud.requests().is_empty(), "F097");
}
