//! Resolvers choose environments, within their bindings; credentials are left out only where the operator says so.

use yardarm_core::hooks::Resolution;
use yardarm_testkit::guests;

use super::*;
use crate::{AllAbstain, Pattern};

const BINDING: &str = "[plugin]\nname = \"tenants\"\ngrants = [\"query\"]\n[[bind]]\nhook = \"route-resolver\"";

/// Returns the environment that the chain chooses for a request with this query.
async fn resolve(fixture: &Fixture, query: &str) -> Result<Option<(String, bool)>, HookFailure> {
    let uri = format!("/all{query}").parse().unwrap();
    let facts = RequestFacts { environment: label(""), head: RequestHead::new(&uri, &HeaderMap::new()), ..request() };
    let resolver = fixture.hooks.pin().route_resolver("vendor").expect("a resolver");
    let chosen = resolver.resolve(&Arc::new(facts)).await?;
    Ok(chosen.map(|Resolution { environment, is_delegated, .. }| (environment.to_string(), is_delegated)))
}

async fn with(binding: &str, change: impl FnOnce(&mut Settings)) -> Fixture {
    let wasm = Guest::new("tenants").hook(GuestHook::RouteResolver, guests::RESOLVE_QUERY).component().unwrap();
    Fixture::set_up(&[("tenants.toml", binding.as_bytes()), ("tenants.wasm", &wasm)], change).await
}

#[tokio::test]
async fn an_environment_is_chosen_within_the_binding() {
    let without = Fixture::with(&[]).await;
    assert!(without.hooks.pin().route_resolver("vendor").is_none());

    let fixture = with(&format!("{BINDING}\nenvironments = [\"st*\"]"), |_| ()).await;
    assert_eq!(resolve(&fixture, "").await, Ok(None));
    assert_eq!(resolve(&fixture, "?staging").await, Ok(Some(("staging".to_owned(), false))));
    for query in ["?prod", "?"] {
        assert_eq!(resolve(&fixture, query).await.unwrap_err().class, "output-invalid", "{query}");
    }
    let errors = fixture.plugin("tenants").last_errors;
    assert!(format!("{errors:?}").contains("does not cover the environment `vendor/prod`"), "{errors:?}");
    assert_eq!((fixture.calls("tenants", "changed"), fixture.calls("tenants", "unchanged")), (1, 1));
}

#[tokio::test]
async fn what_a_binding_does_not_apply_to_is_not_resolved() {
    for scope in ["sdk = [\"mobile\"]", "routes = [\"server.events\"]"] {
        let fixture = with(&format!("{BINDING}\n{scope}"), |_| ()).await;
        assert_eq!(resolve(&fixture, "?staging").await, Ok(None), "{scope}");
    }
}

#[tokio::test]
async fn failures_follow_the_policy() {
    for (policy, expected) in [("", Err("output-invalid")), ("on_failure = \"pass\"", Ok(None))] {
        let fixture = with(&format!("{BINDING}\nenvironments = [\"x\"]\n{policy}"), |_| ()).await;
        assert_eq!(resolve(&fixture, "?staging").await.map_err(|it| it.class), expected, "{policy}");
    }
}

#[tokio::test]
async fn credentials_are_left_to_request_plugins_only_where_both_sides_agree() {
    let delegated = |settings: &mut Settings| settings.delegated_auth = [Pattern::from("vendor/open*")].into();
    let fixture = with(BINDING, delegated).await;
    let gate = Guest::new("gate").hook(GuestHook::RequestAuth, guests::ABSTAIN).component().unwrap();
    assert_eq!(resolve(&fixture, "?open-1").await, Ok(Some(("open-1".to_owned(), false))), "no request plugin");
    fixture
        .put("gate.toml", b"[plugin]\nname = \"gate\"\n[[bind]]\nhook = \"request-auth\"\nenvironments = [\"open*\"]");
    fixture.swap(|it| it.put("gate.wasm", &gate)).await;
    assert_eq!(resolve(&fixture, "?open-1").await, Ok(Some(("open-1".to_owned(), true))));
    assert_eq!(resolve(&fixture, "?closed").await, Ok(Some(("closed".to_owned(), false))), "not a delegated one");
}

#[tokio::test]
async fn only_an_explicit_allow_admits_without_a_credential() {
    let facts = || RequestFacts { is_delegated: true, ..request() };
    for (fragment, binding, expected) in [
        (guests::ALLOW, "", None),
        (guests::ABSTAIN, "", Some(DenialClass::Forbidden)),
        (guests::ALLOW, "sdk = [\"mobile\"]", Some(DenialClass::Forbidden)),
        (guests::TRAP, "on_failure = \"open\"\ni_accept_unauthenticated = true", Some(DenialClass::Forbidden)),
    ] {
        let wasm = Guest::new("gate").hook(GuestHook::RequestAuth, fragment).component().unwrap();
        let binding = format!("[plugin]\nname = \"gate\"\n[[bind]]\nhook = \"request-auth\"\n{binding}");
        let files = [("gate.toml", binding.as_bytes()), ("gate.wasm", &*wasm)];
        let fixture = Fixture::set_up(&files, |it| it.admission.all_abstain = AllAbstain::Allow).await;
        match authenticate(&fixture.hooks_of("prod"), facts()).await.unwrap() {
            Admission::Allowed { .. } => assert_eq!(expected, None, "{binding}"),
            Admission::Denied(denial) => assert_eq!(expected, Some(denial.class), "{binding}"),
        }
        let admitted = authenticate(&fixture.hooks_of("prod"), request()).await.unwrap();
        assert!(matches!(admitted, Admission::Allowed { .. }), "with a credential: {binding}");
    }
}
