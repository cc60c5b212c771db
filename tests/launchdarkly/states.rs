//! L038 to L051, U028, U033, U034, U037 to U042, V047, V048, V054: responses of an environment before, with and without
//! its data.

use serde_json::json;
use yardarm_testkit::{Call, FakeLaunchDarkly, StreamAnswer};

use crate::expected::{Expected, JSON, TEXT_C, TEXT_D, TEXT_E, empty, message, not_initialized, text};
use crate::flags::{by_key, data, flag, put, segment, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

const LONG_TIMEOUT: &str = "1h";
const AT_ONCE: &str = "20ms";

fn evaluations() -> [(Call, Option<&'static str>); 3] {
    [
        (Call::get(format!("/sdk/evalx/contexts/{CTX}")).key(SDK_KEY), None),
        (Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY), None),
        (Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}")), Some("GET,OPTIONS")),
    ]
}

fn for_browsers(expected: Expected, methods: Option<&str>) -> Expected {
    match methods {
        Some(methods) => expected.cors("*", methods),
        None => expected,
    }
}

#[tokio::test]
async fn a_starting_environment_answers_as_unavailable() {
    // U038: the stream is accepted and silent.
    let gateway = Setup::new().set("launchdarkly.init_timeout", LONG_TIMEOUT).without_waiting().start().await;
    gateway.eventually("the gateway is connected", || gateway.upstream.open_streams(SDK_KEY) == 1).await;
    for path in ["/all", "/flags", "/sdk/flags", "/sdk/flags/x", &format!("/sdk/evalx/contexts/{CTX}")] {
        gateway.answers_as("L038", Call::get(path).key(SDK_KEY), text(503, TEXT_E)).await;
    }
    gateway.answers_as("L038", Call::get("/mping").key(MOBILE_KEY), text(503, TEXT_E)).await;
    let for_browsers = text(503, TEXT_E).cors_methods("GET,OPTIONS");
    gateway.answers_as("L039", Call::get(format!("/ping/{ENV_ID}")), for_browsers.clone()).await;
    gateway.answers_as("L038", Call::post("/bulk", "[1]").key(SDK_KEY), text(503, TEXT_E)).await;
    for path in [format!("/sdk/goals/{ENV_ID}"), format!("/a/{ENV_ID}.gif")] {
        gateway.answers_as("L039", Call::get(path), for_browsers.clone()).await;
    }
    let preflight = Call::options(format!("/ping/{ENV_ID}"));
    gateway.answers_as("L039: preflights too", preflight, for_browsers).await;
    let ready = gateway.operator_gets("/ready").await;
    assert_eq!((ready.status, ready.text()), (503, "waiting for: launchdarkly/main (initializing)\n"));

    let status = gateway.status().await;
    let main = &status["environments"]["main"];
    assert_eq!(status["status"], "degraded", "L221");
    assert_eq!(main["status"], "disconnected", "L221, U037");
    assert_eq!(main["connectionStatus"]["state"], "INITIALIZING", "L221, U037");
    assert!(main["connectionStatus"]["stateSince"].as_u64().is_some_and(|it| it > 1_500_000_000_000), "U037: {main}");
    assert_eq!(main["dataStoreStatus"], json!({"state": "INITIALIZING", "stateSince": 0}), "L221");

    gateway.upstream.puts(SDK_KEY, &some_data());
    gateway.wait_until_ready().await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
}

#[tokio::test]
async fn empty_streams_open_at_once_and_wait_for_data() {
    let setup = Setup::new().set("launchdarkly.init_timeout", AT_ONCE).set("launchdarkly.heartbeat_interval", "20ms");
    let gateway = setup.events().start().await;

    let mut all = gateway.opens("/all", SDK_KEY).await; // L040: the head is here.
    let mut flags = gateway.opens("/flags", SDK_KEY).await;
    let mut mobile = gateway.opens("/mping", MOBILE_KEY).await; // L042
    let mut browser = gateway.opens_with(&Call::get(format!("/ping/{ENV_ID}"))).await;
    let goals = gateway.answers(&Call::get(format!("/sdk/goals/{ENV_ID}"))).await;
    assert_eq!(goals.status, 200, "L173: goals need no data");
    for sdk in [&mut all, &mut flags, &mut mobile, &mut browser] {
        sdk.receives_only_heartbeats(3).await; // L040, L042: no event. L072: heartbeats all the same.
    }

    for (call, methods) in evaluations() {
        gateway.answers_as("L043, U039", call, for_browsers(not_initialized(), methods)).await;
    }
    let bad_context = message(400, "context part of URL path did not decode as valid base64");
    gateway.answers_as("L044", Call::get("/sdk/evalx/contexts/!!!!").key(SDK_KEY), bad_context).await;
    for path in ["/sdk/flags", "/sdk/flags/x", "/sdk/segments/x"] {
        gateway.answers_as("L045", Call::get(path).key(SDK_KEY), not_initialized()).await;
    }
    let events = Call::post("/bulk", r#"[{"kind":"x"}]"#).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    gateway.answers_as("L046", events, empty(202)).await;
    gateway.eventually("L046: the event arrived", || gateway.upstream.posts("/bulk").len() == 1).await;

    gateway.upstream.puts(SDK_KEY, &some_data());
    all.receives("put", put(some_data())).await; // L041, U040
    flags.receives("put", by_key([flag("plain", 3)])).await;
    mobile.receives_ping().await; // L042
    browser.receives_ping().await;
}

#[tokio::test]
async fn stale_data_from_disk_is_served_while_upstream_is_silent() {
    // L047 and U041, with the data folder in place of a database.
    let kept = tempfile::TempDir::new().unwrap();
    let dir = kept.path().to_str().unwrap();
    let before = Setup::with(some_data()).set("data.dir", dir).start().await;
    before.stop().await;

    let silent = |cloud: &FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Silence]);
    let setup = Setup::new().set("data.dir", dir).set("launchdarkly.init_timeout", LONG_TIMEOUT).prepare(silent);
    let gateway = setup.start().await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
    gateway.opens("/mping", MOBILE_KEY).await.receives_ping().await;
    let polled = gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!(polled.json(), by_key([flag("plain", 3)]), "L047");
    for (call, _) in evaluations() {
        let answer = gateway.answers(&call).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"plain": {"value": true, "variation": 0, "version": 3}}))
        );
    }
    let status = gateway.status().await;
    let main = &status["environments"]["main"];
    assert_eq!((&main["status"], &main["connectionStatus"]["state"]), (&json!("disconnected"), &json!("INITIALIZING")));
    let report = gateway.operator_gets("/api/environments").await.json();
    assert_eq!(report["environments"][0]["is_stale"], true);
}

