//! What operators see of calls: the last errors, counters by version, metrics of guests, and grants that were missing.

use yardarm_testkit::guests;

use super::*;
use crate::LastError;

fn guest(version: &str, fragment: &str) -> Vec<u8> {
    Guest::new("gate").version(version).hook(GuestHook::RequestAuth, fragment).component().unwrap()
}

fn last_errors(fixture: &Fixture) -> Vec<LastError> {
    fixture.plugin("gate").last_errors
}

#[tokio::test]
async fn a_failed_call_leaves_its_text_and_its_request() {
    let fixture = Fixture::with(&[("gate.wasm", &guest("1.0.0", guests::TEMPORARY))]).await;
    let facts = Arc::new(request());
    let hooks = fixture.hooks_of("prod");
    assert!(hooks.request_auth.as_ref().unwrap().authenticate(&facts).await.is_err());
    let errors = last_errors(&fixture);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((error.code, error.class, error.times), ("C05", "guest-error", 1));
    assert_eq!(error.text, "the guest reports temporary: later, perhaps");
    assert_eq!(error.request, Some(facts.id.to_string()));
    assert_eq!(
        (&*error.environment, error.version.as_deref(), error.generation),
        ("vendor/prod", Some("1.0.0"), Some(1))
    );
    assert!(error.at_ms >= error.first_ms && error.first_ms > 0);
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("2.0.0", guests::TRAP))).await;
    for _ in 0..3 {
        assert!(fixture.authenticate().await.is_err());
    }
    let seen: Vec<_> = last_errors(&fixture).iter().map(|it| (it.code, it.generation, it.times)).collect();
    assert_eq!(seen, [("C01", Some(2), 3), ("C05", Some(1), 1)]);
}

#[tokio::test]
async fn a_missing_required_plugin_leaves_an_error_too() {
    let toml = b"[plugin]\nname = \"gate\"\n[[bind]]\nhook = \"request-auth\"";
    let fixture = Fixture::with(&[("gate.toml", toml)]).await;
    assert!(fixture.authenticate().await.is_err());
    let errors = last_errors(&fixture);
    assert_eq!((errors[0].code, errors[0].version.clone(), errors[0].generation), ("C09", None, None));
}

#[tokio::test]
async fn calls_are_counted_by_version_and_by_decision() {
    let fixture = Fixture::with(&[("gate.wasm", &guest("1.0.0", guests::ALLOW))]).await;
    for _ in 0..2 {
        fixture.authenticate().await.unwrap();
    }
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("2.0.0", guests::FORBID))).await;
    fixture.authenticate().await.unwrap();
    assert_eq!((fixture.calls("gate", "allow"), fixture.calls("gate", "deny")), (2, 1), "over all generations");
    let metrics = fixture.folder.metrics();
    let running = metrics[0].generations.iter().find(|it| it.generation == 2).unwrap();
    assert_eq!(running.version, "2.0.0");
    let counted: Vec<_> = running.hooks[0].outcomes.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [&("deny", 1)]);
}

#[tokio::test]
async fn a_new_version_has_room_for_its_own_series() {
    let fixture = Fixture::with(&[("gate.wasm", &guest("1.0.0", guests::COUNT_SERIES))]).await;
    let names = || fixture.folder.metrics()[0].guest.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    fixture.authenticate().await.unwrap();
    assert_eq!((names().len(), &*names()[0]), (26, "aA"));
    let newer = guests::COUNT_SERIES.replace("(i32.const 97)", "(i32.const 98)");
    fixture.swap(|fixture| fixture.put("gate.wasm", &guest("2.0.0", &newer))).await;
    fixture.authenticate().await.unwrap();
    assert_eq!((names().len(), &*names()[0]), (26, "bA"), "those of the old version are gone");
    assert_eq!(fixture.folder.metrics()[0].guest_refused, 0);
}

#[tokio::test]
async fn a_clock_or_random_numbers_without_the_grant_are_reported() {
    let missing = |fixture: &Fixture| fixture.plugin("gate").active.unwrap().grants_missing;
    let fixture = Fixture::with(&[("gate.wasm", &guest("1.0.0", guests::READ_WASI))]).await;
    assert_eq!(missing(&fixture), [""; 0]);
    fixture.authenticate().await.unwrap();
    assert_eq!(missing(&fixture), ["clock", "random"]);
    let granted = b"[plugin]\ngrants = [\"clock\", \"random\"]\n[[bind]]\nhook = \"request-auth\"";
    fixture.swap(|fixture| fixture.put("gate.toml", granted)).await;
    fixture.authenticate().await.unwrap();
    assert_eq!(missing(&fixture), [""; 0]);
    // What a runtime reads while it starts does not count.
    let init = "(call $wasi_now (i32.const 8192)) (drop (call $wasi_random)) (i32.const 128)";
    let starting = Guest::new("start").init(init).hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap();
    let fixture = Fixture::with(&[("gate.wasm", &starting)]).await;
    fixture.authenticate().await.unwrap();
    assert_eq!(missing(&fixture), [""; 0]);
}
