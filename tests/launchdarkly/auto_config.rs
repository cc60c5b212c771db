//! L242, L243, L252 to L258: LaunchDarkly sends the list of environments, and changes it while they are served.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly, StreamAnswer, within};

use crate::expected::{TEXT_A, TEXT_B, TEXT_C, TEXT_D, empty, some_json, text};
use crate::flags::{by_key, data, flag};
use crate::running::{CTX, Running, Setup};

pub(crate) const AUTO_KEY: &str = "rel-auto";
pub(super) const ID: &str = "507f1f77bcf86cd79943902a";
const OTHER_ID: &str = "507f1f77bcf86cd79943902b";

/// Returns an environment as described by LaunchDarkly.
pub(crate) fn environment(id: &str, version: i64, sdk_key: Value, properties: Value) -> Value {
    let mut environment = json!({
        "envID": id, "envKey": "production", "envName": "Production", "projKey": "my-app", "projName": "My App",
        "sdkKey": sdk_key, "mobKey": format!("mob-{id}"), "defaultTtl": 0, "secureMode": false, "version": version,
    });
    for (name, value) in properties.as_object().expect("an object") {
        environment[name] = value.clone();
    }
    environment
}

pub(crate) fn main(version: i64, sdk_key: &str) -> Value {
    environment(ID, version, json!({"value": sdk_key}), json!({}))
}

pub(crate) fn list(environments: impl IntoIterator<Item = Value>) -> Value {
    let by_id: Value =
        environments.into_iter().map(|it| (it["envID"].as_str().expect("an ID").to_owned(), it)).collect();
    json!({ "environments": by_id })
}

pub(super) fn path(id: &str) -> String {
    format!("/environments/{id}")
}

pub(crate) fn setup() -> Setup {
    Setup::new()
        .environments([])
        .set("launchdarkly.auto_config.key", AUTO_KEY)
        .set("launchdarkly.expired_credential_cleanup_interval", "100ms")
        .prepare(|cloud| cloud.add_environment(AUTO_KEY))
        .without_waiting()
}

