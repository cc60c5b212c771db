//! L242, L243, L252 to L258: LaunchDarkly says which environments exist, and changes its mind while they are served.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly, StreamAnswer, within};

use crate::expected::{TEXT_A, TEXT_B, TEXT_C, TEXT_D, empty, some_json, text};
use crate::flags::{by_key, data, flag};
use crate::running::{CTX, Running, Setup};

pub(super) const AUTO_KEY: &str = "rel-auto";
pub(super) const ID: &str = "507f1f77bcf86cd79943902a";
const OTHER_ID: &str = "507f1f77bcf86cd79943902b";

/// An environment as LaunchDarkly describes it.
pub(super) fn environment(id: &str, version: i64, sdk_key: Value, properties: Value) -> Value {
    let mut environment = json!({
        "envID": id, "envKey": "production", "envName": "Production", "projKey": "my-app", "projName": "My App",
        "sdkKey": sdk_key, "mobKey": format!("mob-{id}"), "defaultTtl": 0, "secureMode": false, "version": version,
    });
    for (name, value) in properties.as_object().expect("an object") {
        environment[name] = value.clone();
    }
    environment
}

pub(super) fn main(version: i64, sdk_key: &str) -> Value {
    environment(ID, version, json!({"value": sdk_key}), json!({}))
}

fn list(environments: impl IntoIterator<Item = Value>) -> Value {
    let by_id: Value =
        environments.into_iter().map(|it| (it["envID"].as_str().expect("an ID").to_owned(), it)).collect();
    json!({ "environments": by_id })
}

pub(super) fn path(id: &str) -> String {
    format!("/environments/{id}")
}

pub(super) fn setup() -> Setup {
    Setup::new()
        .environments([])
        .set("launchdarkly.auto_config.key", AUTO_KEY)
        .set("launchdarkly.expired_credential_cleanup_interval", "100ms")
        .prepare(|cloud| cloud.add_environment(AUTO_KEY))
        .without_waiting()
}

/// One environment with the key `sdk-a`, ready.
pub(super) async fn ready(setup: Setup) -> Running {
    let gateway = setup.data("sdk-a", data([flag("plain", 3)], [])).start().await;
    gateway.upstream.lists(AUTO_KEY, &list([main(1, "sdk-a")]));
    gateway.is_ready().await;
    gateway
}

pub(super) fn poll(key: &str) -> Call {
    Call::get("/sdk/flags").key(key)
}

pub(super) async fn status_of(gateway: &Running, call: &Call) -> u16 {
    gateway.answers(call).await.status
}

