//! Few file descriptors: clients never use the last ones, which probes and upstream need.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, Connection, FakeLaunchDarkly, within};

use crate::flags::{flag, some_data};
use crate::program::Program;
use crate::running::{SDK_KEY, Setup};

async fn program(limit: u32, settings: &[(&str, Value)]) -> (Program, FakeLaunchDarkly, TempDir) {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().expect("a temporary folder");
    let mut setup = Setup::with(some_data()).events().set("log.format", "json");
    for (key, value) in settings {
        setup = setup.set(key, value.clone());
    }
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let line = format!("ulimit -n {limit}; exec \"$0\" run");
    let program = Program::start_through(dir.path(), &line).await;
    within("`/ready`", program.wait_until_ready()).await;
    (program, cloud, dir)
}

#[tokio::test]
async fn a_flood_of_connections_reaches_neither_probes_nor_upstream() {
    let (program, cloud, _dir) = program(128, &[]).await;
    let mut stream = program.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    // Far more than there are descriptors; connections that are not accepted wait in the backlog.
    let mut flood = Vec::new();
    for index in 0..200 {
        let mut connection = Connection::open(program.address).await;
        if index % 5 == 0 {
            let _ = connection.try_send("GET /status HTTP/1.1\r\nHost: a\r\n").await;
        }
        flood.push(connection);
    }
    for _ in 0..5 {
        assert_eq!(program.operator_gets("/live").await.status, 200);
        assert_eq!(program.operator_gets("/ready").await.status, 200);
    }
    // The connection to upstream breaks and is opened again, and events arrive there.
    let before = cloud.stream_requests().len();
    cloud.closes_streams(SDK_KEY);
    within("a new connection to upstream", async {
        while cloud.stream_requests().len() == before || cloud.open_streams(SDK_KEY) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    stream.receives_event("put").await;
    cloud.patches(SDK_KEY, &flag("plain", 4));
    stream.receives_event("patch").await;
    let post = Call::post("/bulk", r#"[{"kind":"identify","creationDate":1,"context":{"kind":"user","key":"ada"}}]"#)
        .key(SDK_KEY);
    let post = post.header("X-LaunchDarkly-Event-Schema", "4");
    let answer = within("a turn among the others", program.answers(&post)).await;
    assert_eq!(answer.status, 202);
    within("the event upstream", async {
        while cloud.posts("/bulk").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let status = program.operator_gets("/api/status").await.json();
    assert_eq!(status["connections"]["limits"]["open_files"], 128);
    let open = status["connections"]["open"].as_u64().expect("a number");
    assert!(open <= 64, "{status}");
    assert!(!program.has_logged("Too many open files"), "{:#?}", program.log());
    drop(flood);
}

#[tokio::test]
async fn a_low_limit_on_files_is_a_warning_with_both_numbers_and_the_fix() {
    let settings = [("server.max_connections", json!(5000)), ("server.max_streams", json!(4000))];
    let (program, _cloud, _dir) = program(256, &settings).await;
    let log = program.log();
    let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let warnings: Vec<_> = lines.filter(|it| it["level"] == "WARN" && it["open_files"] == 256).collect();
    assert_eq!(warnings.len(), 1, "{log:#?}");
    let warning = &warnings[0];
    assert_eq!((&warning["max_connections"], &warning["connections"]), (&json!(5000), &json!(192)));
    assert_eq!((&warning["max_streams"], &warning["streams"]), (&json!(4000), &json!(173)));
    let text = warning["message"].as_str().expect("a message");
    assert!(text.contains("6024") && text.contains("ulimit -n"), "{text}");
    let limits = program.operator_gets("/api/status").await.json()["connections"]["limits"].clone();
    assert_eq!(limits, json!({"open_files": 256, "connections": 192, "streams": 173, "operators": 16}));
    let metrics = program.operator_gets("/metrics").await.text().to_owned();
    assert!(metrics.contains("\nyardarm_connections_limit 192\n"), "{metrics}");
    assert!(metrics.contains("\nyardarm_streams_limit 173\n"), "{metrics}");
}

#[tokio::test]
async fn enough_files_are_no_reason_for_a_warning() {
    let settings = [("server.max_connections", json!(100)), ("server.max_streams", json!(80))];
    let (program, _cloud, _dir) = program(512, &settings).await;
    assert!(!program.has_logged("limit of open files"), "{:#?}", program.log());
}
