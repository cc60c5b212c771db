//! Failure policies: every hook, every policy, every kind of failure.
//!
//! Acceptance test 5 of the plugin system.

use yardarm_testkit::guests;

use super::*;

const PLACES: [(&str, &str); 11] = [
    ("request-auth", "closed"),
    ("request-auth", "open"),
    ("event-filter", "hold"),
    ("event-filter", "drop"),
    ("event-filter", "pass"),
    ("payload-transform", "last-good"),
    ("payload-transform", "pass"),
    ("context-enrichment", "pass"),
    ("context-enrichment", "closed"),
    ("evaluation-transform", "closed"),
    ("evaluation-transform", "pass"),
];

/// Returns one binding per hook and policy, each for its own environment.
fn bindings() -> String {
    let bind = |(hook, policy): &(&str, &str)| {
        let open = if *policy == "open" { "i_accept_unauthenticated = true" } else { "" };
        format!(
            "[[bind]]\nhook = \"{hook}\"\nenvironments = [\"{hook}-{policy}\"]\non_failure = \"{policy}\"\n{open}\n\
             required = true\nlimits = {{ deadline_ms = 10, memory_mb = 4 }}\n"
        )
    };
    PLACES.iter().map(bind).collect()
}

fn guest(fragment: &str) -> Vec<u8> {
    Guest::new("zoo")
        .hook(GuestHook::RequestAuth, fragment)
        .hook(GuestHook::EventFilter, fragment)
        .hook(GuestHook::PayloadTransform, fragment)
        .hook(GuestHook::ContextEnrichment, fragment)
        .hook(GuestHook::EvaluationTransform, fragment)
        .component()
        .unwrap()
}

async fn fixture(fragment: Option<&str>) -> Fixture {
    let (wasm, toml) = (fragment.map(guest), bindings());
    let mut files = vec![("zoo.toml", toml.as_bytes())];
    files.extend(wasm.as_ref().map(|wasm| ("zoo.wasm", &wasm[..])));
    Fixture::with(&files).await
}

/// Calls a hook in the environment of a policy and describes the result.
async fn outcome(fixture: &Fixture, (hook, policy): (&str, &str)) -> String {
    let hooks = fixture.hooks_of(&format!("{hook}-{policy}"));
    let failed = |failure: HookFailure| format!("fails: {} {}", failure.plugin, failure.class);
    match hook {
        "request-auth" => match authenticate(&hooks, request()).await {
            Ok(Admission::Allowed { identity: None, .. }) => "allowed".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(failure) => failed(failure),
        },
        "event-filter" => match filter(&hooks, &events(2)).await {
            filtering if filtering == decided([Verdict::Keep, Verdict::Keep]) => "kept".to_owned(),
            Filtering::Decided(other) => format!("{other:?}"),
            Filtering::Hold { plugin } => format!("held by {plugin}"),
            Filtering::Lose { plugin } => format!("lost by {plugin}"),
        },
        "payload-transform" => payload(&hooks).await.map_or_else(failed, |edits| format!("{} edits", edits.len())),
        "context-enrichment" => attributes(&hooks).await.map_or_else(failed, |added| format!("{} edits", added.len())),
        _ => results(&hooks).await.map_or_else(failed, |edits| format!("{} edits", edits.changes.len())),
    }
}

fn expected((hook, policy): (&str, &str), class: &str) -> String {
    match (hook, policy) {
        (_, "closed" | "last-good") => format!("fails: zoo {class}"),
        (_, "open") => "allowed".to_owned(),
        (_, "hold") => "held by zoo".to_owned(),
        (_, "drop") => "lost by zoo".to_owned(),
        ("event-filter", "pass") => "kept".to_owned(),
        _ => "0 edits".to_owned(),
    }
}

async fn check(fixture: &Fixture, class: &str) {
    for place in PLACES {
        assert_eq!(outcome(fixture, place).await, expected(place, class), "{place:?} {class}");
    }
    assert!(fixture.calls("zoo", class) >= 5, "{class} is counted");
}

#[tokio::test]
async fn every_policy_holds_for_a_trap() {
    check(&fixture(Some(guests::TRAP)).await, "trap").await;
}

#[tokio::test]
async fn every_policy_holds_for_a_missed_deadline() {
    check(&fixture(Some(guests::SPIN)).await, "deadline").await;
}

#[tokio::test]
async fn every_policy_holds_for_too_much_memory() {
    check(&fixture(Some(guests::GROW)).await, "memory-limit").await;
}

#[tokio::test]
async fn every_policy_holds_for_a_missing_plugin() {
    let fixture = fixture(None).await;
    check(&fixture, "missing-required").await;
    assert!(fixture.plugin("zoo").fails_closed);
}

#[tokio::test]
async fn every_policy_holds_for_an_open_breaker() {
    let fixture = fixture(Some(guests::TRAP)).await;
    for place in PLACES {
        for _ in 0..5 {
            outcome(&fixture, place).await;
        }
    }
    check(&fixture, "breaker-open").await;
    assert!(fixture.calls("zoo", "trap") <= 5 * 5, "no further calls");
    let breakers = fixture.folder.metrics()[0].breakers.clone();
    assert!(breakers.iter().all(|(_, state, opened)| *state == crate::BreakerState::Open && *opened == 1));
}