#[tokio::test]
async fn ready_data_outlives_upstream() {
    let gateway = Setup::with(some_data()).start().await;
    let mut all = gateway.opens("/all", SDK_KEY).await;
    all.receives("put", put(some_data())).await;
    let mut mobile = gateway.opens("/mping", MOBILE_KEY).await;
    mobile.receives_ping().await;

    gateway.upstream.goes_down();
    let interrupted =
        |status: &serde_json::Value| status["environments"]["main"]["connectionStatus"]["state"] == "INTERRUPTED";
    gateway.status_where("an interruption", interrupted).await;

    for path in ["/sdk/flags", "/sdk/flags/plain", "/sdk/segments/crew", &format!("/sdk/evalx/contexts/{CTX}")] {
        let answer = gateway.answers(&Call::get(path).key(SDK_KEY)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "L048: {path}");
    }
    for (call, _) in evaluations() {
        assert_eq!(gateway.answers(&call).await.status, 200, "L048: {call}");
    }
    gateway.opens("/flags", SDK_KEY).await.receives("put", by_key([flag("plain", 3)])).await;
    gateway.opens_with(&Call::get(format!("/ping/{ENV_ID}"))).await.receives_ping().await;

    // L048: the open streams stayed, and their next event is the new data of upstream.
    let later = data([flag("plain", 4)], [segment("crew", 2)]);
    gateway.upstream.puts(SDK_KEY, &later);
    gateway.upstream.comes_back();
    all.receives("put", put(later)).await;
    mobile.receives_ping().await;
}

