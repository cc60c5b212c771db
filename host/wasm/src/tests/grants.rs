//! A plugin has access to what it was granted and to nothing else.

use yardarm_core::hooks::{Denial, Verdict};
use yardarm_testkit::guests;

use super::*;

async fn granted(hook: GuestHook, fragment: &str, grants: &str) -> Fixture {
    let wasm = Guest::new("zoo").hook(hook, fragment).component().unwrap();
    let name = match hook {
        GuestHook::RequestAuth => "request-auth",
        GuestHook::EventFilter => "event-filter",
        GuestHook::PayloadTransform => "payload-transform",
        GuestHook::EvaluationTransform => "evaluation-transform",
    };
    let toml = format!("[plugin]\ngrants = [{grants}]\n[[bind]]\nhook = \"{name}\"");
    Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml.as_bytes())]).await
}

async fn principal(fixture: &Fixture) -> String {
    match fixture.authenticate().await {
        Ok(Admission::Allowed(Some(identity))) => identity.principal.clone(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn only_granted_headers_are_seen() {
    for (grants, count) in [
        ("", 0),
        ("\"header:X-Tenant\"", 1),
        ("\"header:x-tenant\", \"header:authorization\"", 2),
        ("\"header:cookie\"", 0),
    ] {
        let fixture = granted(GuestHook::RequestAuth, guests::COUNT_HEADERS, grants).await;
        let denied = Admission::Denied { plugin: "zoo".into(), denial: Denial::RateLimited(count) };
        assert_eq!(fixture.authenticate().await, Ok(denied), "{grants}");
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
async fn the_client_address_needs_a_grant() {
    let fixture = granted(GuestHook::RequestAuth, guests::ECHO_CLIENT, "").await;
    assert!(matches!(fixture.authenticate().await, Ok(Admission::Denied { .. })));
    let fixture = granted(GuestHook::RequestAuth, guests::ECHO_CLIENT, "\"client-address\"").await;
    assert_eq!(principal(&fixture).await, "192.0.2.7");
}

#[tokio::test]
async fn an_auto_bound_event_filter_sees_envelopes_only() {
    let fixture = Fixture::of(GuestHook::EventFilter, guests::DROP_SEEN).await;
    assert_eq!(fixture.filter(&events(2)).await, Filtering::Decided(vec![Verdict::Keep; 2]));
    let fixture = granted(GuestHook::EventFilter, guests::DROP_SEEN, "\"event-bodies\"").await;
    let dropped = Verdict::Drop { plugin: "zoo".into() };
    assert_eq!(fixture.filter(&events(2)).await, Filtering::Decided(vec![dropped; 2]));
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
    assert_eq!(principal(&fixture).await, "zoo\0".trim_end_matches('\0').to_owned() + "\0");
    assert_eq!(fixture.plugin("zoo").active.unwrap().grants_requested, ["clock"]);
}
