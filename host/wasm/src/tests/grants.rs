//! A plugin has access to what it was granted and to nothing else.

use yardarm_testkit::guests;

use super::*;

async fn granted(hook: GuestHook, fragment: &str, grants: &str) -> Fixture {
    let wasm = Guest::new("zoo").hook(hook, fragment).component().unwrap();
    let name = hook.interface();
    let toml = format!("[plugin]\ngrants = [{grants}]\n[[bind]]\nhook = \"{name}\"");
    Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml.as_bytes())]).await
}

async fn principal(fixture: &Fixture) -> String {
    principal_of(fixture.authenticate().await)
}

#[tokio::test]
async fn only_granted_headers_are_seen() {
    for (grants, count) in [
        ("", None),
        ("\"header:X-Tenant\"", Some(1)),
        ("\"header:x-tenant\", \"header:authorization\"", Some(2)),
        ("\"header:cookie\"", None),
    ] {
        let fixture = granted(GuestHook::RequestAuth, guests::COUNT_HEADERS, grants).await;
        assert_eq!(fixture.authenticate().await, Ok(denied(DenialClass::RateLimited, count)), "{grants}");
    }
    let fixture = granted(GuestHook::RequestAuth, guests::ECHO_HEADER, "\"header:x-tenant\"").await;
    assert_eq!(principal(&fixture).await, "blue");
}

#[tokio::test]
async fn a_credential_is_a_fingerprint_unless_granted() {
    let fixture = granted(GuestHook::RequestAuth, guests::ECHO_CREDENTIAL, "").await;
    let fingerprint = principal(&fixture).await;
    assert_eq!(fingerprint.len(), 32);
    assert_eq!(principal(&fixture).await, fingerprint, "stable");
    let elsewhere = granted(GuestHook::RequestAuth, guests::ECHO_CREDENTIAL, "").await;
    assert_ne!(principal(&elsewhere).await, fingerprint, "useless outside");
    let fixture = granted(GuestHook::RequestAuth, guests::ECHO_CREDENTIAL, "\"credential:raw\"").await;
    assert_eq!(principal(&fixture).await, "sdk-canary");
}

#[tokio::test]
async fn facts_need_a_grant_and_a_missing_one_is_shown() {
    for (fragment, grant, expected) in [
        (guests::ECHO_CLIENT, "client-address", "192.0.2.7"),
        (guests::ECHO_PATH, "path", "/all"),
        (guests::ECHO_QUERY, "query", "filter=f"),
    ] {
        let fixture = granted(GuestHook::RequestAuth, fragment, "").await;
        assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))), "{grant}");
        assert_eq!(fixture.plugin("zoo").active.unwrap().grants_missing, [grant]);
        let fixture = granted(GuestHook::RequestAuth, fragment, &format!("\"{grant}\"")).await;
        assert_eq!(principal(&fixture).await, expected);
        assert_eq!(fixture.plugin("zoo").active.unwrap().grants_missing, [""; 0]);
    }
    let fixture = granted(GuestHook::RequestAuth, guests::ECHO_ID, "").await;
    assert!(principal(&fixture).await.contains('-'), "the number of a request needs no grant");
}

#[tokio::test]
async fn what_the_manifest_wants_is_granted_or_the_plugin_is_refused() {
    let guest = |manifest: &str| {
        Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ECHO_PATH).manifest(manifest).component().unwrap()
    };
    let wants = guest(r#"{"name":"zoo","grants":[{"grant":"path","why":"to find the tenant"}]}"#);
    let fixture = Fixture::with(&[("zoo.wasm", &wants)]).await;
    let (code, text) = fixture.refusal("zoo");
    assert_eq!(code, "L06");
    assert_eq!(
        text,
        "wants `path` (to find the tenant) without the grant; write `grants = [\"path\"]` under [plugin] in `zoo.toml`"
    );
    let toml = b"[plugin]\ngrants = [\"path\", \"query\"]\n[[bind]]\nhook = \"request-auth\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wants), ("zoo.toml", toml)]).await;
    assert_eq!(principal(&fixture).await, "/all");
    assert_eq!(fixture.plugin("zoo").active.unwrap().grants, ["path"], "no more than it wants");

    let wants_nothing = guest(r#"{"name":"zoo","grants":[]}"#);
    let fixture = Fixture::with(&[("zoo.wasm", &wants_nothing), ("zoo.toml", toml)]).await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied(_))));
}

#[tokio::test]
async fn a_manifest_wants_values_that_the_operator_chooses() {
    let manifest = r#"{"name":"zoo","grants":[{"grant":"header:*","why":"the token"},{"grant":"secret:app-*"},
        {"grant":"http-out:https://*","optional":true}]}"#;
    let guest = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ECHO_HEADER).manifest(manifest);
    let guest = guest.component().unwrap();
    let with = async |grants: &str| {
        let toml = format!("[plugin]\ngrants = [{grants}]\n[[bind]]\nhook = \"request-auth\"");
        Fixture::with(&[("zoo.toml", toml.as_bytes()), ("zoo.wasm", &guest)]).await
    };
    let (code, text) = with("\"clock\", \"secret:other\"").await.refusal("zoo");
    assert_eq!(
        (code, &*text),
        (
            "L06",
            "wants `header:*` (the token), wants `secret:app-*` without the grant; write `grants = [\"clock\", \
             \"secret:other\", \"header:<name>\", \"secret:<app-*>\"]` under [plugin] in `zoo.toml`"
        )
    );
    let fixture = with("\"clock\", \"header:X-A\", \"secret:app-key\", \"http-out:http://a.example\"").await;
    let active = fixture.plugin("zoo").active.unwrap();
    assert_eq!(active.grants, ["header:x-a", "secret:app-key"], "nothing that it does not want");
    assert_eq!(active.grants_requested, ["header:*", "secret:app-*"]);
}

#[tokio::test]
async fn an_auto_bound_event_filter_sees_envelopes_only() {
    let fixture = Fixture::of(GuestHook::EventFilter, guests::DROP_SEEN).await;
    assert_eq!(fixture.filter(&events(2)).await, decided([Verdict::Keep, Verdict::Keep]));
    let fixture = granted(GuestHook::EventFilter, guests::DROP_SEEN, "\"event-bodies\"").await;
    let dropped = Verdict::Drop { plugin: "zoo".into() };
    assert_eq!(fixture.filter(&events(2)).await, decided([dropped.clone(), dropped]));
}

#[tokio::test]
async fn flag_data_is_read_by_grant() {
    let fixture = Fixture::of(GuestHook::PayloadTransform, guests::REWRITE_FIRST).await;
    assert_eq!(fixture.payload().await, Ok(vec![]));
    let fixture = granted(GuestHook::PayloadTransform, guests::REWRITE_FIRST, "\"flag-data\"").await;
    assert_eq!(fixture.payload().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_clock_needs_a_grant_and_the_refusal_names_the_line_to_add() {
    let fixture = Fixture::of(GuestHook::RequestAuth, guests::CLOCK).await;
    let (code, text) = fixture.refusal("zoo");
    assert_eq!(code, "L06");
    assert_eq!(
        text,
        "imports `yardarm:plugin/clock@0.1.0` without the grant; write `grants = [\"clock\"]` under [plugin] in `zoo.toml`"
    );
    let fixture = granted(GuestHook::RequestAuth, guests::CLOCK, "\"clock\"").await;
    assert_eq!(principal(&fixture).await, "zoo");
    assert_eq!(fixture.plugin("zoo").active.unwrap().grants_requested, ["clock"]);
}
