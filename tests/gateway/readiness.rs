//! `/ready`: whether a gateway has data to serve. Once ready, it stays ready.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeHarness, FakeLaunchDarkly, RedisServer, StreamAnswer};

use crate::flags::{data, flag, put, some_data};
use crate::running::{Running, SDK_KEY, Setup, common_toml};

/// Returns status and body.
pub(super) async fn ready(gateway: &Running) -> (u16, String) {
    let answer = gateway.operator_gets("/ready").await;
    (answer.status, answer.text().to_owned())
}

/// Waits until the body contains a text; returns it.
async fn waits_for(gateway: &Running, part: &str) -> String {
    let mut body = String::new();
    let asks = async {
        loop {
            let (status, text) = ready(gateway).await;
            body = text;
            if body.contains(part) {
                assert_eq!(status, 503, "{body}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(yardarm_testkit::WAIT_TIMEOUT, asks).await.is_ok(), "`{part}` in {body}");
    // Not only for a moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ready(gateway).await.0, 503, "{body}");
    assert_eq!(gateway.operator_gets("/live").await.status, 200, "a restart would not help");
    body
}

fn two() -> Setup {
    let environments = [json!({"name": "one", "sdk_key": "sdk-1"}), json!({"name": "two", "sdk_key": "sdk-2"})];
    Setup::new().environments(environments).set("launchdarkly.init_timeout", "50ms").without_waiting()
}

#[tokio::test]
async fn readiness_waits_for_every_environment_without_a_time_limit() {
    let gateway = two().data("sdk-1", some_data()).start().await;
    // Long after the time in which new streams have to wait.
    let reports = async || gateway.operator_gets("/api/environments").await.json()["environments"].clone();
    while reports().await.as_array().is_none_or(|all| all.iter().all(|it| it["phase"] != "empty")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(waits_for(&gateway, "two").await, "waiting for: launchdarkly/two (initializing)\n");
    gateway.upstream.puts("sdk-2", &data([flag("x", 1)], []));
    gateway.wait_until_ready().await;
    // Last good data is still served.
    gateway.upstream.goes_down();
    gateway.upstream.answers_streams_with([StreamAnswer::Status(401), StreamAnswer::Status(401)]);
    gateway.upstream.comes_back();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ready(&gateway).await.0, 200);
}

#[tokio::test]
async fn rejected_keys_do_not_delay_readiness_while_others_are_served() {
    // The fake does not know the second environment, and answers 401.
    let cloud = FakeLaunchDarkly::start().await;
    cloud.add_environment("sdk-1");
    let mut setup = two();
    setup = setup.cloud(&cloud);
    let gateway = unfilled(setup, &cloud).await;
    waits_for(&gateway, "launchdarkly/two (off; last error: ").await;
    assert!(ready(&gateway).await.1.contains("launchdarkly/one (initializing)"), "a valid environment is waited for");
    cloud.puts("sdk-1", &some_data());
    gateway.wait_until_ready().await;
    let (_, body) = ready(&gateway).await;
    assert!(body.starts_with("ready\nwithout: launchdarkly/two (off; last error: ") && body.contains("401"), "{body}");
}

#[tokio::test]
async fn a_gateway_with_rejected_keys_only_is_not_ready() {
    let cloud = FakeLaunchDarkly::start().await;
    let gateway = unfilled(two().cloud(&cloud), &cloud).await;
    let body = waits_for(&gateway, "launchdarkly/two (off; last error: ").await;
    let lines: Vec<_> = body.lines().collect();
    assert_eq!(lines.len(), 2, "{body}");
    assert!(lines.iter().all(|it| it.starts_with("waiting for: launchdarkly/")), "{body}");
    let status = gateway.operator_gets("/api/status").await.json();
    assert_eq!((&status["is_ready"], status["waiting_for"].as_array().map(Vec::len)), (&json!(false), Some(2)));
}

/// Starts a gateway with an upstream that knows only the environments that were added before.
async fn unfilled(setup: Setup, cloud: &FakeLaunchDarkly) -> Running {
    let dir = TempDir::new().unwrap();
    setup.write(&cloud.url(), dir.path());
    Running::in_folder(dir).await
}

#[tokio::test]
async fn a_setting_decides_what_readiness_requires() {
    for (policy, before, after) in [("all", 503, 503), ("any", 503, 200), ("started", 200, 200)] {
        let gateway = two().set("admin.ready", policy).start().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(ready(&gateway).await.0, before, "{policy}");
        gateway.upstream.puts("sdk-1", &some_data());
        let has_data = async || {
            let reports = gateway.operator_gets("/api/environments").await.json();
            reports["environments"].as_array().is_some_and(|all| all.iter().any(|it| it["phase"] == "ready"))
        };
        while !has_data().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(ready(&gateway).await.0, after, "{policy}");
    }
}

#[tokio::test]
async fn a_gateway_behind_a_gateway_without_data_has_none_either() {
    let first = Setup::new().set("launchdarkly.init_timeout", "20ms").start().await;
    let dir = TempDir::new().unwrap();
    let text = format!(
        "{}\n[launchdarkly]\nstream_uri = \"{}\"\ninit_timeout = \"20ms\"\n[[launchdarkly.environments]]\nname = \"main\"\nsdk_key = \"{SDK_KEY}\"\n",
        common_toml(dir.path()),
        first.url()
    );
    std::fs::write(dir.path().join("yardarm.toml"), text).unwrap();
    let second = Running::in_folder(dir).await;
    waits_for(&second, "launchdarkly/main").await;
    first.upstream.puts(SDK_KEY, &some_data());
    second.wait_until_ready().await;
}

#[tokio::test]
async fn data_from_disk_makes_a_gateway_ready() {
    let dir = TempDir::new().unwrap();
    let kept = dir.path().join("data");
    let cloud = FakeLaunchDarkly::start().await;
    let setup = || Setup::with(some_data()).cloud(&cloud).set("data.dir", kept.to_str().unwrap());
    let gateway = setup().start().await;
    gateway.stop().await;
    cloud.goes_down();
    let gateway = setup().without_waiting().start().await;
    gateway.wait_until_ready().await;
    assert_eq!(gateway.operator_gets("/api/environments").await.json()["environments"][0]["is_stale"], true);
}

#[tokio::test]
async fn data_from_the_database_makes_a_gateway_ready() {
    let Some(redis) = RedisServer::start() else { return };
    let cloud = FakeLaunchDarkly::start().await;
    let setup = |setup: Setup| {
        let setup = setup.set("launchdarkly.redis.url", redis.url()).set("launchdarkly.redis.poll_interval", "50ms");
        setup.cloud(&cloud).set("launchdarkly.init_timeout", "50ms").without_waiting()
    };
    let gateway = setup(Setup::with(some_data())).start().await;
    gateway.wait_until_ready().await;
    yardarm_testkit::until("the data in Redis", || redis.get("launchdarkly:$inited").is_some()).await;
    gateway.stop().await;

    // No data folder, and an upstream that answers 503, or not at all.
    cloud.goes_down();
    for stream_uri in [cloud.url(), "http://127.0.0.1:9".to_owned()] {
        let gateway = setup(Setup::new()).set("launchdarkly.stream_uri", stream_uri.as_str()).start().await;
        gateway.wait_until_ready().await;
        assert_eq!(ready(&gateway).await, (200, "ready\n".to_owned()), "{stream_uri}");
        let report = gateway.operator_gets("/api/environments").await.json()["environments"][0].clone();
        assert_eq!((&report["is_stale"], &report["phase"]), (&json!(true), &json!("ready")), "{report}");
        gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
        let flags = gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
        assert_eq!((flags.status, flags.json()), (200, some_data()["flags"].clone()), "{stream_uri}");
        gateway.stop().await;
    }

    // With an empty database readiness waits, until another gateway has filled it.
    redis.ask(&["FLUSHALL"]);
    let gateway = setup(Setup::new()).start().await;
    waits_for(&gateway, "launchdarkly/main (").await;
    let filling = Setup::with(some_data()).set("launchdarkly.redis.url", redis.url()).start().await;
    gateway.wait_until_ready().await;
    filling.stop().await;
}

#[tokio::test]
async fn the_list_of_environments_is_waited_for_and_those_that_come_later_are_not() {
    use crate::launchdarkly::auto_config as auto;
    let gateway = auto::setup().data("sdk-a", some_data()).start().await;
    waits_for(&gateway, "the list of environments").await;
    gateway.upstream.lists(auto::AUTO_KEY, &auto::list([]));
    waits_for(&gateway, "any environment: none is known").await;
    gateway.upstream.lists(auto::AUTO_KEY, &auto::list([auto::main(1, "sdk-a")]));
    gateway.wait_until_ready().await;
    gateway.upstream.add_environment("sdk-b");
    let later = auto::environment("507f1f77bcf86cd79943902b", 1, json!({"value": "sdk-b"}), json!({}));
    gateway.upstream.lists(auto::AUTO_KEY, &auto::list([auto::main(1, "sdk-a"), later]));
    let count =
        async || gateway.operator_gets("/api/environments").await.json()["environments"].as_array().map(Vec::len);
    while count().await != Some(2) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, body) = ready(&gateway).await;
    assert_eq!(status, 200);
    assert_eq!(body, "ready\nwithout: launchdarkly/507f1f77bcf86cd79943902b (initializing)\n");
}

#[tokio::test]
async fn offline_data_without_environments_is_not_ready() {
    let dir = TempDir::new().unwrap();
    let (file, folder) = (dir.path().join("archive.tar.gz"), dir.path().join("config"));
    crate::launchdarkly::offline::write_empty_archive(&file);
    std::fs::create_dir(&folder).unwrap();
    let text = format!(
        "{}\n[launchdarkly.offline]\nfile = {file:?}\n[harness.offline]\ndir = {folder:?}\n",
        common_toml(dir.path())
    );
    std::fs::write(dir.path().join("yardarm.toml"), text).unwrap();
    let gateway = Running::in_folder(dir).await;
    waits_for(&gateway, "any environment: none is known").await;
    assert_eq!(health(&gateway).await, (503, json!({"environments": [], "cacheStatus": "healthy"})));
}

/// Requests the health check of Harness' relay.
async fn health(gateway: &Running) -> (u16, Value) {
    let answer = gateway.answers(&Call::get("/health")).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn an_only_harness_key_that_is_refused_is_not_ready() {
    let cloud = FakeHarness::start().await;
    let gateway = Running::before_harness(&cloud, &["unknown-key"], "").await;
    let body = waits_for(&gateway, "(off; last error: ").await;
    assert!(body.starts_with("waiting for: harness/environments[0] (off; last error: "), "{body}");
    assert_eq!(health(&gateway).await, (503, json!({"environments": [], "cacheStatus": "healthy"})), "version 1");
}

#[tokio::test]
async fn an_environment_of_harness_is_waited_for_by_its_name() {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment("e1", "prod", ["key-1"]);
    cloud.delays("/feature-configs", Duration::from_secs(2));
    let gateway = Running::before_harness(&cloud, &["key-1"], "").await;
    waits_for(&gateway, "harness/prod (").await;
    let (status, body) = health(&gateway).await;
    assert_eq!((status, &body["environments"][0]["id"]), (503, &json!("e1")), "{body}");
    gateway.wait_until_ready().await;
    assert_eq!(health(&gateway).await.0, 200);
}

#[tokio::test]
async fn a_proxy_key_without_environments_is_not_ready() {
    let cloud = FakeHarness::start().await;
    cloud.adds_proxy("proxy-key-1", [] as [&str; 0]);
    let gateway = Running::before_harness_proxy(&cloud, "proxy-key-1", "flag_poll_interval = \"50ms\"").await;
    waits_for(&gateway, "any environment: none is known").await;
    assert_eq!(health(&gateway).await, (500, json!({"error": "internal error"})), "version 2");
    cloud.adds_environment("e1", "prod", ["key-1"]);
    cloud.adds_to_proxy("proxy-key-1", "e1");
    gateway.wait_until_ready().await;
    let (status, body) = health(&gateway).await;
    assert_eq!((status, &body["configStatus"]["state"]), (200, &json!("SYNCED")), "{body}");
    assert!(body["streamStatus"]["since"].as_u64() > Some(1_500_000_000_000), "milliseconds: {body}");
}
