//! The plugins of the cookbook do what `docs/cookbook.md` says, with the binding files that it shows.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use yardarm_testkit::{Answer, Call, Origin, until, within};
use yardarm_wasm::{Compiler, OperatorFiles, parse_cases, test_file};

use super::{Plugged, arrived, put, sample};
use crate::flags::some_data;
use crate::running::{MOBILE_KEY, SDK_KEY, Setup, main_environment};
use crate::sdks::{data, flag};

fn cookbook() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/cookbook")
}

/// Returns a file of a recipe.
fn file(name: &str, path: &str) -> String {
    std::fs::read_to_string(cookbook().join(name).join(path)).expect("a file of the cookbook")
}

/// Returns the binding file of a recipe in which each first text is replaced by the second.
fn binding(name: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(file(name, &format!("{name}.toml")), |binding, (before, after)| {
        assert!(binding.contains(before), "{name}: {before}");
        binding.replace(before, after)
    })
}

/// Starts a gateway with a recipe.
async fn cooked(setup: Setup, name: &str, changes: &[(&str, &str)]) -> Plugged {
    let plugged = Plugged::start(setup, |folder| {
        put(folder, &format!("{name}.toml"), binding(name, changes));
        put(folder, &format!("{name}.wasm"), sample(name));
    })
    .await;
    plugged.wait_until_active(name).await;
    plugged
}

/// Returns a folder with secrets, and the setup that uses it.
fn with_secrets(setup: Setup, secrets: &[(&str, &str)]) -> (TempDir, Setup) {
    let dir = TempDir::new().expect("a folder");
    for (name, secret) in secrets {
        std::fs::write(dir.path().join(name), secret).expect("a file");
    }
    let path = dir.path().to_str().expect("a path of text").to_owned();
    (dir, setup.set("plugins.secrets_dir", path))
}

async fn answer(plugged: &Plugged, headers: &[(&str, &str)]) -> Answer {
    let call = Call::get("/sdk/flags?since=monday").key(SDK_KEY);
    plugged.gateway.answers(&headers.iter().fold(call, |call, (name, value)| call.header(name, value))).await
}