/// Starts a gateway with one environment with the key `sdk-a`, and waits until it is ready.
pub(super) async fn ready(setup: Setup) -> Running {
    let gateway = setup.data("sdk-a", data([flag("plain", 3)], [])).start().await;
    gateway.upstream.lists(AUTO_KEY, &list([main(1, "sdk-a")]));
    gateway.wait_until_ready().await;
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
        ("L254: no key", Call::get("/all"), empty(401)),
        ("L255", Call::get(format!("/ping/{ID}")), a().cors_methods("GET,OPTIONS")),
        ("L255: a preflight", Call::options(format!("/eval/{ID}")), a().cors_methods("REPORT,OPTIONS")),
    ] {
        gateway.answers_as(row, call, expected).await;
    }
    let status = gateway.status().await;
    assert_eq!(status["environments"], json!({}), "L256");
    assert_eq!(status["status"], "degraded", "L256");
    assert_eq!(status["autoConfigStatus"]["state"], "INITIALIZING", "V045");
    assert_eq!(status_of(&gateway, &Call::get("/status/x")).await, 503, "L263");
    assert_eq!(gateway.operator_gets("/ready").await.status, 503);

    gateway.eventually("U055: a request for the list", || !gateway.upstream.requests().is_empty()).await;
    let request = &gateway.upstream.requests()[0];
    assert_eq!(request.path, "/relay_auto_config?rpacProtocolVersion=2", "U055");
    assert_eq!(request.header("authorization"), Some(AUTO_KEY), "U055");
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
    assert_eq!(status["autoConfigStatus"]["state"], "VALID", "V045");
    let metrics = gateway.operator_gets("/metrics").await.text().to_owned();
    let states = metrics.lines().filter(|it| it.starts_with("yardarm_environment_list_state{"));
    let states: Vec<_> = states.map(|it| (it.contains(r#"state="valid""#), it.ends_with(" 1"))).collect();
    assert_eq!(states.len(), 4, "one series per state: {metrics}");
    assert!(states.iter().all(|(is_valid, is_current)| is_valid == is_current), "{metrics}");
    let evaluation = Call::get(format!("/sdk/evalx/{ID}/contexts/{CTX}"));
    let foreign = evaluation.header("Origin", "https://foreign.example");
    gateway.answers_as("L258", foreign, some_json(200).cors("https://shop.example", "GET,OPTIONS")).await;
    for (row, path) in [("L263", format!("/status/{ID}")), ("L263", "/status/my-app/production".to_owned())] {
        let answer = gateway.answers_as(row, Call::get(&path), some_json(200)).await;
        assert_eq!(answer.json()["envKey"], "production", "{row}: {path}");
    }
    assert_eq!(status_of(&gateway, &Call::get("/status/my-app/staging")).await, 404, "L263");
}

#[tokio::test]
async fn a_deleted_environment_is_unknown() {
    let gateway = ready(setup().data("sdk-other", data([flag("other", 1)], []))).await;
    let other = environment(OTHER_ID, 1, json!({"value": "sdk-other"}), json!({}));
    gateway.upstream.lists_one(AUTO_KEY, &path(OTHER_ID), &other);
    becomes(&gateway, "U059", &poll("sdk-other"), 200).await;
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
        stream.receives_end().await; // L252
    }
    gateway.answers_as("L252", poll("sdk-a"), text(401, TEXT_C)).await;
    gateway.answers_as("L252", Call::get("/mping").key(&format!("mob-{ID}")), text(401, TEXT_C)).await;
    gateway.answers_as("L252", Call::get(format!("/ping/{ID}")), text(404, TEXT_D).cors_methods("GET,OPTIONS")).await;
    let status = gateway.status().await;
    assert_eq!(status["environments"].as_object().map(serde_json::Map::len), Some(1), "L252: {status}");
    gateway.eventually("the upstream connection ends", || gateway.upstream.open_streams("sdk-a") == 0).await;
    assert_eq!(status_of(&gateway, &poll("sdk-other")).await, 200, "the other one is untouched");

    // L253: an old message does not bring it back, a newer one does.
    gateway.upstream.sends_event(AUTO_KEY, "patch", &json!({"path": path(ID), "data": main(2, "sdk-a")}));
    gateway.upstream.lists_one(
        AUTO_KEY,
        &path(OTHER_ID),
        &environment(OTHER_ID, 3, json!({"value": "sdk-other"}), json!({"envName": "Again"})),
    );
    gateway.status_where("the later message", |it| it["environments"][OTHER_ID]["envName"] == "Again").await;
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 401, "L253");
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &main(3, "sdk-a"));
    becomes(&gateway, "L252: deleted and created again", &poll("sdk-a"), 200).await;
}

#[tokio::test]
async fn filters_are_added_and_removed() {
    let gateway = ready(setup().data("sdk-a?filter=a", data([flag("part", 1)], []))).await;
    let filtered = Call::get("/sdk/flags?filter=a").key("sdk-a");
    gateway.answers_as("L242", filtered.clone(), text(404, TEXT_B)).await;
    let filter = |version: i64| json!({"projKey": "my-app", "key": "a", "version": version});
    gateway.upstream.lists_one(AUTO_KEY, "/filters/f1", &filter(1));
    becomes(&gateway, "L242", &filtered, 200).await;
    assert_eq!(gateway.answers(&filtered).await.json(), by_key([flag("part", 1)]), "L242");
    let status = gateway.status().await;
    let variant = format!("{ID}/a");
    assert_eq!(status["environments"][&variant]["envId"], ID, "L243");
    assert_eq!(status["environments"][ID]["envId"], ID, "L243");
    assert_eq!(status_of(&gateway, &Call::get(format!("/status/{ID}/filters/a"))).await, 200, "L263");
    assert_eq!(status_of(&gateway, &Call::get("/status/my-app/production/filters/a")).await, 200, "L263");

    let mut stream = gateway.opens("/all?filter=a", "sdk-a").await;
    let mut whole = gateway.opens("/all", "sdk-a").await;
    stream.receives_event("put").await;
    whole.receives_event("put").await;
    gateway.upstream.delists(AUTO_KEY, "/filters/f1", 2);
    stream.receives_end().await; // L242
    gateway.answers_as("L242", filtered, text(404, TEXT_B)).await;
    gateway.upstream.patches("sdk-a", &flag("plain", 4));
    whole.receives_event("patch").await;
}

