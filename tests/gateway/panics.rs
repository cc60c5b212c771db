//! Injected panics in each kind of task: data flows again, the metric counts them, the status shows them.
#![cfg(debug_assertions)]

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, StreamItem, within};

use crate::expected::empty;
use crate::flags::{data, flag, some_data};
use crate::program::{Program, Signal};
use crate::running::{CTX, ENV_ID, SDK_KEY, Setup};

/// Long-lived tasks of a gateway with a LaunchDarkly side, as named in the metric.
const TASKS: &[&str] = &[
    "accept",
    "data store",
    "delayed announcements",
    "evaluated stream",
    "event filter retries",
    "event spool",
    "event summaries",
    "fan-out end",
    "heartbeat",
    "list of environments",
    "outage watch",
    "outbox",
    "plugin clock",
    "plugin folder",
    "stream approvals",
    "stream lifetimes",
    "upstream stream",
];

/// Returns a flag whose version identifies it, and the text with which a `put` or a `patch` that contains it can be
/// found.
fn marked(version: i64) -> (Value, String) {
    (flag("plain", version), format!("\"version\":{version}"))
}

fn everything(dir: &TempDir) -> Setup {
    Setup::with(some_data())
        .events()
        .set("data.dir", dir.path().join("data").to_str().unwrap())
        .set("launchdarkly.heartbeat_interval", "1s")
        .set("launchdarkly.ping_stream_jitter_time", "2ms")
        .set("launchdarkly.client_streams", "evaluated")
        .set("plugins.recheck_window", "0s")
}