/// Waits until the flags that server-side SDKs receive satisfy a condition.
async fn serves(plugged: &Plugged, what: &str, is_wanted: impl Fn(&Value) -> bool) {
    within(what, async {
        loop {
            let answer = plugged.gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
            if answer.status == 200 && is_wanted(&answer.json()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn signature(key: &str, message: &str) -> String {
    let hmac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    hex::encode(hmac.chain_update(message).finalize().into_bytes())
}

#[test]
fn every_recipe_passes_its_cases() {
    let names = std::fs::read_dir(cookbook()).expect("a folder").map(|entry| entry.expect("a folder").file_name());
    let dir = TempDir::new().expect("a folder");
    for name in names.map(|name| name.into_string().expect("text")).chain(["event-redactor".to_owned()]) {
        let folder = if name == "event-redactor" { cookbook().join("..") } else { cookbook() }.join(&name);
        let component = dir.path().join(format!("{name}.wasm"));
        std::fs::write(&component, sample(&name)).expect("a file");
        let cases = std::fs::read_to_string(folder.join(format!("{name}.cases.jsonl"))).expect("cases");
        let cases = parse_cases(&cases).unwrap_or_else(|error| panic!("{name}: {error}"));
        let binding = Some(folder.join(format!("{name}.toml")));
        let operator = OperatorFiles { binding, secrets_dir: None };
        let report = test_file(&component, &operator, &cases, Compiler::InProcess);
        let report = report.unwrap_or_else(|error| panic!("{name}: {error}"));
        let failed: Vec<_> = report.cases.iter().filter(|case| !case.is_passed).collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
    }
}

#[tokio::test]
async fn a_token_admits_once_there_is_a_key_set() {
    let provider = Origin::start().await;
    let url = format!("{}/keys", provider.url);
    let plugged = cooked(Setup::with(some_data()), "jwt-auth", &[("https://idp.example.com/keys", &url)]).await;
    let (rs256, es256) = (file("jwt-auth", "testdata/rs256.jwt"), file("jwt-auth", "testdata/es256.jwt"));
    let status = async |token: &str| answer(&plugged, &[("x-access-token", token.trim())]).await.status;

    let early = answer(&plugged, &[("x-access-token", es256.trim())]).await;
    assert_eq!((early.status, early.header("retry-after").is_some()), (503, true), "no key set yet");

    provider.answers(200, &file("jwt-auth", "testdata/keys.json"));
    within("the key set", async {
        while status(&es256).await != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(status(&format!("Bearer {rs256}")).await, 200);
    let forged = es256.trim().rsplit_once('.').expect("a signature").0.to_owned() + ".AAAA";
    assert_eq!(status(&forged).await, 401);
    assert_eq!(answer(&plugged, &[]).await.status, 401, "without a token");
}

#[tokio::test]
async fn a_signature_admits_for_a_time() {
    const KEY: &str = "sixteen bytes, or more";
    let (_secrets, setup) = with_secrets(Setup::with(some_data()), &[("request-key", KEY)]);
    let plugged = cooked(setup, "signed-request", &[]).await;
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    for (what, time, key, expected) in [
        ("now", now, KEY, 200),
        ("some time ago", now - 200, KEY, 200),
        ("long ago", now - 400, KEY, 401),
        ("with another secret", now, "another secret key", 401),
    ] {
        let time = time.to_string();
        let signature = signature(key, &format!("{time}\nGET\n/sdk/flags?since=monday"));
        let answer = answer(&plugged, &[("X-Timestamp", &time), ("X-Signature", &signature)]).await;
        assert_eq!(answer.status, expected, "{what}");
    }
    assert_eq!(answer(&plugged, &[]).await.status, 401, "unsigned");
}

#[tokio::test]
async fn networks_are_admitted_by_country_and_tag() {
    let setup = Setup::with(some_data()).set("server.trusted_proxies", json!(["127.0.0.0/8"]));
    let plugged = cooked(setup, "network-rules", &[]).await;
    for (address, expected) in
        [("192.0.2.7", 200), ("2001:db8::7", 200), ("10.1.2.3", 200), ("10.66.2.3", 403), ("203.0.113.1", 403)]
    {
        assert_eq!(answer(&plugged, &[("X-Forwarded-For", address)]).await.status, expected, "{address}");
    }
}

#[tokio::test]
async fn a_credential_that_is_used_too_often_is_limited() {
    let changes = [("window_s = 60", "window_s = 3600"), ("server = 600", "server = 2")];
    let plugged = cooked(Setup::with(some_data()), "rate-limit", &changes).await;
    // A new window may have begun in between, but not twice.
    let mut limited = answer(&plugged, &[]).await;
    for _ in 0..4 {
        assert!([200, 429].contains(&limited.status), "{limited:?}");
        limited = answer(&plugged, &[]).await;
    }
    assert_eq!(limited.status, 429);
    let wait: u64 = limited.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=3_600).contains(&wait), "{wait}");
    let other = Call::get(format!("/msdk/evalx/contexts/{}", crate::running::CTX)).key(MOBILE_KEY);
    assert_eq!(plugged.gateway.answers(&other).await.status, 200, "another credential");
}

#[tokio::test]
async fn attributes_are_hashed_with_a_secret() {
    let (_secrets, setup) = with_secrets(Setup::with(data()).events(), &[("event-salt", "sixteen bytes, or more")]);
    let redactor = "[plugin]\nname = \"event-redactor\"\ngrants = [\"event-bodies\", \"secret:event-salt\"]\n\
        [plugin.config]\nhash = [\"email\"]\nsalt = { secret = \"event-salt\" }\n[[bind]]\nhook = \"event-filter\"\n";
    let plugged = Plugged::start(setup, |folder| {
        put(folder, "event-redactor.toml", redactor);
        put(folder, "event-redactor.wasm", sample("event-redactor"));
    })
    .await;
    plugged.wait_until_active("event-redactor").await;
    let event = json!([{"kind": "identify", "context": {"kind": "user", "key": "ada", "email": "ada@example.com"}}]);
    post(&plugged, &event).await;
    let events = arrived(&plugged.gateway.upstream, &["identify"]).await;
    let expected = &signature("sixteen bytes, or more", "ada@example.com")[..16];
    assert_eq!(events[0]["context"]["email"], expected);
}

#[tokio::test]
async fn events_are_sampled_and_forwarded_once() {
    let plugged = cooked(Setup::with(data()).events(), "event-sampler", &[]).await;
    let custom = |user: &str| json!({"kind": "custom", "creationDate": 1, "key": "k", "contextKeys": {"user": user}});
    let identify = json!({"kind": "identify", "creationDate": 2, "context": {"kind": "user", "key": "user-0"}});
    // The key of the second user is in the sample.
    let events = json!([custom("user-0"), custom("user-7"), identify, identify]);
    post(&plugged, &events).await;
    post(&plugged, &events).await;
    post(&plugged, &json!([{"kind": "click", "creationDate": 3}])).await;
    let mut forwarded = arrived(&plugged.gateway.upstream, &["click"]).await;
    assert_eq!(forwarded.pop().expect("the last event")["kind"], "click");
    assert_eq!(forwarded, [custom("user-7"), identify]);
}

async fn post(plugged: &Plugged, events: &Value) {
    let call = Call::post("/bulk", events.to_string()).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    assert_eq!(plugged.gateway.answers(&call).await.status, 202);
}

#[tokio::test]
async fn an_override_ends_at_its_date() {
    let until = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    let until_then = |date: &str| {
        binding(
            "timed-override",
            &[
                ("checkout-redesign", "greeting"),
                ("variation = 1", "variation = 0"),
                ("launchdarkly/prod*", "*"),
                ("2026-11-27T00:00:00Z", "2020-01-01T00:00:00Z"),
                ("2026-12-01T09:00:00+01:00", date),
                ("interval_s = 5", "interval_s = 1"),
            ],
        )
    };
    let plugged = Plugged::start(Setup::with(data()), |folder| {
        put(folder, "timed-override.toml", until_then("2100-01-01T00:00:00Z"));
        put(folder, "timed-override.wasm", sample("timed-override"));
    })
    .await;
    let variation = |flags: &Value| flags["greeting"]["fallthrough"]["variation"].clone();
    serves(&plugged, "the override", |flags| variation(flags) == 0).await;

    plugged.drops("timed-override.toml", until_then(&until(SystemTime::now() + Duration::from_secs(4))));
    serves(&plugged, "the end of the override", |flags| variation(flags) == 1).await;
    let status = plugged.gateway.operator_gets("/api/plugins").await.json();
    assert_eq!(status["plugins"][0]["state"], "active", "{status}");
}

#[tokio::test]
async fn staged_flags_are_visible_once_they_are_released() {
    let staged = ("\"next-*\", \"trial-*\"", "\"seg*\"");
    let plugged = cooked(Setup::with(data()), "staged-flags", &[staged]).await;
    let is_visible = |flags: &Value| flags.get("segmented").is_some() && flags.get("greeting").is_some();
    let answer = plugged.gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert!(!is_visible(&answer.json()), "hidden from the first request on");
    let released = ("staging = [\"next-checkout\"]", "main = [\"segmented\"]");
    plugged.drops("staged-flags.toml", binding("staged-flags", &[staged, released]));
    serves(&plugged, "the released flag", is_visible).await;
}

#[tokio::test]
async fn a_host_has_its_environment() {
    const TENANT_KEY: &str = "sdk-00000000-0000-4000-8000-00000000beef";
    let mut of_tenant = data();
    of_tenant["flags"] = json!({"tenant-only": flag("tenant-only", 1, &json!(true))});
    let tenant = json!({"name": "umbrella", "sdk_key": TENANT_KEY});
    let setup = Setup::with(data()).data(TENANT_KEY, of_tenant).environments([main_environment(), tenant]);
    let plugged = cooked(setup, "tenant-router", &[("acme-production", "main")]).await;
    for (host, key, expected) in [
        ("umbrella.flags.example.com", TENANT_KEY, 200),
        ("umbrella.flags.example.com", SDK_KEY, 401),
        ("flags.acme.example:8030", SDK_KEY, 200),
        ("flags.acme.example", TENANT_KEY, 401),
        ("nowhere.flags.example.com", SDK_KEY, 401),
        ("gateway.localhost", SDK_KEY, 200),
        ("gateway.localhost", TENANT_KEY, 200),
    ] {
        let call = Call::get("/sdk/flags").header("Host", host).key(key);
        assert_eq!(plugged.gateway.answers(&call).await.status, expected, "{host} {key}");
    }
}

#[tokio::test]
async fn changes_are_posted_with_a_signature() {
    let chat = Origin::start().await;
    let url = format!("{}/services", chat.url);
    let secrets = [("flags-webhook-url", &*format!("{url}/T0/B0/x")), ("flags-webhook-key", "a shared secret")];
    let (_secrets, setup) = with_secrets(Setup::with(some_data()), &secrets);
    let changes = [("https://hooks.slack.com/services", &*url), ("prod*", "*")];
    let plugged = cooked(setup, "change-webhook", &changes).await;
    let changed = crate::flags::flag("plain", 4);
    plugged.gateway.upstream.patches(SDK_KEY, &changed);
    until("an attempt", || chat.find(|_| true).is_some()).await;
    // What was not accepted is sent again.
    chat.answers(200, "ok");
    let find = || chat.find(|it| it.body.contains("flag `plain` is at version 4"));
    until("a message", || find().is_some()).await;
    let message = find().expect("a message");
    assert_eq!(message.json(), json!({"text": "launchdarkly/main: flag `plain` is at version 4"}));
    let signed = format!("{}.{}", message.header("x-yardarm-timestamp").expect("a time"), message.body);
    let expected = format!("sha256={}", signature("a shared secret", &signed));
    assert_eq!(message.header("x-yardarm-signature"), Some(&*expected));
}