#[tokio::test]
async fn errors_of_the_list_do_not_affect_served_data() {
    let gateway = ready(setup()).await;
    let mut stream = gateway.opens("/all", "sdk-a").await;
    stream.receives_event("put").await;
    let requests = || gateway.upstream.requests().iter().filter(|it| it.path.starts_with("/relay_auto_config")).count();
    for (row, trouble) in [("U064", "event: put\ndata: {sorry\n\n"), ("U065", "event: reconnect\ndata: x\n\n")] {
        let before = requests();
        gateway.upstream.sends_bytes(AUTO_KEY, trouble);
        gateway.eventually(&format!("{row}: a new connection"), || requests() > before).await;
    }
    // U070: the same list again changes nothing.
    gateway.status_where("a good connection", |it| it["autoConfigStatus"]["state"] == "VALID").await;
    gateway.upstream.patches("sdk-a", &flag("plain", 4));
    stream.receives_event("patch").await;
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "U070: the upstream stream is still the first one");
}

#[tokio::test]
async fn a_rejected_auto_configuration_key_is_retried() {
    // U057, U058
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts("sdk-a", &data([flag("plain", 3)], []));
    cloud.lists(AUTO_KEY, &list([main(1, "sdk-a")]));
    cloud.answers_streams_with([StreamAnswer::Status(401), StreamAnswer::Status(503)]);
    let gateway = setup().cloud(&cloud).set("launchdarkly.rejected_retry_interval", "50ms").start().await;
    becomes(&gateway, "U057, U058", &poll("sdk-a"), 200).await;
}

/// Returns two environments; the first has another key in its grace period.
fn two(grace_ends_ms: u64) -> Value {
    let key = json!({"value": "sdk-a", "expiring": {"value": "sdk-old", "timestamp": grace_ends_ms}});
    let other = environment(OTHER_ID, 7, json!({"value": "sdk-other"}), json!({"projName": "Other App"}));
    list([environment(ID, 5, key, json!({"secureMode": true})), other])
}

fn in_ms(milliseconds: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(now.as_millis()).expect("a date") + milliseconds
}

/// Runs a gateway that stores a list of two environments in `dir`, and stops it.
async fn keeps_two(dir: &std::path::Path, grace_ends_ms: u64) {
    let data_of = |version| data([flag("plain", version)], []);
    let setup = setup().data("sdk-a", data_of(3)).data("sdk-other", data_of(8));
    let gateway = setup.set("data.dir", dir.to_str().expect("a path in UTF-8")).start().await;
    gateway.upstream.lists(AUTO_KEY, &two(grace_ends_ms));
    for key in ["sdk-a", "sdk-old", "sdk-other"] {
        becomes(&gateway, "before", &poll(key), 200).await;
    }
    gateway.stop().await;
}

fn kept_in(dir: &std::path::Path, cloud: &FakeLaunchDarkly) -> Setup {
    setup().cloud(cloud).set("data.dir", dir.to_str().expect("a path in UTF-8"))
}

fn store_file(dir: &std::path::Path) -> std::path::PathBuf {
    dir.join("store.redb")
}

fn position(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|it| it == text.as_bytes())
}

/// Whether a list is on disk: its key is in plain text.
fn has_list(dir: &std::path::Path) -> bool {
    std::fs::read(store_file(dir)).is_ok_and(|it| position(&it, "auto-configuration").is_some())
}