async fn rejected_keys_are_unavailable_until_upstream_accepts_them(status: u16) {
    let rejecting = move |cloud: &FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Status(status)]);
    let setup = Setup::with(some_data()).set("launchdarkly.rejected_retry_interval", "3s").prepare(rejecting);
    let gateway = setup.start().await;

    // V047, V054: SDKs give up for good on 401 and 404, but this state heals.
    for path in ["/all", "/flags", "/sdk/flags", "/sdk/flags/plain", &format!("/sdk/evalx/contexts/{CTX}")] {
        gateway.answers_as("L049, U042, V047", Call::get(path).key(SDK_KEY), text(503, TEXT_E)).await;
    }
    for path in ["/mping", &format!("/meval/{CTX}"), &format!("/msdk/evalx/contexts/{CTX}")] {
        gateway.answers_as("U042, V047", Call::get(path).key(MOBILE_KEY), text(503, TEXT_E)).await;
    }
    for path in
        [format!("/ping/{ENV_ID}"), format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"), format!("/sdk/goals/{ENV_ID}")]
    {
        let unavailable = text(503, TEXT_E).cors_methods("GET,OPTIONS");
        gateway.answers_as("L050, U042, V047", Call::get(path), unavailable).await;
    }
    gateway.answers_as("L038", Call::post("/bulk", "[1]").key(SDK_KEY), text(503, TEXT_E)).await;
    // V048: a credential of no environment is rejected for good.
    gateway.answers_as("L022", Call::get("/all").key("sdk-unknown"), text(401, TEXT_C)).await;
    let unknown = text(404, TEXT_D).cors_methods("GET,OPTIONS");
    gateway.answers_as("L031", Call::get("/ping/unknown"), unknown).await;
    let shown = gateway.status().await;
    let main = &shown["environments"]["main"];
    assert_eq!(shown["status"], "degraded", "L227");
    assert_eq!(main["status"], "disconnected", "L227");
    assert_eq!(main["connectionStatus"]["state"], "OFF", "L227, U033");
    assert_eq!(main["connectionStatus"]["lastError"]["kind"], "ERROR_RESPONSE", "L227");
    assert_eq!(main["dataStoreStatus"]["state"], "VALID", "L227");

    // L051, U034: no restart is needed.
    gateway.status_where("a connection", |status| status["status"] == "healthy").await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
    let requests = gateway.upstream.stream_requests();
    assert_eq!(requests.len(), 2);
    let gap = requests[1].at - requests[0].at;
    assert!(gap.as_millis() >= 1500, "U033: the retry is the seldom one, not {gap:?}");
}

#[tokio::test]
async fn a_key_that_worked_is_retried_soon_after_a_rejection() {
    // Services reject keys briefly during outages of their own; five minutes without changes would be too long.
    let gateway = Setup::with(some_data()).start().await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
    let later = data([flag("plain", 9)], []);
    gateway.upstream.answers_streams_with([StreamAnswer::Status(401), StreamAnswer::Status(403)]);
    gateway.upstream.puts(SDK_KEY, &later);
    gateway.upstream.closes_streams(SDK_KEY);
    gateway.status_where("a rejection", |it| it["environments"]["main"]["connectionStatus"]["state"] == "OFF").await;
    let started = tokio::time::Instant::now();
    gateway.status_where("a connection", |it| it["environments"]["main"]["connectionStatus"]["state"] == "VALID").await;
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(gateway.upstream.stream_requests().len() >= 4);
}

