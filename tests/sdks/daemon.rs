//! U107: the vendor's SDKs in daemon mode read what the gateway writes, with each database.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{DynamoDbKind, DynamoDbServer, FakeConsul, FakeLaunchDarkly, RedisServer, until};

use super::driven::{Driven, Language};
use super::{ADA, data, flag};
use crate::program::Program;
use crate::running::{ENV_ID, SDK_KEY, Setup};

/// The table in DynamoDB.
pub(crate) const TABLE: &str = "flags";
const PREFIX: &str = "shared";
/// Base64 of SHA-256 of `ada`.
const HASH: &str = "/e5DDUC9V97qwYbNl5ADPQ8G+QmogG585ucXq3x9UCk=";

/// The data of the other tests, with a flag for members of a Big Segment.
fn data_with_big_segment() -> Value {
    let mut data = data();
    let mut gated = flag("gated", 1, &json!("out"));
    gated["variations"] = json!(["in", "out"]);
    gated["rules"] = json!([{"id": "r", "variation": 0, "trackEvents": false, "clauses": [
        {"attribute": "", "op": "segmentMatch", "values": ["big"], "negate": false}]}]);
    data["flags"]["gated"] = gated;
    data["segments"]["big"] = json!({
        "key": "big", "version": 1, "included": [], "excluded": [], "includedContexts": [], "excludedContexts": [],
        "rules": [], "salt": "x", "unbounded": true, "generation": 2, "deleted": false,
    });
    data
}

/// A gateway that fills a database.
async fn filled(cloud: &FakeLaunchDarkly, setup: Setup) -> (Program, TempDir) {
    cloud.puts(SDK_KEY, &data_with_big_segment());
    let revision = json!([{
        "environmentId": ENV_ID, "segmentId": "big.g2", "version": "1", "previousVersion": "",
        "changes": {"included": {"add": [HASH], "remove": []}, "excluded": {"add": [], "remove": []}},
    }]);
    cloud.revises_silently(SDK_KEY, &revision[0]);
    let dir = TempDir::new().expect("a temporary folder");
    setup.set("log.format", "json").environment(json!({"prefix": PREFIX})).write(&cloud.url(), dir.path());
    let mut command = crate::program::command(dir.path());
    command.envs(DynamoDbServer::variables());
    (Program::launch(command).await, dir)
}

/// Starts an SDK on a database that holds the data, and checks what it evaluates before and after a change.
async fn reads_what_is_written(language: Language, address: &str, cloud: &FakeLaunchDarkly, has_members: bool) {
    let mut sdk = Driven::start(language, address, PREFIX).await;
    assert_eq!(sdk.receives("ready").await, true, "{language:?}");
    for (flag, expected) in [("greeting", "hello"), ("segmented", "other"), ("missing", "default")] {
        assert_eq!(
            sdk.answers(&format!("evaluate {flag} {ADA}"), "value").await,
            expected,
            "U107: {language:?} {flag}"
        );
    }
    let eve = r#"{"kind":"user","key":"eve"}"#;
    assert_eq!(sdk.answers(&format!("evaluate segmented {eve}"), "value").await, "out", "U107: {language:?}");
    let expected = if has_members { "in" } else { "out" };
    assert_eq!(sdk.answers(&format!("evaluate gated {ADA}"), "value").await, expected, "U107: {language:?}");
    assert_eq!(sdk.answers(&format!("evaluate gated {eve}"), "value").await, "out", "U107: {language:?}");
    let all = sdk.answers(&format!("all {ADA}"), "all").await;
    assert_eq!(all.as_object().map(serde_json::Map::len), Some(4), "U107: {language:?} {all}");

    // A patch, and a tombstone.
    cloud.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    sdk.eventually_answers(&format!("evaluate greeting {ADA}"), "value", &json!("good morning")).await;
    cloud.deletes(SDK_KEY, "/flags/greeting", 3);
    sdk.eventually_answers(&format!("evaluate greeting {ADA}"), "value", &json!("default")).await;
    sdk.close().await;
    cloud.puts(SDK_KEY, &data_with_big_segment());
}

async fn members_are_written(program: &Program) {
    let status = async || program.answers(&yardarm_testkit::Call::get("/status")).await.json();
    let looks = async {
        while status().await["environments"]["main"]["bigSegmentStatus"]["potentiallyStale"] != false {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    yardarm_testkit::within("Big Segments", looks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_in_daemon_mode_read_redis() {
    let Some(redis) = RedisServer::start() else { return };
    for language in [Language::GoDaemon("redis"), Language::NodeDaemon] {
        if !language.is_installed() {
            return;
        }
        redis.ask(&["FLUSHALL"]);
        let cloud = FakeLaunchDarkly::start().await;
        let (program, _dir) = filled(&cloud, Setup::new().set("launchdarkly.redis.url", redis.url())).await;
        until("the marker", || redis.get(&format!("{PREFIX}:$inited")).is_some()).await;
        members_are_written(&program).await;
        reads_what_is_written(language, &redis.url(), &cloud, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_in_daemon_mode_read_consul() {
    let language = Language::GoDaemon("consul");
    if !language.is_installed() {
        return;
    }
    let (consul, cloud) = (FakeConsul::start(), FakeLaunchDarkly::start().await);
    let (_program, _dir) = filled(&cloud, Setup::new().set("launchdarkly.consul.host", consul.address())).await;
    until("the marker", || consul.get(&format!("{PREFIX}/$inited")).is_some()).await;
    reads_what_is_written(language, consul.address(), &cloud, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sdks_in_daemon_mode_read_dynamodb() {
    for language in [Language::GoDaemon("dynamodb"), Language::PythonDaemon] {
        if !language.is_installed() {
            return;
        }
        let Some(server) = DynamoDbServer::start(DynamoDbKind::Moto) else { return };
        server.create_table(TABLE);
        let cloud = FakeLaunchDarkly::start().await;
        let setup = Setup::new().set("launchdarkly.dynamodb.url", server.url());
        let (program, _dir) = filled(&cloud, setup.set("launchdarkly.dynamodb.table_name", TABLE)).await;
        until("the marker", || !server.items(TABLE, &format!("{PREFIX}:$inited")).is_empty()).await;
        members_are_written(&program).await;
        reads_what_is_written(language, &server.url(), &cloud, true).await;
    }
}