#[tokio::test]
async fn a_kept_list_is_served_at_once_while_launchdarkly_is_down() {
    // V040, V050: upstream is unreachable, or rejects the key.
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let grace_ends_ms = in_ms(8_000);
    keeps_two(dir.path(), grace_ends_ms).await;
    for is_refused in [false, true] {
        let cloud = FakeLaunchDarkly::start().await;
        cloud.add_environment(AUTO_KEY);
        if is_refused {
            cloud.answers_streams_with([StreamAnswer::Status(401); 3]);
        } else {
            cloud.goes_down();
        }
        let gateway = kept_in(dir.path(), &cloud).start().await;
        for (key, version) in [("sdk-a", 3), ("sdk-old", 3), ("sdk-other", 8)] {
            let answer = gateway.answers(&poll(key)).await;
            assert_eq!((answer.status, answer.json()), (200, by_key([flag("plain", version)])), "V040: {key}");
        }
        gateway.answers_as("V048", poll("sdk-unknown"), text(401, TEXT_C)).await;
        let evaluate = Call::get(format!("/sdk/evalx/{OTHER_ID}/contexts/{CTX}"));
        assert_eq!(status_of(&gateway, &evaluate).await, 200, "V040");
        let secured = Call::get(format!("/sdk/evalx/{ID}/contexts/{CTX}"));
        assert_eq!(status_of(&gateway, &secured).await, 400, "secure mode is kept too");
        gateway.opens("/all", "sdk-other").await.receives_event("put").await;

        let shown = gateway.operator_gets("/api/status").await.json();
        let report = &shown["environment_lists"][0];
        assert_eq!((&report["vendor"], &report["source"]), (&json!("launchdarkly"), &json!("auto-configuration")));
        assert_eq!((&report["is_known"], &report["is_stale"]), (&json!(true), &json!(true)), "{report}");
        assert_eq!(report["environments"], 2, "{report}");
        assert!(shown["environments"].as_array().expect("a list").iter().all(|it| it["is_stale"] == true), "{shown}");
        let metrics = gateway.operator_gets("/metrics").await.text().to_owned();
        let stale = r#"yardarm_environment_list_stale{source="auto-configuration",vendor="launchdarkly"} 1"#;
        assert!(metrics.lines().any(|it| it == stale), "{metrics}");
        let main = gateway.status().await["environments"][ID].clone();
        assert_eq!((&main["envKey"], &main["expiringSdkKey"]), (&json!("production"), &json!("sdk-old")));
        gateway.stop().await;
    }

    // A key whose grace period ends while LaunchDarkly is down is rejected from then on, also after a restart.
    let cloud = FakeLaunchDarkly::start().await;
    cloud.goes_down();
    let gateway = kept_in(dir.path(), &cloud).start().await;
    becomes(&gateway, "the end of grace", &poll("sdk-old"), 401).await;
    assert!(in_ms(0) >= grace_ends_ms, "not before its time");
    gateway.stop().await;
    let gateway = kept_in(dir.path(), &cloud).start().await;
    assert_eq!(status_of(&gateway, &poll("sdk-old")).await, 401);
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 200);
}

#[tokio::test]
async fn the_list_of_launchdarkly_replaces_a_kept_one() {
    // Removed environments and revoked keys are removed, even if versions are lower than the stored ones.
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    keeps_two(dir.path(), in_ms(3_600_000)).await;
    let cloud = FakeLaunchDarkly::start().await;
    cloud.goes_down();
    cloud.puts("sdk-b", &data([flag("plain", 4)], []));
    let gateway = kept_in(dir.path(), &cloud).start().await;
    let mut streams = Vec::new();
    for key in ["sdk-a", "sdk-old", "sdk-other"] {
        let mut stream = gateway.opens("/all", key).await;
        stream.receives_event("put").await;
        streams.push(stream);
    }
    cloud.lists(AUTO_KEY, &list([main(1, "sdk-b")]));
    cloud.comes_back();
    for mut stream in streams {
        stream.receives_end().await;
    }
    becomes(&gateway, "V040", &poll("sdk-b"), 200).await;
    for key in ["sdk-a", "sdk-old", "sdk-other"] {
        gateway.answers_as("V040", poll(key), text(401, TEXT_C)).await;
    }
    gateway
        .answers_as("V040", Call::get(format!("/ping/{OTHER_ID}")), text(404, TEXT_D).cors_methods("GET,OPTIONS"))
        .await;
    let report = gateway.operator_gets("/api/status").await.json()["environment_lists"][0].clone();
    assert_eq!((&report["is_stale"], &report["environments"]), (&json!(false), &json!(1)), "{report}");
    gateway.stop().await;
    // The next process has the new list only.
    cloud.goes_down();
    let gateway = kept_in(dir.path(), &cloud).start().await;
    for (key, status) in [("sdk-b", 200), ("sdk-a", 401), ("sdk-other", 401)] {
        assert_eq!(status_of(&gateway, &poll(key)).await, status, "{key}");
    }
}

