//! L190 and L244 to L251: keys and settings of an environment change while it is served.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use yardarm_testkit::{Call, Connection, within};

use super::auto_config::{AUTO_KEY, ID, becomes, environment, main, path, poll, ready, setup, status_of};
use crate::expected::{TEXT_C, message, text};
use crate::flags::{by_key, data, flag, put};
use crate::running::CTX;

fn in_grace(version: i64, sdk_key: &str, old: &str, milliseconds: u64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis();
    let timestamp = u64::try_from(now).expect("a date") + milliseconds;
    let key = json!({"value": sdk_key, "expiring": {"value": old, "timestamp": timestamp}});
    environment(ID, version, key, json!({}))
}

#[tokio::test]
async fn a_key_replaced_without_a_grace_period_is_rejected_at_once() {
    let gateway = ready(setup()).await;
    let mut old = gateway.opens("/all", "sdk-a").await;
    let mut phone = gateway.opens("/mping", &format!("mob-{ID}")).await;
    old.receives_event("put").await;
    phone.receives_ping().await;
    gateway.upstream.puts("sdk-b", &data([flag("plain", 4)], []));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &main(2, "sdk-b"));

    old.receives_end().await; // L244
    gateway.answers_as("L244", poll("sdk-a"), text(401, TEXT_C)).await;
    assert_eq!(status_of(&gateway, &poll("sdk-b")).await, 200, "L245: at once, with the data that is there");
    let mut new = gateway.opens("/all", "sdk-b").await; // R17: never a 404
    new.receives_event("put").await;
    phone.receives_ping().await; // the new connection's data reaches every stream
    becomes(&gateway, "L245", &Call::get("/sdk/flags/plain").key("sdk-b").header("If-None-Match", "relay-4"), 304)
        .await;
    assert_eq!(gateway.status().await["environments"][ID].get("expiringSdkKey"), None);
    gateway.eventually("the old upstream connection ends", || gateway.upstream.open_streams("sdk-a") == 0).await;
}

#[tokio::test]
async fn a_key_in_its_grace_period_is_served_like_the_new_one() {
    let gateway = ready(setup().events()).await;
    let mut old = gateway.opens("/all", "sdk-a").await;
    old.receives_event("put").await;
    gateway.upstream.puts("sdk-b", &data([flag("plain", 4)], []));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &in_grace(2, "sdk-b", "sdk-a", 1_500));

    // The new connection's data reaches the stream that was opened with the old key.
    old.receives("put", put(data([flag("plain", 4)], []))).await;
    for key in ["sdk-a", "sdk-b"] {
        assert_eq!(gateway.answers(&poll(key)).await.json(), by_key([flag("plain", 4)]), "L246");
    }
    let shown = gateway.status().await["environments"][ID].clone();
    assert_eq!((&shown["sdkKey"], &shown["expiringSdkKey"]), (&json!("sdk-b"), &json!("sdk-a")), "L246");
    let answer = gateway
        .answers(&Call::post("/bulk", r#"[{"kind":"x"}]"#).key("sdk-a").header("X-LaunchDarkly-Event-Schema", "4"))
        .await;
    assert_eq!(answer.status, 202, "U123");
    gateway.eventually("the event arrived", || !gateway.upstream.posts("/bulk").is_empty()).await;
    assert_eq!(gateway.upstream.posts("/bulk")[0].header("authorization"), Some("sdk-b"), "U123");
    gateway.upstream.patches("sdk-b", &flag("plain", 5));
    old.receives_event("patch").await;

    old.receives_end().await; // L247
    gateway.answers_as("L247", poll("sdk-a"), text(401, TEXT_C)).await;
    assert_eq!(gateway.status().await["environments"][ID].get("expiringSdkKey"), None, "L247");
    assert_eq!(status_of(&gateway, &poll("sdk-b")).await, 200, "L247");
}

#[tokio::test]
async fn a_mobile_key_has_no_grace_period() {
    let gateway = ready(setup()).await;
    let mut phone = gateway.opens("/mping", &format!("mob-{ID}")).await;
    let mut server = gateway.opens("/all", "sdk-a").await;
    let mut browser = gateway.opens_with(&Call::get(format!("/ping/{ID}"))).await;
    phone.receives_ping().await;
    server.receives_event("put").await;
    browser.receives_ping().await;
    let rotated = environment(ID, 2, json!({"value": "sdk-a"}), json!({"mobKey": "mob-new"}));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &rotated);
    phone.receives_end().await; // L248
    gateway.answers_as("L248", Call::get("/mping").key(&format!("mob-{ID}")), text(401, TEXT_C)).await;
    gateway.opens("/mping", "mob-new").await.receives_ping().await;
    // The others are still open and miss nothing: their upstream connection was not affected.
    gateway.upstream.patches("sdk-a", &flag("plain", 4));
    server.receives_event("patch").await;
    browser.receives_ping().await;
}