#[tokio::test]
async fn every_long_lived_task_survives_a_panic_and_data_flows_again() {
    let dir = TempDir::new().unwrap();
    let gateway = everything(&dir).start().await;
    let mut server = gateway.opens("/all", SDK_KEY).await;
    let mut browser = gateway.opens_with(&Call::get(format!("/eval/{ENV_ID}/{CTX}"))).await;
    server.receives_text("\"version\":3").await;
    browser.receives_text("plain").await;
    let known = gateway.panics().await;
    let mut version = 10_000;
    for task in TASKS {
        assert!(known.contains_key(*task), "{task} is counted from the start: {known:?}");
        let streams_before = gateway.upstream.stream_requests().len();
        gateway.panics_in(task).await;
        if *task == "upstream stream" {
            let has_come_back = || gateway.upstream.stream_requests().len() > streams_before;
            gateway.eventually("another connection", has_come_back).await;
            let assert_open = || gateway.upstream.open_streams(SDK_KEY) == 1;
            gateway.eventually("its end", assert_open).await;
        }
        version += 1;
        let (flag, text) = marked(version);
        gateway.upstream.patches(SDK_KEY, &flag);
        server.receives_text(&text).await;
        browser.receives_text(&text).await;
        let mut late = gateway.opens("/all", SDK_KEY).await;
        late.receives_text(&text).await;
    }
    // All other tasks of the LaunchDarkly side as well; a new task has to be added to the list above. Tasks of the
    // process may have been started by another test.
    let elsewhere = [
        "compiler priority",
        "fan-out",
        "first connection",
        "first data",
        "log writer",
        "main",
        "other thread",
        "output writer",
        "task thread",
    ];
    for task in known.keys().filter(|it| !elsewhere.contains(&it.as_str())) {
        assert!(TASKS.contains(&task.as_str()), "`{task}` is not made to panic here");
    }
    let call = Call::post("/bulk", r#"[{"n":1}]"#).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    empty(202).compare("events", &gateway.answers(&call).await);
    gateway.eventually("an event upstream", || gateway.upstream.posts("/bulk").len() == 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_task_that_panics_shows_in_the_state_of_its_environment() {
    let gateway = Setup::with(some_data()).start().await;
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives_text("\"version\":3").await;
    // Within a change: it is neither lost nor partially served.
    gateway.supervisor.faults().arm("apply change");
    let (changed, text) = marked(4);
    gateway.upstream.patches(SDK_KEY, &changed);
    gateway.counts_a_panic("upstream stream", 0).await;
    stream.receives_text(&text).await;
    let is_valid = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
    gateway.status_where("recovery", is_valid).await;
    let status = gateway.operator_gets("/api/status").await.json();
    let environment = &status["environments"][0];
    let message = environment["last_error"]["message"].as_str().unwrap();
    assert!(message.starts_with("internal error in task `upstream stream`"), "{message}");
    assert_eq!(status["panics"].as_array().unwrap().len(), 1, "{}", status["panics"]);
    let row = &status["panics"][0];
    assert_eq!(
        (&row["task"], &row["environment"], &row["count"]),
        (&json!("upstream stream"), &json!("launchdarkly/main"), &json!(1))
    );
    assert!(row["location"].as_str().unwrap().len() > 1);

    // A change that panics repeatedly: the previous data is served, and the state shows the reason.
    for _ in 0..50 {
        gateway.supervisor.faults().arm("apply change");
    }
    let (changed, text) = marked(5);
    gateway.upstream.patches(SDK_KEY, &changed);
    let is_interrupted = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "INTERRUPTED";
    gateway.status_where("an interruption", is_interrupted).await;
    assert_eq!(gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.json()["version"], 4);
    gateway.supervisor.faults().clear();
    stream.receives_text(&text).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_panic_ends_one_request_one_connection_or_one_stream() {
    let gateway = Setup::with(some_data()).events().start().await;
    let mut other = gateway.opens("/all", SDK_KEY).await;
    other.receives_text("\"version\":3").await;
    let call = Call::get("/sdk/flags").key(SDK_KEY);
    gateway.supervisor.faults().arm("request");
    let answer = gateway.answers(&call).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(gateway.answers(&call).await.status, 200);

    gateway.supervisor.faults().arm("fan-out stream");
    let mut broken = gateway.opens("/all", SDK_KEY).await;
    let received = within("the end of a stream", broken.next()).await;
    assert!(!matches!(received, StreamItem::Event { .. }), "{received:?}");
    let (changed, text) = marked(4);
    gateway.upstream.patches(SDK_KEY, &changed);
    other.receives_text(&text).await;

    // Long enough to be evaluated on another thread.
    let context = json!({"kind": "user", "key": "a".repeat(200_000)}).to_string();
    let report = Call::report(format!("/sdk/evalx/{ENV_ID}/context"), context);
    gateway.supervisor.faults().arm("evaluation");
    assert_eq!(gateway.answers(&report).await.status, 503);
    assert!(gateway.supervisor.faults().are_over());
    assert_eq!(gateway.answers(&report).await.status, 200);

    let post = Call::post("/bulk", r#"[{"n":1}]"#).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    for task in ["event reader", "event filter", "event sender"] {
        gateway.supervisor.faults().arm(task);
        empty(202).compare(task, &gateway.answers(&post).await);
        gateway.eventually(task, || gateway.supervisor.faults().are_over()).await;
    }
    empty(202).compare("after", &gateway.answers(&post).await);
    gateway.eventually("the last event", || gateway.upstream.posts("/bulk").len() == 1).await;
    let events = async || gateway.operator_gets("/api/status").await.json()["environments"][0]["events"].clone();
    within("every event to be settled", async {
        while events().await["pending"] != 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let events = events().await;
    assert_eq!(events["dropped"], json!([["internal-error", 3]]), "{events}");

    let counts = gateway.panics().await;
    for task in ["request", "fan-out stream", "evaluation", "event intake", "event delivery"] {
        assert!(counts.get(task).is_some_and(|it| *it > 0), "{task}: {counts:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_evaluated_stream_outlives_a_panic_of_its_evaluation() {
    let flags = (0..200).map(|it| flag(&format!("flag{it:03}"), 1));
    let gateway = Setup::with(data(flags, [])).set("launchdarkly.client_streams", "evaluated").start().await;
    gateway.supervisor.faults().arm("evaluation");
    // Small enough to be kept, and long enough to be evaluated on another thread.
    let context = json!({"kind": "user", "key": "a".repeat(30_000)}).to_string();
    let mut browser = gateway.opens_with(&Call::report(format!("/eval/{ENV_ID}"), context)).await;
    browser.receives_text("flag199").await;
    assert!(gateway.supervisor.faults().are_over());
    for version in [7, 8] {
        gateway.supervisor.faults().arm("evaluation");
        let changed = (0..40).map(|it| flag(&format!("flag{it:03}"), version));
        gateway.upstream.puts(SDK_KEY, &data(changed, []));
        browser.receives_text(&format!("\"version\":{version}")).await;
        assert!(gateway.supervisor.faults().are_over());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_panic_of_a_vital_thread_ends_the_process_with_an_error() {
    let (program, cloud, _dir) = program_with("fan-out stop").await;
    // The first message to a fan-out thread is a stream.
    let _stream = program.opens_when_ready("/all", SDK_KEY).await;
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(70), "{log:#?}");
    let records = error_records(&log);
    assert!(records.iter().any(|it| it["task"] == "fan-out"), "{log:#?}");
    assert!(
        records.iter().any(|it| it["message"].as_str().is_some_and(|it| it.contains("cannot be started again"))),
        "{log:#?}"
    );
    drop(cloud);
}

#[tokio::test]
async fn a_panic_is_one_record_of_the_log() {
    let (program, cloud, _dir) = program_with("upstream stream").await;
    let mut stream = program.opens_when_ready("/all", SDK_KEY).await;
    stream.receives_text("\"version\":3").await;
    let is_counted = async || {
        let text = program.operator_gets("/metrics").await.text().to_owned();
        text.contains("yardarm_task_panics_total{task=\"upstream stream\"} 1\n")
    };
    within("the panic", async {
        while !is_counted().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    // The panic may have occurred before or after the first connection.
    let mut version = 10;
    within("a change after the panic", async {
        loop {
            version += 1;
            cloud.patches(SDK_KEY, &flag("plain", version));
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let answer = program.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await;
            if answer.status == 200 && answer.json()["version"] == version {
                return;
            }
        }
    })
    .await;
    stream.receives_text(&marked(version).1).await;
    program.signal(Signal::TERM);
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let records: Vec<Value> =
        log.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    let panics: Vec<_> = records.iter().filter(|it| it["location"].is_string()).collect();
    assert_eq!(panics.len(), 1, "{log:#?}");
    let named = json!(["ERROR", "launchdarkly/main", "upstream stream"]);
    assert_eq!(json!([panics[0]["level"], panics[0]["environment"], panics[0]["task"]]), named);
    assert!(panics[0]["location"].as_str().unwrap().contains(".rs:"), "{}", panics[0]);
}

#[tokio::test]
async fn the_log_continues_after_a_panic_of_its_writer() {
    let (program, _cloud, _dir) = program_with("log writer").await;
    let dropped = "log lines were dropped";
    yardarm_testkit::until("the panic and its loss", || {
        program.has_logged("\"task\":\"log writer\"") && program.has_logged(dropped)
    })
    .await;
    let metrics = program.operator_gets("/metrics").await.text().to_owned();
    assert!(metrics.contains("yardarm_task_panics_total{task=\"log writer\"} 1\n"), "{metrics}");
    program.signal(Signal::TERM);
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(log.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log:#?}");
}

async fn program_with(fault: &str) -> (Program, FakeLaunchDarkly, TempDir) {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let mut setup = Setup::with(some_data()).set("log.format", "json");
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let mut command = crate::program::command(dir.path());
    command.env("FAULTS_FOR_TESTS", fault);
    (Program::launch(command).await, cloud, dir)
}

fn error_records(log: &[String]) -> Vec<Value> {
    let records = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|it| it["level"] == "ERROR").collect()
}
