//! Stored values, published values, secrets and outbound requests, in the hands of guests.

use tokio::time::Instant;
use yardarm_core::hooks::CallLog;
use yardarm_store::RedisAddress;
use yardarm_testkit::{Origin, RedisServer, guests};

use super::*;
use crate::RedisSettings;

fn gate(fragment: &str) -> Guest {
    Guest::new("gate").hook(GuestHook::RequestAuth, fragment)
}

fn hits(admission: Result<Admission, HookFailure>) -> Option<u32> {
    match admission.unwrap() {
        Admission::Denied(denial) => denial.retry_after,
        admission => panic!("{admission:?}"),
    }
}

pub(super) async fn eventually<T: PartialEq + std::fmt::Debug>(expected: T, mut actual: impl AsyncFnMut() -> T) {
    let end = tokio::time::Instant::now() + TEST_TIMEOUT;
    loop {
        let now = actual().await;
        if now == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{now:?} is not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const WITH_KV: &[u8] = b"[plugin]\ngrants = [\"kv\"]\n[[bind]]\nhook = \"request-auth\"";

#[tokio::test]
async fn stored_values_outlive_instances_and_versions() {
    let guest = gate(guests::COUNT_HITS).component().unwrap();
    let fixture = Fixture::with(&[("gate.toml", WITH_KV), ("gate.wasm", &guest)]).await;
    // The warm-up call has counted nothing.
    assert_eq!(hits(fixture.authenticate().await), Some(1));
    assert_eq!(hits(fixture.authenticate().await), Some(2));
    let newer = gate(guests::COUNT_HITS).version("2.0.0").component().unwrap();
    fixture.swap(|fixture| fixture.put("gate.wasm", &newer)).await;
    assert_eq!(hits(fixture.authenticate().await), Some(3));
}

#[tokio::test]
async fn values_on_disk_outlive_the_process() {
    let data = DataDir::open().await;
    let toml = String::from_utf8_lossy(WITH_KV).replace("grants", "kv = \"disk\"\ngrants");
    let files: [(&str, &[u8]); 2] =
        [("gate.toml", toml.as_bytes()), ("gate.wasm", &gate(guests::COUNT_HITS).component().unwrap())];
    let fixture = Fixture::with_store(&files, Some(data.store.clone()), |_| ()).await;
    assert_eq!(hits(fixture.authenticate().await), Some(1));
    let fixture = fixture.restart(Some(data.store.clone())).await;
    fixture.shows("the plugin", |status| status.ready).await;
    assert_eq!(hits(fixture.authenticate().await), Some(2));
}

#[tokio::test]
async fn values_in_redis_are_those_of_all_gateways() {
    let Some(mut server) = RedisServer::start() else { return };
    let guest = gate(guests::COUNT_HITS).component().unwrap();
    let toml = String::from_utf8_lossy(WITH_KV).replace("grants", "kv = \"redis\"\ngrants");
    let toml = format!("{toml}\nlimits = {{ deadline_ms = 2000 }}");
    let files: [(&str, &[u8]); 2] = [("gate.toml", toml.as_bytes()), ("gate.wasm", &guest)];
    let open = async || {
        let address = RedisAddress::parse(&server.url(), false, None, None).unwrap();
        let redis = RedisSettings { address, prefix: "yardarm".to_owned() };
        Fixture::set_up(&files, |settings| settings.services.kv_redis = Some(redis)).await
    };
    let (one, other) = (open().await, open().await);
    assert_eq!(hits(one.authenticate().await), Some(1));
    assert_eq!(hits(other.authenticate().await), Some(2));
    let database = one.folder.status().kv_redis.unwrap();
    assert_eq!((database.connected, database.server), (Some(true), server.url()));

    server.kill();
    // The guest denies without a number of hits if it gets an error.
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(hits(one.authenticate().await), None);
        assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
    }
    assert_eq!(one.folder.metrics()[0].kv_unavailable, 3);
    assert!(one.plugin("gate").last_errors.is_empty());
    eventually(Some(false), async || one.folder.status().kv_redis.unwrap().connected).await;

    server.restart();
    eventually(true, async || hits(one.authenticate().await).is_some()).await;
    eventually(true, async || hits(other.authenticate().await) > Some(1)).await;
}

#[tokio::test]
async fn a_database_needs_its_setting() {
    let guest = gate(guests::COUNT_HITS).component().unwrap();
    let toml = String::from_utf8_lossy(WITH_KV).replace("grants", "kv = \"redis\"\ngrants");
    let fixture = Fixture::with(&[("gate.toml", toml.as_bytes()), ("gate.wasm", &guest)]).await;
    let (code, text) = fixture.refusal("gate");
    assert!(code == "L07" && text.contains("`plugins.kv_redis.url`"), "{code} {text}");
}

#[tokio::test]
async fn gateways_with_the_same_key_have_the_same_fingerprints() {
    let guest = gate(guests::ECHO_CREDENTIAL).component().unwrap();
    let mut seen = Vec::new();
    for key in [Some("a key of sixteen"), Some("a key of sixteen"), Some("another key of 16"), None] {
        let change = |settings: &mut Settings| settings.fingerprint_key = key.map(Secret::from);
        let fixture = Fixture::set_up(&[("gate.wasm", &guest)], change).await;
        seen.push(principal_of(fixture.authenticate().await));
    }
    assert!(seen[0] == seen[1] && seen[1] != seen[2] && seen[2] != seen[3], "{seen:?}");
}

#[tokio::test]
async fn services_need_their_grants() {
    for (fragment, grant) in [(guests::COUNT_HITS, "\"kv\""), (guests::PUBLISH_FETCHED, "\"http-out:")] {
        let hook = if fragment == guests::COUNT_HITS { GuestHook::RequestAuth } else { GuestHook::Background };
        let guest = Guest::new("gate").hook(hook, fragment).component().unwrap();
        let fixture = Fixture::with(&[("gate.wasm", &guest)]).await;
        let (code, text) = fixture.refusal("gate");
        assert!(code == "L06" && text.contains(grant), "{code} {text}");
    }
}

#[tokio::test]
async fn transforms_of_shared_data_have_no_stored_values() {
    let toml = b"[plugin]\ngrants = [\"kv\"]\n[[bind]]\nhook = \"payload-transform\"";
    let guest = Guest::new("hide").hook(GuestHook::PayloadTransform, guests::KEEP_HITS).component().unwrap();
    let fixture = Fixture::with(&[("hide.toml", toml), ("hide.wasm", &guest)]).await;
    assert_eq!(fixture.payload().await, Ok(vec![PayloadEdit::Drop(0)]));
}

#[tokio::test]
async fn what_is_published_is_there_before_the_first_request() {
    let server = Origin::start().await;
    server.answers_in_turn(&[(200, "key-1"), (200, "key-2")]);
    let toml = format!(
        "[plugin]\ngrants = [\"http-out:{0}\"]\nconfig = {{ url = \"{0}/keys\" }}\n[[bind]]\nhook = \"request-auth\"\n\
         [[bind]]\nhook = \"background\"\ninterval_s = 1",
        server.url
    );
    let guest = gate(guests::ECHO_SHARED).hook(GuestHook::Background, guests::PUBLISH_FETCHED).component().unwrap();
    let fixture = Fixture::with(&[("gate.toml", toml.as_bytes()), ("gate.wasm", &guest)]).await;
    assert_eq!(principal_of(fixture.authenticate().await), "key-1");
    eventually("key-2".to_owned(), async || principal_of(fixture.authenticate().await)).await;
    assert!(server.requests()[0].head.starts_with("GET /keys HTTP/1.1\r\n"));
    let calls = server.requests().len();
    fixture.remove("gate.wasm");
    fixture.remove("gate.toml");
    fixture.shows("no plugin", |status| status.plugins.iter().all(|it| it.active.is_none())).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(server.requests().len() <= calls + 2, "the task ends with the plugin");
}

#[tokio::test]
async fn a_background_task_that_fails_is_reported_and_repeated() {
    let server = Origin::start().await;
    server.answers_in_turn(&[(200, "late")]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let toml = |origin: &str| {
        format!(
            "[plugin]\ngrants = [\"http-out:{origin}\"]\nconfig = {{ url = \"{origin}/keys\" }}\n\
             [[bind]]\nhook = \"request-auth\"\n[[bind]]\nhook = \"background\""
        )
    };
    let guest = gate(guests::ECHO_SHARED).hook(GuestHook::Background, guests::PUBLISH_FETCHED).component().unwrap();
    let fixture = Fixture::with(&[("gate.toml", toml(&nowhere).as_bytes()), ("gate.wasm", &guest)]).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))), "it abstains without a key");
    let errors = fixture.plugin("gate").last_errors;
    assert!(
        errors.iter().any(|it| it.hook == crate::Hook::Background && it.text.contains("no response")),
        "{errors:?}"
    );
    eventually(true, async || fixture.calls("gate", "guest-error") >= 2).await;
    fixture.swap(|fixture| fixture.put("gate.toml", toml(&server.url).as_bytes())).await;
    assert_eq!(principal_of(fixture.authenticate().await), "late");
}