#[tokio::test]
async fn settings_change_while_streams_stay_open() {
    let gateway = ready(setup()).await;
    let evaluation = Call::get(format!("/sdk/evalx/{ID}/contexts/{CTX}"));
    let mut browser = gateway.opens_with(&Call::get(format!("/eval/{ID}/{CTX}"))).await;
    browser.receives_ping().await;
    assert_eq!(gateway.answers(&poll("sdk-a")).await.header("expires"), None);

    let secure = environment(ID, 2, json!({"value": "sdk-a"}), json!({"secureMode": true, "defaultTtl": 5}));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &secure);
    becomes(&gateway, "L249", &evaluation, 400).await;
    let refusal = message(400, "Environment is in secure mode, and context hash does not match.");
    gateway.answers_as("L249", evaluation, refusal.cors("*", "GET,OPTIONS")).await;
    let polled = gateway.answers(&poll("sdk-a")).await;
    let expires = httpdate::parse_http_date(polled.header("expires").expect("L251")).expect("a date");
    let ttl = expires.duration_since(SystemTime::now()).expect("in the future").as_secs();
    assert!((296..=300).contains(&ttl), "L251: {ttl} s");

    // L250: the hash is computed with the current key.
    let hashed = |hash: &str| Call::get(format!("/sdk/evalx/{ID}/contexts/{CTX}?h={hash}"));
    let (by_a, by_b) = (hash("sdk-a"), hash("sdk-b"));
    assert_eq!(status_of(&gateway, &hashed(&by_a)).await, 200, "L250");
    gateway.upstream.puts("sdk-b", &data([flag("plain", 4)], []));
    let rotated = environment(ID, 3, json!({"value": "sdk-b"}), json!({"secureMode": true, "envName": "Live"}));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &rotated);
    becomes(&gateway, "L250", &hashed(&by_b), 200).await;
    assert_eq!(status_of(&gateway, &hashed(&by_a)).await, 400, "L250");
    browser.receives_ping().await; // L249, U073: the stream has stayed open
    assert_eq!(gateway.status().await["environments"][ID]["envName"], "Live", "U073");
}

/// The secure mode hash of the context `a`: HMAC-SHA256 with the SDK key, in hexadecimal digits.
fn hash(key: &str) -> String {
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("any key");
    mac.update(b"a");
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test]
async fn a_filter_added_after_a_rotation_uses_the_new_key() {
    // Decision R18.
    let gateway = ready(setup().data("sdk-b", data([flag("plain", 4)], []))).await;
    gateway.upstream.add_environment("sdk-b?filter=a");
    gateway.upstream.puts("sdk-b?filter=a", &data([flag("part", 1)], []));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &main(2, "sdk-b"));
    gateway.upstream.lists_one(AUTO_KEY, "/filters/f1", &json!({"projKey": "my-app", "key": "a", "version": 1}));
    becomes(&gateway, "R18", &Call::get("/sdk/flags?filter=a").key("sdk-b"), 200).await;
}