pub(super) async fn becomes(gateway: &Running, row: &str, call: &Call, status: u16) {
    within(&format!("{row}: {call} to be {status}"), async {
        while status_of(gateway, call).await != status {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn before_the_list_everything_that_needs_an_environment_is_503() {
    let gateway = setup().events().start().await;
    let a = || text(503, TEXT_A);
    for (row, call, expected) in [
        ("L254", Call::get("/all").key("sdk-a"), a()),
        ("L254", poll("sdk-a"), a()),
        ("L254", Call::post("/bulk", "[]").key("sdk-a"), a()),
        ("L254", Call::get("/mping").key("mob-a"), a()),
        ("section 13.1", Call::get("/all"), empty(401)),
        ("L255", Call::get(format!("/ping/{ID}")), a().cors_methods("GET,OPTIONS")),
        ("section 13.1", Call::options(format!("/eval/{ID}")), a().cors_methods("REPORT,OPTIONS")),
    ] {
        gateway.says(row, call, expected).await;
    }
    let status = gateway.status().await;
    assert_eq!(status["environments"], json!({}), "L256");
    assert_eq!(status["status"], "degraded", "L256");
    assert_eq!(status["autoConfigStatus"]["state"], "INITIALIZING", "section 14.3");
    assert_eq!(status_of(&gateway, &Call::get("/status/x")).await, 503, "section 14.1");
    assert_eq!(gateway.operator_gets("/ready").await.status, 503);

    gateway.eventually("U055: the list to be asked for", || !gateway.upstream.requests().is_empty()).await;
    let asked = &gateway.upstream.requests()[0];
    assert_eq!(asked.path, "/relay_auto_config?rpacProtocolVersion=2", "U055");
    assert_eq!(asked.header("authorization"), Some(AUTO_KEY), "U055");
}

#[tokio::test]
async fn environments_are_shown_by_their_ids_with_their_names() {
    let origins = json!(["https://shop.example", "https://other.example"]);
    let gateway = ready(setup().set("launchdarkly.auto_config.allowed_origins", origins)).await;
    let status = gateway.status().await;
    let main = &status["environments"][ID];
    for (property, value) in [
        ("envId", ID),
        ("envKey", "production"),
        ("envName", "Production"),
        ("projKey", "my-app"),
        ("projName", "My App"),
    ] {
        assert_eq!(main[property], value, "L257");
    }
    assert_eq!(status["status"], "healthy", "L257");
    assert_eq!(status["autoConfigStatus"]["state"], "VALID", "section 14.3");
    let evaluation = Call::get(format!("/sdk/evalx/{ID}/contexts/{CTX}"));
    let foreign = evaluation.header("Origin", "https://foreign.example");
    gateway.says("L258", foreign, some_json(200).cors("https://shop.example", "GET,OPTIONS")).await;
    for (row, path) in [("L263", format!("/status/{ID}")), ("L263", "/status/my-app/production".to_owned())] {
        let answer = gateway.says(row, Call::get(&path), some_json(200)).await;
        assert_eq!(answer.json()["envKey"], "production", "{row}: {path}");
    }
    assert_eq!(status_of(&gateway, &Call::get("/status/my-app/staging")).await, 404, "L263");
}

#[tokio::test]
async fn an_environment_that_is_deleted_is_as_if_it_had_never_been() {
    let gateway = ready(setup().data("sdk-other", data([flag("other", 1)], []))).await;
    let other = environment(OTHER_ID, 1, json!({"value": "sdk-other"}), json!({}));
    gateway.upstream.lists_one(AUTO_KEY, &path(OTHER_ID), &other);
    becomes(&gateway, "section 2.4", &poll("sdk-other"), 200).await;
    let mut streams = [
        gateway.opens("/all", "sdk-a").await,
        gateway.opens("/mping", &format!("mob-{ID}")).await,
        gateway.opens_with(&Call::get(format!("/ping/{ID}"))).await,
    ];
    for stream in &mut streams {
        stream.next().await;
    }
    gateway.upstream.delists(AUTO_KEY, &path(ID), 1);
    gateway.upstream.lists_one(
        AUTO_KEY,
        &path(OTHER_ID),
        &environment(OTHER_ID, 2, json!({"value": "sdk-other"}), json!({"envName": "Seen"})),
    );
    gateway.status_where("the later message", |it| it["environments"][OTHER_ID]["envName"] == "Seen").await;
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 200, "L253: a deletion of an old version");

    gateway.upstream.delists(AUTO_KEY, &path(ID), 2);
    for stream in &mut streams {
        stream.hears_the_end().await; // L252
    }
    gateway.says("L252", poll("sdk-a"), text(401, TEXT_C)).await;
    gateway.says("L252", Call::get("/mping").key(&format!("mob-{ID}")), text(401, TEXT_C)).await;
    gateway.says("L252", Call::get(format!("/ping/{ID}")), text(404, TEXT_D).cors_methods("GET,OPTIONS")).await;
    let status = gateway.status().await;
    assert_eq!(status["environments"].as_object().map(serde_json::Map::len), Some(1), "L252: {status}");
    gateway.eventually("the upstream connection ends", || gateway.upstream.open_streams("sdk-a") == 0).await;
    assert_eq!(status_of(&gateway, &poll("sdk-other")).await, 200, "the other one is untouched");

    // L253: an old message does not bring it back, a new one does.
    gateway.upstream.tells(AUTO_KEY, "patch", &json!({"path": path(ID), "data": main(2, "sdk-a")}));
    gateway.upstream.lists_one(
        AUTO_KEY,
        &path(OTHER_ID),
        &environment(OTHER_ID, 3, json!({"value": "sdk-other"}), json!({"envName": "Again"})),
    );
    gateway.status_where("the later message", |it| it["environments"][OTHER_ID]["envName"] == "Again").await;
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 401, "L253");
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &main(3, "sdk-a"));
    becomes(&gateway, "section 12.3: deleted and created again", &poll("sdk-a"), 200).await;
}

#[tokio::test]
async fn filters_come_and_go() {
    let gateway = ready(setup().data("sdk-a?filter=a", data([flag("part", 1)], []))).await;
    let filtered = Call::get("/sdk/flags?filter=a").key("sdk-a");
    gateway.says("L242", filtered.clone(), text(404, TEXT_B)).await;
    let filter = |version: i64| json!({"projKey": "my-app", "key": "a", "version": version});
    gateway.upstream.lists_one(AUTO_KEY, "/filters/f1", &filter(1));
    becomes(&gateway, "L242", &filtered, 200).await;
    assert_eq!(gateway.answers(&filtered).await.json(), by_key([flag("part", 1)]), "L242");
    let status = gateway.status().await;
    let variant = format!("{ID}/a");
    assert_eq!(status["environments"][&variant]["envId"], ID, "L243");
    assert_eq!(status["environments"][ID]["envId"], ID, "L243");
    assert_eq!(status_of(&gateway, &Call::get(format!("/status/{ID}/filters/a"))).await, 200, "section 14.1");
    assert_eq!(status_of(&gateway, &Call::get("/status/my-app/production/filters/a")).await, 200, "section 14.1");

    let mut stream = gateway.opens("/all?filter=a", "sdk-a").await;
    let mut whole = gateway.opens("/all", "sdk-a").await;
    stream.hears_event("put").await;
    whole.hears_event("put").await;
    gateway.upstream.delists(AUTO_KEY, "/filters/f1", 2);
    stream.hears_the_end().await; // L242
    gateway.says("L242", filtered, text(404, TEXT_B)).await;
    gateway.upstream.patches("sdk-a", &flag("plain", 4));
    whole.hears_event("patch").await;
}

#[tokio::test]
async fn trouble_with_the_list_does_not_touch_what_is_served() {
    let gateway = ready(setup()).await;
    let mut stream = gateway.opens("/all", "sdk-a").await;
    stream.hears_event("put").await;
    let asked = || gateway.upstream.requests().iter().filter(|it| it.path.starts_with("/relay_auto_config")).count();
    for (row, trouble) in [("U064", "event: put\ndata: {sorry\n\n"), ("U065", "event: reconnect\ndata: x\n\n")] {
        let before = asked();
        gateway.upstream.says(AUTO_KEY, trouble);
        gateway.eventually(&format!("{row}: a new connection"), || asked() > before).await;
    }
    // U070: the same list again is no news.
    gateway.status_where("a good connection", |it| it["autoConfigStatus"]["state"] == "VALID").await;
    gateway.upstream.patches("sdk-a", &flag("plain", 4));
    stream.hears_event("patch").await;
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "U070: the upstream stream is still the first one");
}

#[tokio::test]
async fn a_rejected_auto_configuration_key_is_tried_again() {
    // U057, U058
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts("sdk-a", &data([flag("plain", 3)], []));
    cloud.lists(AUTO_KEY, &list([main(1, "sdk-a")]));
    cloud.answers_streams_with([StreamAnswer::Status(401), StreamAnswer::Status(503)]);
    let gateway = setup().cloud(&cloud).set("launchdarkly.rejected_retry_interval", "50ms").start().await;
    becomes(&gateway, "U057, U058", &poll("sdk-a"), 200).await;
}