#[tokio::test]
async fn flag_data_is_transformed_again_when_something_else_is_published() {
    let toml = b"[plugin]\ngrants = [\"kv\"]\n[[bind]]\nhook = \"payload-transform\"\n\
        [[bind]]\nhook = \"background\"\ninterval_s = 1";
    let guest = Guest::new("hide")
        .hook(GuestHook::PayloadTransform, guests::HIDE_PUBLISHED)
        .hook(GuestHook::Background, guests::PUBLISH_COUNT)
        .component()
        .unwrap();
    let fixture = Fixture::with(&[("hide.toml", toml), ("hide.wasm", &guest)]).await;
    let identity = || fixture.hooks_of("prod").payload_transform.as_ref().unwrap().identity();
    let before = identity();
    assert_eq!(fixture.payload().await, Ok(vec![]));
    eventually(Ok(vec![PayloadEdit::Drop(0)]), async || fixture.payload().await).await;
    eventually(true, async || identity() != before).await;
}

#[tokio::test]
async fn listeners_learn_what_changed_and_again_if_they_fail() {
    let server = Origin::start().await;
    server.answers_in_turn(&[(503, ""), (200, "")]);
    let toml = format!(
        "[plugin]\ngrants = [\"http-out:{0}\"]\nconfig = {{ url = \"{0}/hook\" }}\n[[bind]]\nhook = \"change-listener\"\n\
         environments = [\"prod\"]",
        server.url
    );
    let guest = Guest::new("hook").hook(GuestHook::ChangeListener, guests::POST_FIRST).component().unwrap();
    let fixture = Fixture::with(&[("hook.toml", toml.as_bytes()), ("hook.wasm", &guest)]).await;
    assert!(fixture.hooks_of("other").change_listener.is_none());
    let head = |key: &str| ItemHead { kind: "flag", key: key.into(), version: 2, is_deleted: false };
    let listeners = fixture.hooks_of("prod").change_listener.clone().unwrap();
    listeners.changed(&label("prod"), &[head("first")]);
    assert_eq!(server.bodies(2).await, ["first", "first"]);
    listeners.changed(&label("prod"), &[]);
    assert_eq!(server.bodies(3).await[2], "everything");
    let newer =
        Guest::new("hook").version("2.0.0").hook(GuestHook::ChangeListener, guests::POST_FIRST).component().unwrap();
    fixture.swap(|fixture| fixture.put("hook.wasm", &newer)).await;
    listeners.changed(&label("prod"), &[head("later")]);
    assert_eq!(server.bodies(4).await[3], "later", "the old plan's listeners reach the new version");
    assert_eq!(fixture.folder.metrics()[0].changes_left_out, 0);
}

