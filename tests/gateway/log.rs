//! The log never blocks the gateway, whatever happens to its readers.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;
use yardarm_testkit::{Call, FakeLaunchDarkly, within};

use crate::flags::{flag, put, some_data};
use crate::plugins::{self, gate, sample};
use crate::program::{Program, Reading, Signal, command};
use crate::running::{SDK_KEY, Setup};
use crate::sdk::Sdk;

/// Token of operators.
const TOKEN: &str = "an-operator-token-of-the-test";

/// Starts a gateway with the most verbose log, with an open stream.
async fn talkative() -> (Program, Sdk, FakeLaunchDarkly, TempDir) {
    with_level("trace").await
}

async fn with_level(level: &str) -> (Program, Sdk, FakeLaunchDarkly, TempDir) {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let mut setup = Setup::with(some_data()).set("log.format", "json").set("log.level", level);
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    let mut stream = program.opens_when_ready("/all", SDK_KEY).await;
    stream.receives("put", put(some_data())).await;
    (program, stream, cloud, dir)
}

async fn dropped(program: &Program) -> u64 {
    let text = program.operator_gets("/metrics").await.text().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("yardarm_log_lines_dropped_total ")).unwrap();
    line.parse().unwrap()
}

/// Makes the gateway log until lines are dropped.
async fn overflow(program: &Program) {
    let call = Call::get(format!("/sdk/flags/{}", "x".repeat(4000))).key(SDK_KEY);
    let started = Instant::now();
    while dropped(program).await == 0 {
        futures_util::future::join_all((0..50).map(|_| program.answers(&call))).await;
        assert!(started.elapsed() < Duration::from_secs(100), "the queue of the log has no limit");
    }
}

#[tokio::test]
async fn an_unread_log_blocks_neither_patches_nor_shutdown() {
    let (program, mut stream, cloud, _dir) = talkative().await;
    program.reads(Reading::Paused);
    overflow(&program).await;
    cloud.patches(SDK_KEY, &flag("plain", 4));
    assert_eq!(stream.receives_event("patch").await["data"]["version"], 4);
    let signalled = Instant::now();
    program.signal(Signal::TERM);
    stream.receives_end().await;
    let (status, _) = program.ends().await;
    assert_eq!(status.code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(15), "{:?}", signalled.elapsed());
}

#[tokio::test]
async fn a_reader_that_resumes_receives_the_missed_lines() {
    let (program, mut stream, cloud, _dir) = talkative().await;
    program.reads(Reading::Paused);
    overflow(&program).await;
    program.reads(Reading::On);
    let message = "log lines were dropped while nothing read the log";
    yardarm_testkit::until("the line about dropped lines", || program.has_logged(message)).await;
    cloud.patches(SDK_KEY, &flag("plain", 4));
    assert_eq!(stream.receives_event("patch").await["data"]["version"], 4);
    let total = dropped(&program).await;
    program.signal(Signal::TERM);
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0));
    let records: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).expect("whole lines")).collect();
    let counts: u64 = records.iter().filter(|it| it["message"] == message).filter_map(|it| it["lines"].as_u64()).sum();
    assert!(counts > 0 && counts >= total, "{counts} of {total}");
    assert!(log.iter().any(|line| line.contains("\"clean\":true")), "the end is in it");
}

#[tokio::test]
async fn lines_name_the_environment_the_host_and_the_caller() {
    let (program, _stream, cloud, dir) = with_level("info,yardarm_vendor=debug").await;
    let records = |message: &str| -> Vec<Value> {
        let all = program.log();
        let all = all.iter().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        all.filter(|it| it["message"] == message).collect()
    };
    cloud.closes_streams(SDK_KEY);
    for message in ["connected to upstream", "upstream stream interrupted", "reconnecting to upstream"] {
        yardarm_testkit::until(message, || !records(message).is_empty()).await;
        let record = &records(message)[0];
        assert_eq!(record["environment"], "launchdarkly/main", "{record}");
        assert_eq!(
            (&record["upstream"], &record["task"]),
            (&"127.0.0.1".into(), &"upstream stream".into()),
            "{record}"
        );
    }
    let call = Call::get("/sdk/flags/plain").key(SDK_KEY);
    let folder = dir.path().join("plugins.d");
    std::fs::create_dir_all(&folder).unwrap();
    plugins::put(&folder, "request-gate.toml", gate(""));
    plugins::put(&folder, "request-gate.wasm", sample("request-gate"));
    within("a gate", async {
        while program.answers(&call).await.status == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    yardarm_testkit::until("the refusal", || !records("request refused").is_empty()).await;
    let record = &records("request refused")[0];
    assert_eq!(record["environment"], "launchdarkly/main", "{record}");
    assert_eq!((&record["sdk"], &record["client"]), (&"server".into(), &"127.0.0.1".into()), "{record}");
    assert_eq!(record["route"], "server.poll.flag", "{record}");
}

#[tokio::test]
async fn a_closed_log_does_not_stop_the_gateway() {
    let (program, mut stream, cloud, _dir) = talkative().await;
    program.reads(Reading::Closed);
    within("lines that cannot be written", async {
        while dropped(&program).await == 0 {
            program.answers(&Call::get("/status")).await;
        }
    })
    .await;
    cloud.patches(SDK_KEY, &flag("plain", 4));
    assert_eq!(stream.receives_event("patch").await["data"]["version"], 4);
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
}

#[tokio::test]
async fn commands_succeed_with_a_closed_output() {
    let dir = TempDir::new().unwrap();
    Setup::with(some_data()).write("http://127.0.0.1:1", dir.path());
    let plugins = dir.path().join("demo");
    let demo = ["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--for", "1s", "--plugins"];
    let demo = demo.into_iter().chain([plugins.to_str().unwrap()]).collect::<Vec<_>>();
    for arguments in [vec!["check", "--print-effective"], vec!["health", "--admin", "127.0.0.1:1"], demo] {
        let mut child =
            command(dir.path()).args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = if arguments[0] == "health" { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {errors}");
        assert!(!errors.contains("panic"), "{arguments:?}: {errors}");
    }
}

#[tokio::test]
async fn operators_change_the_level_at_run_time() {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let mut setup = Setup::with(some_data()).set("log.format", "json").set("log.requests", true);
    setup = setup.set("log.level", "info,yardarm::layers=warn").set("admin.token", TOKEN);
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    program.wait_until_ready().await;
    let puts = async |token: &str, body: &str| {
        let call = Call::new("PUT", "/api/log-level").header("Authorization", &format!("Bearer {token}"));
        call.header("Content-Type", "application/json").body(body).to(program.admin).await
    };
    let polls = async || assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    let is_logged = || program.log().iter().any(|it| it.contains("request answered"));
    polls().await;
    assert_eq!(puts("wrong-wrong-wrong-wrong-wrong", r#"{"level": "debug"}"#).await.status, 401);
    for (body, problem) in [("debug", "JSON"), (r#"{"level": "dbug"}"#, "must be one of")] {
        let answer = puts(TOKEN, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"].as_str().is_some_and(|it| it.contains(problem)), "{}", answer.text());
    }
    assert!(!is_logged(), "{:#?}", program.log());
    let answer = puts(TOKEN, r#"{"level": "info"}"#).await;
    assert_eq!((answer.status, &answer.json()["level"]), (200, &"info".into()));
    polls().await;
    yardarm_testkit::until("a line below the level of the start", is_logged).await;
}