#[tokio::test]
async fn a_kept_list_discloses_nothing_and_is_not_trusted_blindly() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    keeps_two(dir.path(), in_ms(3_600_000)).await;
    let file = store_file(dir.path());
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let good = std::fs::read(&file).expect("a file");
    // IDs of environments are public, and name the data of each.
    for secret in ["sdk-", "mob-", "My App", "Other App", "production", AUTO_KEY] {
        assert_eq!(position(&good, secret), None, "V041: {secret} can be read");
    }
    let cloud = FakeLaunchDarkly::start().await;
    cloud.goes_down();
    let mut flipped = good.clone();
    flipped[position(&good, "auto-configuration").expect("a list")] ^= 1;
    for (what, bytes, key) in [
        ("one flipped bit", flipped, AUTO_KEY),
        ("cut off", good[..good.len() / 2].to_vec(), AUTO_KEY),
        ("empty", Vec::new(), AUTO_KEY),
        ("another key", good.clone(), "rel-other"),
    ] {
        std::fs::write(&file, bytes).expect("a folder that can be written");
        let gateway = kept_in(dir.path(), &cloud).set("launchdarkly.auto_config.key", key).start().await;
        gateway.answers_as(&format!("V041: {what}"), poll("sdk-a"), text(503, TEXT_A)).await;
        gateway.stop().await;
    }
    std::fs::write(&file, good).expect("a folder that can be written");
    let gateway = kept_in(dir.path(), &cloud).start().await;
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 200, "ignoring destroys nothing");
}

#[tokio::test]
async fn a_list_survives_a_kill_at_any_moment() {
    use crate::program::{Program, Signal};
    let (cloud, dir) = (FakeLaunchDarkly::start().await, tempfile::TempDir::new().expect("a temporary folder"));
    cloud.puts("sdk-a", &data([flag("plain", 3)], []));
    let data_dir = dir.path().join("data");
    let setup = setup().set("log.format", "json").set("data.dir", data_dir.to_str().expect("a path in UTF-8"));
    setup.write(&cloud.url(), dir.path());
    cloud.lists(AUTO_KEY, &list([main(1, "sdk-a")]));
    let mut version = 1;
    for round in 0..4 {
        cloud.comes_back();
        let program = Program::start(dir.path()).await;
        within("`/ready`", program.wait_until_ready()).await;
        yardarm_testkit::until("a kept list", || has_list(&data_dir)).await;
        // The list changes continuously until the end, which occurs at a different moment each time.
        for _ in 0..(round + 1) * 30 {
            version += 1;
            cloud.lists_one(
                AUTO_KEY,
                &path(ID),
                &environment(ID, version, json!({"value": "sdk-a"}), json!({"envName": format!("{version:07}")})),
            );
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        program.signal(Signal::KILL);
        program.ends().await;
        cloud.goes_down();
        let program = Program::start(dir.path()).await;
        assert_eq!(program.answers(&poll("sdk-a")).await.status, 200, "round {round}: {:#?}", program.log());
        program.signal(Signal::KILL);
        program.ends().await;
    }
}