#[tokio::test]
async fn secrets_reach_the_plugin_and_no_text() {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("idp"), "hunter2-canary\n").unwrap();
    let toml = b"[plugin]\ngrants = [\"secret:idp\"]\nconfig = { key = { secret = \"idp\" } }\n\
        [[bind]]\nhook = \"request-auth\"";
    let dir = secrets.path().to_owned();
    let set = |settings: &mut Settings| {
        settings.services.secrets_dir = Some(dir.clone());
        settings.verify_interval = Duration::from_millis(200);
    };
    let guest = gate(guests::ECHO_CONFIG).component().unwrap();
    let fixture = Fixture::set_up(&[("gate.toml", toml), ("gate.wasm", &guest)], set).await;
    assert_eq!(principal_of(fixture.authenticate().await), r#"{"key":"hunter2-canary"}"#);
    let identity = fixture.folder.status().generation;

    std::fs::write(secrets.path().join("idp"), "changed-canary").unwrap();
    fixture.shows("the new secret", |status| status.generation > identity).await;
    assert_eq!(principal_of(fixture.authenticate().await), r#"{"key":"changed-canary"}"#);

    let loud = gate(guests::LOG_CONFIG).version("2.0.0").component().unwrap();
    fixture.swap(|fixture| fixture.put("gate.wasm", &loud)).await;
    assert!(fixture.authenticate().await.is_err());
    let errors = fixture.plugin("gate").last_errors;
    assert!(errors[0].text.contains(r#"{"key":"[secret]"}"#), "{errors:?}");
    let status = serde_json::to_string(&fixture.folder.status()).unwrap();
    assert!(!status.contains("canary"), "{status}");

    let reason = guests::DENY_WITH_REASON
        .replace("(i32.const 2048))", "(global.get $config))")
        .replace("(i32.const 23)", "(global.get $config_length)");
    let denies = gate(&reason).version("3.0.0").component().unwrap();
    fixture.swap(|fixture| fixture.put("gate.wasm", &denies)).await;
    let call_log = Arc::<CallLog>::default();
    let facts = RequestFacts { call_log: Some(Arc::clone(&call_log)), ..request() };
    let Ok(Admission::Denied(denial)) = authenticate(&fixture.hooks_of("prod"), facts).await else { panic!() };
    assert_eq!(denial.reason.as_deref(), Some(r#"{"key":"[secret]"}"#));
    let calls = call_log.calls();
    assert_eq!(calls[0].text.as_deref(), Some(r#"Forbidden: {"key":"[secret]"}"#), "{calls:?}");
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named_with_what_to_do() {
    let toml = b"[plugin]\nconfig = { key = { secret = \"idp\" } }\n[[bind]]\nhook = \"request-auth\"";
    let guest = gate(guests::ECHO_CONFIG).component().unwrap();
    let fixture = Fixture::with(&[("gate.toml", toml), ("gate.wasm", &guest)]).await;
    let (code, text) = fixture.refusal("gate");
    assert_eq!(code, "L08");
    assert!(text.contains("`plugin.config.key`: the secret `idp` needs the grant `secret:idp`"), "{text}");
}
