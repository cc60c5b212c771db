//! No secret is printed: the complete output of the program, at the most verbose level, is searched for keys and
//! contexts.

use serde_json::json;
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, StreamAnswer};

use crate::flags::{data, flag, some_data};
use crate::program::{Program, Signal};
use crate::running::{ENV_ID, Setup};

const SDK_KEY: &str = "sdk-0ca9a4e1-1c2d-4e3f-8a9b-c0ffee000001";
const MOBILE_KEY: &str = "mob-0ca9a4e1-1c2d-4e3f-8a9b-c0ffee000002";
const OTHER_KEY: &str = "sdk-0ca9a4e1-1c2d-4e3f-8a9b-c0ffee000003";
const REJECTED_KEY: &str = "sdk-0ca9a4e1-1c2d-4e3f-8a9b-c0ffee000004";
const STRANGE_KEY: &str = "sdk-0ca9a4e1-1c2d-4e3f-8a9b-c0ffee000005";
/// A part of every key that masking hides, and of a context that SDKs send.
const CANARY: &str = "0ca9a4e1";
const PERSON: &str = "canary.person@example.com";

#[tokio::test]
async fn nothing_that_is_written_or_shown_contains_a_key_or_a_context() {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let environments = [
        json!({"name": "main", "sdk_key": SDK_KEY, "mobile_key": MOBILE_KEY, "env_id": ENV_ID, "filters": ["f"]}),
        json!({"name": "other", "sdk_key": OTHER_KEY}),
        json!({"name": "rejected", "sdk_key": REJECTED_KEY}),
    ];
    let setup = Setup::new().environments(environments).data(SDK_KEY, some_data()).data(OTHER_KEY, some_data());
    let setup = setup
        .events()
        .set("data.dir", dir.path().join("data").to_str().unwrap())
        .set("launchdarkly.init_timeout", "50ms");
    let token = format!("{CANARY}-token-of-operators");
    let mut setup = setup.set("log.format", "json").set("log.level", "trace").set("admin.token", token.clone());
    // The fake does not know the third environment, and answers 401.
    cloud.add_environment(SDK_KEY);
    for (key, data) in [(SDK_KEY, some_data()), (OTHER_KEY, data([flag("x", 1)], []))] {
        cloud.puts(key, &data);
    }
    setup = setup.cloud(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    yardarm_testkit::within("`/ready`", program.wait_until_ready()).await;

    let context =
        crate::launchdarkly::context_segment(&format!(r#"{{"kind":"user","key":"{PERSON}","email":"{PERSON}"}}"#));
    let mut shown = Vec::new();
    for call in [
        Call::get("/status"),
        Call::get("/sdk/flags").key(SDK_KEY),
        Call::get("/sdk/flags").key(&format!("Bearer {SDK_KEY}")),
        Call::get("/sdk/flags").key(STRANGE_KEY),
        Call::get("/all").key(REJECTED_KEY),
        Call::get(format!("/all?authorization={STRANGE_KEY}")),
        Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{context}")),
        Call::get(format!("/ping/{STRANGE_KEY}")),
        Call::report("/msdk/evalx/context", format!(r#"{{"kind":"user","key":"{PERSON}"}}"#)).key(MOBILE_KEY),
        Call::report("/msdk/evalx/context", format!(r#"{{"kind":"user","key":"{PERSON}""#)).key(MOBILE_KEY),
        Call::post("/bulk", format!(r#"[{{"kind":"identify","key":"{PERSON}"}}]"#))
            .key(SDK_KEY)
            .header("X-LaunchDarkly-Event-Schema", "4"),
        Call::post("/bulk", format!("no JSON about {PERSON}")).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4"),
        Call::post("/diagnostic", "{}").key(SDK_KEY),
        Call::get(format!("/sdk/goals/{ENV_ID}")).key(SDK_KEY),
    ] {
        let answer = program.answers(&call).await;
        shown.push((call.to_string(), String::from_utf8_lossy(&answer.body).into_owned()));
    }
    let mut sdk = program.opens("/all", SDK_KEY).await;
    sdk.receives_event("put").await;
    // Upstream fails in each possible way.
    cloud.answers_posts_with([401, 503]);
    cloud.answers_streams_with([StreamAnswer::Status(403), StreamAnswer::Redirect("http://127.0.0.1:1/all")]);
    cloud.sends_bytes(SDK_KEY, "event: put\ndata: {sorry\n\n");
    yardarm_testkit::until("a rejection", || program.has_logged("upstream rejected the SDK key")).await;
    cloud.closes_streams(OTHER_KEY);
    yardarm_testkit::until("an interruption", || program.has_logged("upstream stream interrupted")).await;
    for (presented, status) in [(token.clone(), 404), (format!("{token}2"), 401)] {
        let call = Call::post("/api/plugins/none/pin", "").key(&format!("Bearer {presented}"));
        let answer = call.to(program.admin).await;
        assert_eq!(answer.status, status);
        shown.push((call.to_string(), answer.text().to_owned()));
    }
    for path in ["/metrics", "/api/status", "/api/environments", "/api/plugins", "/ready", "/"] {
        let answer = program.operator_gets(path).await;
        assert_ne!(answer.status, 404, "{path}");
        shown.push((path.to_owned(), String::from_utf8_lossy(&answer.body).into_owned()));
    }
    let status = program.answers(&Call::get("/status")).await;
    assert!(status.text().contains("sdk-********-****-****-****-*******00001"), "masked: {}", status.text());
    program.signal(Signal::TERM);
    let (exit, log) = program.ends().await;
    assert_eq!(exit.code(), Some(0));
    assert!(log.iter().any(|line| line.contains("\"level\":\"TRACE\"")), "the log is at its loudest");

    for (what, text) in &shown {
        assert!(!text.contains(CANARY), "a key in the answer to {what}: {text}");
    }
    for line in &log {
        assert!(!line.contains(CANARY), "a key in the log: {line}");
        assert!(!line.contains(PERSON), "a person in the log: {line}");
        assert!(!line.contains(&context), "a context in the log: {line}");
    }
    // The data folder contains flags but no keys.
    for file in files(&dir.path().join("data")) {
        let content = std::fs::read(&file).unwrap();
        assert!(!content.windows(CANARY.len()).any(|it| it == CANARY.as_bytes()), "a key in {}", file.display());
    }
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}
