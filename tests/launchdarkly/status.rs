//! L216 to L230: the content of `/status`. L221 and L227 are tested with the states.

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly, RawUpstream, Step};

use super::outage::closed_port;
use crate::expected::some_json;
use crate::flags::some_data;
use crate::running::{ENV_ID, MOBILE_KEY, SDK_KEY, Setup, main_environment};

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn is_unix_ms(value: &Value) -> bool {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_millis();
    value.as_u64().is_some_and(|it| u128::from(it) <= now && u128::from(it) > now - 600_000)
}

#[tokio::test]
async fn a_healthy_gateway_shows_exactly_this() {
    let gateway = Setup::with(some_data()).start().await;
    let answer = gateway.answers_as("L216", Call::get("/status?x=1"), some_json(200)).await;
    let status = answer.json();
    assert_eq!(keys(&status), ["clientVersion", "environments", "status", "version"], "L216");
    assert_eq!(status["status"], "healthy", "L216");
    for version in ["version", "clientVersion"] {
        assert_eq!(status[version], env!("CARGO_PKG_VERSION"), "L216");
    }
    assert_eq!(keys(&status["environments"]), ["main"], "L217");
    let main = &status["environments"]["main"];
    // L217: no project and no environment names. L230: nothing about a database.
    let expected = ["connectionStatus", "dataStoreStatus", "envId", "mobileKey", "sdkKey", "status"];
    assert_eq!(keys(main), expected, "L217");
    assert_eq!(main["sdkKey"], "sdk-********-****-****-****-*******44401", "L218");
    assert_eq!(main["mobileKey"], "mob-********-****-****-****-*******44402", "L218");
    assert_eq!(main["envId"], ENV_ID, "L218");
    for key in [SDK_KEY, MOBILE_KEY] {
        assert!(!answer.text().contains(key), "L218");
    }
    assert_eq!(main["status"], "connected", "L220");
    assert_eq!(keys(&main["connectionStatus"]), ["state", "stateSince"], "L220: no error");
    assert_eq!(main["connectionStatus"]["state"], "VALID", "L220");
    assert_eq!(keys(&main["dataStoreStatus"]), ["state", "stateSince"], "L230");
    assert_eq!(main["dataStoreStatus"]["state"], "VALID", "L220");
    for part in ["connectionStatus", "dataStoreStatus"] {
        assert!(is_unix_ms(&main[part]["stateSince"]), "L220: {main}");
    }
}

#[tokio::test]
async fn missing_credentials_are_not_shown() {
    let gateway =
        Setup::with(some_data()).environments([json!({"name": "n/a \"x\"", "sdk_key": SDK_KEY})]).start().await;
    let status = gateway.status().await;
    let environment = &status["environments"]["n/a \"x\""];
    assert_eq!(keys(environment), ["connectionStatus", "dataStoreStatus", "sdkKey", "status"], "L219");
}

#[tokio::test]
async fn a_short_interruption_is_shown_and_harmless() {
    // L222, U035, and `lastError` as in U030.
    let gateway = Setup::with(some_data()).start().await;
    gateway.upstream.goes_down();
    let is_interrupted = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "INTERRUPTED";
    let status = gateway.status_where("an interruption", is_interrupted).await;
    let main = &status["environments"]["main"];
    assert_eq!((&status["status"], &main["status"]), (&json!("healthy"), &json!("connected")), "L222, U035");
    let error = &main["connectionStatus"]["lastError"];
    assert_eq!(keys(error), ["kind", "time"], "L222");
    assert!(is_unix_ms(&error["time"]), "L222");
    let is_refused =
        |it: &Value| it["environments"]["main"]["connectionStatus"]["lastError"]["kind"] == "ERROR_RESPONSE";
    gateway.status_where("L224: the 503", is_refused).await;

    gateway.upstream.comes_back();
    let is_valid = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
    let status = gateway.status_where("a recovery", is_valid).await;
    assert!(is_refused(&status), "L222: the last error stays: {status}");
}