#[tokio::test]
async fn a_new_key_that_does_not_work_yet_has_no_effect() {
    // U122, U177
    let gateway = ready(setup()).await;
    let mut stream = gateway.opens("/all", "sdk-a").await;
    stream.receives_event("put").await;
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &in_grace(2, "sdk-b", "sdk-a", 600_000));
    becomes(&gateway, "U177", &poll("sdk-b"), 200).await;
    let refused =
        || gateway.upstream.stream_requests().iter().filter(|it| it.header("authorization") == Some("sdk-b")).count();
    gateway.eventually("the new key is tried and tried again", || refused() >= 2).await;
    for key in ["sdk-a", "sdk-b"] {
        assert_eq!(gateway.answers(&poll(key)).await.json(), by_key([flag("plain", 3)]), "U177: {key}");
    }
    assert_eq!(gateway.status().await["environments"][ID]["connectionStatus"]["state"], "VALID", "U177");
    // The old connection is kept meanwhile.
    gateway.upstream.patches("sdk-a", &flag("plain", 4));
    stream.receives_event("patch").await;
    gateway.upstream.puts("sdk-b", &data([flag("plain", 5)], []));
    stream.receives("put", put(data([flag("plain", 5)], []))).await;
    gateway.eventually("the old upstream connection ends", || gateway.upstream.open_streams("sdk-a") == 0).await;
}