#[tokio::test]
async fn rejected_keys() {
    let all = [401, 403, 404, 410].map(rejected_keys_are_unavailable_until_upstream_accepts_them);
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn streams_that_are_open_outlive_a_rejection() {
    let setup =
        Setup::new().set("launchdarkly.init_timeout", AT_ONCE).set("launchdarkly.rejected_retry_interval", "1s");
    let gateway = setup.start().await;
    // Opened while there was no data yet.
    let mut waiting = gateway.opens("/all", SDK_KEY).await;
    gateway.upstream.answers_streams_with([StreamAnswer::Status(401)]);
    gateway.upstream.closes_streams(SDK_KEY);
    let is_off = |it: &serde_json::Value| it["environments"]["main"]["connectionStatus"]["state"] == "OFF";
    gateway.status_where("the rejection", is_off).await;
    gateway.answers_as("V047", Call::get("/all").key(SDK_KEY), text(503, TEXT_E)).await;
    gateway.upstream.puts(SDK_KEY, &some_data());
    waiting.receives("put", put(some_data())).await;

    // Once there is data, a rejection does not affect what is served (R7, V048).
    gateway.upstream.answers_streams_with([StreamAnswer::Status(401)]);
    gateway.upstream.closes_streams(SDK_KEY);
    gateway.status_where("the rejection", is_off).await;
    for call in evaluations().map(|(call, _)| call).into_iter().chain([Call::get("/sdk/flags").key(SDK_KEY)]) {
        assert_eq!(gateway.answers(&call).await.status, 200, "V048: {call}");
    }
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
    gateway.answers_as("V048", Call::get("/all").key("sdk-unknown"), text(401, TEXT_C)).await;
    let is_valid = |it: &serde_json::Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
    gateway.status_where("a connection", is_valid).await;
    gateway.upstream.puts(SDK_KEY, &data([flag("plain", 4)], []));
    waiting.receives("put", put(some_data())).await;
    waiting.receives("put", put(data([flag("plain", 4)], []))).await;
}

#[tokio::test]
async fn a_rejected_environment_with_kept_data_serves_it() {
    // Decision R7: the reference hides it.
    let kept = tempfile::TempDir::new().unwrap();
    let dir = kept.path().to_str().unwrap();
    Setup::with(some_data()).set("data.dir", dir).start().await.stop().await;
    let rejecting = |cloud: &FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Status(401); 3]);
    let gateway = Setup::new().set("data.dir", dir).prepare(rejecting).start().await;
    gateway.eventually("the rejection", || !gateway.upstream.stream_requests().is_empty()).await;
    let off = |status: &serde_json::Value| status["environments"]["main"]["connectionStatus"]["state"] == "OFF";
    gateway.status_where("the rejection", off).await;
    let answer = gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await;
    assert_eq!(answer.json(), flag("plain", 3));
    assert!(answer.headers.iter().any(|(name, value)| format!("{name}: {value}") == JSON));
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
}

async fn a_first_attempt_that_fails_is_repeated(status: u16) {
    let failing = move |cloud: &FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Status(status)]);
    let gateway = Setup::with(some_data()).prepare(failing).without_waiting().start().await;
    let has_failed = |it: &serde_json::Value| {
        it["environments"]["main"]["connectionStatus"]["lastError"]["kind"] == "ERROR_RESPONSE"
    };
    let shown = gateway.status_where("the failure", has_failed).await;
    assert_eq!(shown["environments"]["main"]["connectionStatus"]["state"], "INITIALIZING", "U028: {status}");
    gateway.wait_until_ready().await;
    let shown = gateway.status().await;
    assert_eq!(shown["environments"]["main"]["connectionStatus"]["state"], "VALID", "U028: {status}");
    assert!(has_failed(&shown), "the last error stays");
}

#[tokio::test]
async fn failed_first_attempts_are_retried() {
    // U028
    futures_util::future::join_all([400, 408, 429, 500, 503].map(a_first_attempt_that_fails_is_repeated)).await;
}