#[tokio::test]
async fn a_long_interruption_is_a_disconnection() {
    // L223, U036, L228
    let environments = [json!({"name": "lost", "sdk_key": "sdk-1"}), json!({"name": "fine", "sdk_key": "sdk-2"})];
    let setup = Setup::new().environments(environments).data("sdk-1", some_data()).data("sdk-2", some_data());
    let gateway = setup.set("launchdarkly.disconnected_status_time", "50ms").start().await;
    assert_eq!(gateway.status().await["status"], "healthy");
    // Two malformed events: the reconnect in between takes at least half a second, so the state is observable.
    gateway.upstream.sends_bytes("sdk-1", "event: put\ndata: {sorry\n\n");
    let is_lost = |it: &Value| it["environments"]["lost"]["status"] == "disconnected";
    let status = gateway.status_where("a disconnection", is_lost).await;
    assert_eq!(status["status"], "degraded", "L223, L228");
    assert_eq!(status["environments"]["lost"]["connectionStatus"]["state"], "INTERRUPTED", "L223");
    assert_eq!(status["environments"]["fine"]["status"], "connected", "L228");
    let healed = |it: &Value| it["status"] == "healthy";
    gateway.status_where("a recovery", healed).await;
}

#[tokio::test]
async fn each_kind_of_failure_has_its_name() {
    let kind = |it: &Value| it["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
    let setup = || Setup::new().environments([main_environment()]).without_waiting();

    let closed = closed_port();
    let gateway = setup().set("launchdarkly.stream_uri", closed.url()).start().await;
    gateway.status_where("L225", |it| kind(it) == "NETWORK_ERROR").await;

    let failing = |cloud: &FakeLaunchDarkly| cloud.goes_down();
    let gateway = setup().prepare(failing).start().await;
    gateway.status_where("L224", |it| kind(it) == "ERROR_RESPONSE").await;

    let raw = RawUpstream::start().await;
    raw.plays([Step::stream("event: put\ndata: {sorry\n\n"), Step::Hold]);
    let gateway = setup().set("launchdarkly.stream_uri", raw.url()).start().await;
    gateway.status_where("L226", |it| kind(it) == "INVALID_DATA").await;
}

#[tokio::test]
async fn one_environment_can_be_requested() {
    let setup = Setup::with(some_data()).environment(json!({"name": "My Env", "filters": ["a"]}));
    let gateway = setup.data(&format!("{SDK_KEY}?filter=a"), some_data()).start().await;
    let whole = gateway.status().await["environments"]["My Env"].clone();
    for path in ["/status/My%20Env".to_owned(), format!("/status/{ENV_ID}")] {
        let answer = gateway.answers_as("L263", Call::get(&path), some_json(200)).await;
        assert_eq!(answer.json(), whole, "L263: {path}");
    }
    let filtered = gateway.answers_as("L263", Call::get("/status/My%20Env/filters/a"), some_json(200)).await;
    assert_eq!(filtered.json()["status"], "connected", "L263");
    for path in ["/status/other", "/status/My%20Env/filters/b", "/status/p/e", "/status/p/e/filters/a"] {
        let answer = gateway.answers_as("L263", Call::get(path), some_json(404)).await;
        assert!(answer.json()["error"].is_string(), "L263: {path}");
    }
}

#[tokio::test]
async fn probes_can_name_the_expected_status() {
    let gateway = Setup::with(some_data()).start().await;
    for (query, status) in [
        ("expect=status=healthy", 200),
        ("expect=status=degraded", 412),
        ("expect=status%3Dhealthy&x=1", 200),
        ("expect=environments%5B%22main%22%5D.status!=disconnected&expect=status=healthy", 200),
        ("expect=environments.main.connectionStatus.state=VALID", 200),
        ("expect=environments.main.connectionStatus.lastError.kind=NETWORK_ERROR", 412),
        ("expect=environments.main.expiringSdkKey!=x", 412),
        ("expect=environments.main=x", 422),
        ("expect=nonsense=x", 422),
        ("expect=status", 400),
        ("expect=%zz", 400),
    ] {
        let answer = gateway.answers_as("L264", Call::get(format!("/status?{query}")), some_json(status)).await;
        assert_eq!(answer.json()["satisfied"], status == 200, "L264: {query}");
    }
    let one = gateway.answers(&Call::get("/status/main?expect=status=connected")).await;
    let expected = json!({"satisfied": true, "results": [
        {"expr": "status=connected", "expected": "connected", "actual": "connected", "ok": true}]});
    assert_eq!((one.status, one.json()), (200, expected), "L264");
    assert_eq!(gateway.answers(&Call::get("/status/other?expect=status=x")).await.status, 404, "L264");
}