#[tokio::test]
async fn several_keys_are_accepted_and_one_is_used_upstream() {
    // U173 to U176, U180, U182
    let gateway = ready(setup().events()).await;
    let keys = |version: i64, anchor: &str, keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| json!({"key": format!("id-{key}"), "value": key})).collect();
        let lists = json!({"sdkKeys": keys, "mobileKeys": [], "mobKey": ""});
        environment(ID, version, json!({"value": anchor}), lists)
    };
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &keys(2, "sdk-a", &["sdk-a", "sdk-x", "sdk-y"]));
    becomes(&gateway, "U173", &poll("sdk-x"), 200).await;
    assert_eq!(status_of(&gateway, &poll("sdk-y")).await, 200, "U173");
    let shown = gateway.status().await["environments"][ID].clone();
    assert_eq!(shown["sdkKeys"][1], json!({"key": "id-sdk-x", "value": "sdk-x"}), "V046");
    assert_eq!(shown["mobileKeys"], json!([]), "U180");
    let (mut x, mut y) = (gateway.opens("/all", "sdk-x").await, gateway.opens("/all", "sdk-y").await);
    x.receives_event("put").await;
    y.receives_event("put").await;
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &keys(3, "sdk-a", &["sdk-a", "sdk-x", "sdk-z"]));
    y.receives_end().await; // U174
    assert_eq!(status_of(&gateway, &poll("sdk-y")).await, 401, "U174");
    assert_eq!(status_of(&gateway, &poll("sdk-z")).await, 200, "U174");
    let upstream_keys: Vec<_> = gateway
        .upstream
        .stream_requests()
        .iter()
        .map(|it| it.header("authorization").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(upstream_keys, ["sdk-a"], "U173, U174: one upstream stream, with the anchor");
    gateway
        .answers(&Call::post("/bulk", r#"[{"kind":"x"}]"#).key("sdk-x").header("X-LaunchDarkly-Event-Schema", "4"))
        .await;
    gateway.eventually("the event arrived", || !gateway.upstream.posts("/bulk").is_empty()).await;
    assert_eq!(gateway.upstream.posts("/bulk")[0].header("authorization"), Some("sdk-a"), "U182");

    // U176: another anchor, and streams of both keys stay open.
    gateway.upstream.puts("sdk-x", &data([flag("plain", 9)], []));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &keys(4, "sdk-x", &["sdk-a", "sdk-x", "sdk-z"]));
    x.receives("put", put(data([flag("plain", 9)], []))).await;
    assert_eq!(status_of(&gateway, &poll("sdk-a")).await, 200, "U176");
}

#[tokio::test]
async fn a_contradictory_set_of_keys_changes_nothing_and_is_requested_again() {
    // U178
    let gateway = ready(setup()).await;
    let broken = environment(ID, 2, json!({"value": "sdk-b"}), json!({"sdkKeys": [{"value": "sdk-c"}]}));
    gateway.upstream.sends_event(AUTO_KEY, "patch", &json!({"path": path(ID), "data": broken}));
    let requests = || gateway.upstream.requests().iter().filter(|it| it.path.starts_with("/relay_auto_config")).count();
    gateway.eventually("the stream is opened again", || requests() >= 2).await;
    for (key, status) in [("sdk-a", 200), ("sdk-b", 401), ("sdk-c", 401)] {
        assert_eq!(status_of(&gateway, &poll(key)).await, status, "U178: {key}");
    }
}

#[tokio::test]
async fn events_are_forwarded_again_with_a_new_key() {
    // L190, U168
    let gateway = ready(setup().events()).await;
    gateway.upstream.answers_posts_with([401]);
    let post = |key: &str| Call::post("/bulk", r#"[{"kind":"x"}]"#).key(key).header("X-LaunchDarkly-Event-Schema", "4");
    let posts = || gateway.upstream.posts("/bulk").len();
    assert_eq!(status_of(&gateway, &post("sdk-a")).await, 202);
    gateway.eventually("the post was refused", || posts() == 1).await;
    assert_eq!(status_of(&gateway, &post("sdk-a")).await, 202, "L190");
    let dropped = |report: &Value| {
        report["environments"][0]["events"]["dropped"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it[0] == "publisher-off"))
    };
    within("the next one to be dropped", async {
        while !dropped(&gateway.operator_gets("/api/environments").await.json()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(posts(), 1, "L190: nothing is sent for a refused key");
    gateway.upstream.puts("sdk-b", &data([flag("plain", 4)], []));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &main(2, "sdk-b"));
    becomes(&gateway, "L190", &poll("sdk-b"), 200).await;
    assert_eq!(status_of(&gateway, &post("sdk-b")).await, 202);
    gateway.eventually("L190: forwarding works again", || posts() == 2).await;
    assert_eq!(gateway.upstream.posts("/bulk")[1].header("authorization"), Some("sdk-b"), "L190");
}

#[tokio::test]
async fn a_key_revoked_while_its_stream_opens_is_rejected() {
    // The credential is checked once the head of the request has arrived, the stream begins once its body has.
    let gateway = ready(setup()).await;
    let key = format!("mob-{ID}");
    let mut connection = Connection::open(gateway.address).await;
    let body = r#"{"kind":"user","key":"a"}"#;
    let length = body.len();
    let head = format!(
        "REPORT /meval HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    );
    connection.sends(head).await;
    // The handler requests the body, so the caller was admitted.
    assert_eq!(connection.interim().await, 100);
    let replaced = environment(ID, 2, json!({"value": "sdk-a"}), json!({"mobKey": "mob-new"}));
    gateway.upstream.lists_one(AUTO_KEY, &path(ID), &replaced);
    let evaluate = |key: &str| Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(key);
    becomes(&gateway, "the new key", &evaluate("mob-new"), 200).await;
    assert_eq!(status_of(&gateway, &evaluate(&key)).await, 401);
    connection.sends(body).await;
    let answer = within("an answer", connection.answer("REPORT")).await.expect("an answer");
    text(401, TEXT_C).compare("a key that was revoked meanwhile", &answer);
    let streams = gateway.operator_gets("/api/status").await.json()["streams"].clone();
    let open: u64 = streams.as_array().expect("a list").iter().map(|it| it["open"].as_u64().expect("a count")).sum();
    assert_eq!(open, 0, "{streams}");
}
