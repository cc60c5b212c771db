//! Each hook, and the combination of results in chains.

use yardarm_core::hooks::{ContextAttribute, ReplacedResult, ResultChange};
use yardarm_testkit::guests;

use super::services::eventually;
use super::*;
use crate::{AllAbstain, StatePolicy};

fn two(hook: GuestHook, first: &str, second: &str) -> (Vec<u8>, Vec<u8>) {
    let guest = |name: &str, fragment| Guest::new(name).hook(hook, fragment).component().unwrap();
    (guest("one", first), guest("two", second))
}

#[tokio::test]
async fn without_plugins_there_are_no_chains() {
    let fixture = Fixture::with(&[]).await;
    assert!(fixture.folder.is_ready());
    assert!(fixture.hooks_of("prod").request_auth.is_none());
}

#[tokio::test]
async fn a_request_is_allowed_denied_or_left_undecided() {
    let fixture = Fixture::of(GuestHook::RequestAuth, guests::ALLOW).await;
    assert_eq!(principal_of(fixture.authenticate().await), "caller");

    let fixture = Fixture::of(GuestHook::RequestAuth, guests::FORBID).await;
    assert_eq!(fixture.authenticate().await, Ok(denied(DenialClass::Forbidden, None)));

    let fixture = Fixture::of(GuestHook::RequestAuth, guests::DENY_WITH_REASON).await;
    let Ok(Admission::Denied(denial)) = fixture.authenticate().await else { panic!("a denial") };
    assert_eq!(denial.reason.as_deref(), Some("outside of office hours"));
    assert_eq!(fixture.calls("zoo", "deny"), 1);
}

#[tokio::test]
async fn a_chain_in_which_all_abstain_is_decided_by_a_setting() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ABSTAIN).component().unwrap();
    for (setting, class) in [
        (AllAbstain::Unavailable, Some(DenialClass::Unavailable)),
        (AllAbstain::Forbidden, Some(DenialClass::Forbidden)),
        (AllAbstain::Allow, None),
    ] {
        let fixture =
            Fixture::set_up(&[("zoo.wasm", &wasm)], |settings| settings.admission.all_abstain = setting).await;
        match fixture.authenticate().await.unwrap() {
            Admission::Allowed { identity, .. } => assert_eq!((identity, class), (None, None)),
            Admission::Denied(denial) => assert_eq!(Some(denial.class), class),
        }
        assert_eq!(fixture.calls("zoo", "abstain"), 1);
    }
}

#[tokio::test]
async fn response_headers_are_added_unless_they_are_not_a_plugins_to_set() {
    let fixture = Fixture::of(GuestHook::RequestAuth, guests::ADD_HEADER).await;
    let Ok(Admission::Allowed { response_headers, .. }) = fixture.authenticate().await else { panic!() };
    assert_eq!(response_headers, [("x-tenant".parse().unwrap(), "acme".parse().unwrap())]);
    let fixture = Fixture::of(GuestHook::RequestAuth, guests::FORGE_HEADER).await;
    assert_eq!(fixture.authenticate().await.unwrap_err().class, "output-invalid");
}

#[tokio::test]
async fn later_plugins_of_a_chain_and_later_hooks_see_the_identity() {
    let grant = b"[plugin]\ngrants = [\"identity\"]\n[[bind]]\nhook = \"request-auth\"";
    let (one, two) = two(GuestHook::RequestAuth, guests::ALLOW, guests::ECHO_IDENTITY);
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two), ("two.toml", grant)]).await;
    assert_eq!(principal_of(fixture.authenticate().await), "caller");
    assert_eq!(fixture.calls("two", "allow"), 1, "it has seen the identity");

    let wasm = Guest::new("zoo").hook(GuestHook::EventFilter, guests::DROP_IDENTIFIED).component().unwrap();
    let grant = b"[plugin]\ngrants = [\"identity\"]\n[[bind]]\nhook = \"event-filter\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", grant)]).await;
    assert_eq!(fixture.filter(&events(1)).await, decided([Verdict::Keep]));
    let identity = Some(Arc::default());
    let identified = AdmittedRequest { identity, ..RequestFacts::new(label("prod"), "server.events", "server").into() };
    let dropped = filter_of(&fixture.hooks_of("prod"), identified, &events(1)).await;
    assert_eq!(dropped, decided([Verdict::Drop { plugin: "zoo".into() }]));
}

#[tokio::test]
async fn the_first_denial_of_a_chain_wins_and_one_decision_is_enough() {
    for (first, second, expected) in [
        (guests::ALLOW, guests::FORBID, Some("two")),
        (guests::FORBID, guests::ALLOW, Some("one")),
        (guests::ABSTAIN, guests::ALLOW, None),
        (guests::ALLOW, guests::ABSTAIN, None),
        (guests::ABSTAIN, guests::ABSTAIN, Some("one")),
    ] {
        let (one, two) = two(GuestHook::RequestAuth, first, second);
        let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two)]).await;
        match (fixture.authenticate().await.unwrap(), expected) {
            (Admission::Allowed { identity: Some(_), .. }, None) => (),
            (Admission::Denied(denial), Some(expected)) => assert_eq!(&*denial.plugin, expected),
            (other, _) => panic!("{other:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn order_is_phase_then_priority_then_name() {
    let guest = |name: &str| Guest::new(name).hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap();
    let bind = |extra: &str| format!("[[bind]]\nhook = \"request-auth\"\n{extra}\n");
    let (a, b, c, d) = (guest("a"), guest("b"), guest("c"), guest("d"));
    let fixture = Fixture::with(&[
        ("a.wasm", &a),
        ("a.toml", bind("phase = \"late\"\npriority = 1").as_bytes()),
        ("b.wasm", &b),
        ("b.toml", bind("priority = 200").as_bytes()),
        ("c.wasm", &c),
        ("c.toml", bind("").as_bytes()),
        ("d.wasm", &d),
        ("d.toml", bind("phase = \"early\"\npriority = 900").as_bytes()),
    ])
    .await;
    assert_eq!(fixture.order("request-auth"), ["d", "c", "b", "a"]);
}

#[tokio::test]
async fn a_binding_limits_where_a_plugin_applies() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::FORBID).component().unwrap();
    let toml =
        b"[[bind]]\nhook = \"request-auth\"\nenvironments = [\"prod-*\"]\nsdk = [\"server\"]\nroutes = [\"server.*\"]";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    assert!(fixture.hooks_of("test").request_auth.is_none());
    let hooks = fixture.hooks_of("prod-eu");
    let denied = |facts: RequestFacts| {
        let hooks = Arc::clone(&hooks);
        async move { matches!(authenticate(&hooks, facts).await.unwrap(), Admission::Denied(_)) }
    };
    assert!(denied(request()).await);
    assert!(!denied(RequestFacts { sdk: "mobile", ..request() }).await);
    assert!(!denied(RequestFacts { route: "mobile.poll", ..request() }).await);
}

#[tokio::test]
async fn events_are_kept_dropped_and_replaced_along_a_chain() {
    let (one, two) = two(GuestHook::EventFilter, guests::DROP_FIRST, guests::REPLACE_FIRST);
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two)]).await;
    let dropped = Verdict::Drop { plugin: "one".into() };
    let replaced = Verdict::Replace(vec!["{\"redacted\":true}".into()]);
    assert_eq!(fixture.filter(&events(3)).await, decided([dropped.clone(), replaced, Verdict::Keep]));
    assert_eq!(fixture.filter(&events(1)).await, decided([dropped]));
    assert_eq!(fixture.filter(&[]).await, decided([]));
}

#[tokio::test]
async fn an_event_is_split_another_is_added_and_the_next_plugin_sees_their_kinds() {
    let fixture = Fixture::of(GuestHook::EventFilter, guests::SPLIT_FIRST).await;
    let split = Verdict::Replace(vec!["{\"kind\":\"one\"}".into(), "{\"kind\":\"two\"}".into()]);
    let expected = Filtered { verdicts: vec![split, Verdict::Keep], added: vec!["{\"kind\":\"new\"}".into()] };
    assert_eq!(fixture.filter(&events(2)).await, Filtering::Decided(expected));
    assert_eq!((fixture.calls("zoo", "changed"), fixture.calls("zoo", "unchanged")), (1, 0));

    let (one, two) = two(GuestHook::EventFilter, guests::REPLACE_FIRST, guests::DROP_REDACTED);
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two)]).await;
    let dropped = Verdict::Drop { plugin: "two".into() };
    assert_eq!(fixture.filter(&events(1)).await, decided([dropped]), "what the first plugin wrote has no kind");
}

#[tokio::test]
async fn large_batches_are_split_and_put_together_again() {
    let fixture = Fixture::of(GuestHook::EventFilter, guests::DROP_FIRST).await;
    let Filtering::Decided(Filtered { verdicts, .. }) = fixture.filter(&events(1_201)).await else { panic!() };
    let dropped: Vec<usize> = (0..1_201).filter(|&n| matches!(verdicts[n], Verdict::Drop { .. })).collect();
    assert_eq!(dropped, [0, 500, 1_000]);
    assert_eq!(fixture.calls("zoo", "changed"), 3);
}

#[tokio::test]
async fn edits_of_flag_data_are_merged_along_a_chain() {
    let (one, two) = two(GuestHook::PayloadTransform, guests::HIDE_FIRST, guests::REWRITE_FIRST);
    let grant = b"[plugin]\ngrants = [\"flag-data\"]\n[[bind]]\nhook = \"payload-transform\"";
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two), ("two.toml", grant)]).await;
    let rewritten = PayloadEdit::Replace(1, "{\"key\":\"b\",\"version\":4}".into());
    assert_eq!(fixture.payload().await, Ok(vec![PayloadEdit::Drop(0), rewritten]));

    let fixture = Fixture::of(GuestHook::PayloadTransform, guests::ADD_FLAG).await;
    let added = |key: &str, derived_from| PayloadEdit::Add {
        kind: "flag".into(),
        key: key.into(),
        json: format!("{{\"key\":\"{key}\",\"version\":1}}").into(),
        derived_from,
    };
    assert_eq!(fixture.payload().await, Ok(vec![added("extra", None)]));

    let rename = Guest::new("two").hook(GuestHook::PayloadTransform, guests::RENAME_FIRST).component().unwrap();
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &rename), ("two.toml", grant)]).await;
    let expected = vec![PayloadEdit::Drop(0), PayloadEdit::Drop(1), added("renamed", Some(1))];
    assert_eq!(fixture.payload().await, Ok(expected), "indexes are those of all changed items");
}

#[tokio::test]
async fn edits_of_results_are_merged_along_a_chain() {
    let (one, two) = two(GuestHook::EvaluationTransform, guests::OMIT_FIRST, guests::FIRST_TRUE);
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two)]).await;
    let replaced = ReplacedResult { value: Some("true".into()), ..ReplacedResult::default() };
    let changes = vec![(0, ResultChange::Drop), (1, ResultChange::Replace(replaced))];
    assert_eq!(fixture.results().await, Ok(ResultEdits { changes, added: Vec::new() }));

    let fixture = Fixture::of(GuestHook::EvaluationTransform, guests::ADD_RESULT).await;
    let value = "\"from a plugin\"".into();
    let added = vec![ViewedResult { flag: "extra".into(), value, variation: None, reason: None }];
    assert_eq!(fixture.results().await, Ok(ResultEdits { changes: Vec::new(), added }));
}

#[tokio::test]
async fn attributes_are_added_along_a_chain() {
    let attribute = |name: &str, value: &'static str| ContextAttribute {
        kind: "user".to_owned(),
        name: name.to_owned(),
        value: value.into(),
    };
    let plain = guests::SET_PLAN.replace("gold", "free");
    let (one, two) = two(GuestHook::ContextEnrichment, &plain, guests::COPY_PLAN);
    let grant = b"[plugin]\ngrants = [\"context-attributes:*\"]\n[[bind]]\nhook = \"context-enrichment\"";
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two), ("two.toml", grant)]).await;
    let added = vec![attribute("plan", "\"free\""), attribute("tier", "\"free\"")];
    assert_eq!(fixture.attributes().await, Ok(added), "not what the context has");
    let identity = |fixture: &Fixture| fixture.hooks_of("prod").context_enrichment.as_ref().unwrap().identity();
    let before = identity(&fixture);
    fixture.swap(|it| it.remove("two.wasm")).await;
    assert_ne!(identity(&fixture), before, "other plugins, other attributes");

    let ungranted = Fixture::of(GuestHook::ContextEnrichment, guests::COPY_PLAN).await;
    assert_eq!(ungranted.attributes().await, Ok(Vec::new()));
    assert_eq!(ungranted.calls("zoo", "unchanged"), 1);
}

#[tokio::test]
async fn instances_live_for_one_call_or_for_many() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::COUNT_CALLS).component().unwrap();
    for (isolation, expected) in [("call", [1, 1, 1]), ("pool", [1, 2, 3])] {
        let toml = format!("[[bind]]\nhook = \"request-auth\"\nisolation = \"{isolation}\"");
        let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml.as_bytes())]).await;
        for seconds in expected {
            let denied = denied(DenialClass::RateLimited, Some(seconds));
            assert_eq!(fixture.authenticate().await, Ok(denied), "{isolation}");
        }
    }
}

#[tokio::test]
async fn the_instance_of_the_next_call_is_created_before_it_and_not_kept_for_long() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::COUNT_CALLS).component().unwrap();
    let toml = b"[[bind]]\nhook = \"request-auth\"\nisolation = \"call\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    let active = || fixture.plugin("zoo").active.unwrap();
    let first_time = Ok(denied(DenialClass::RateLimited, Some(1)));
    let before = active().instances.created;
    assert_eq!(active().bindings[0].pool.idle, 0);
    for calls in 1..4 {
        assert_eq!(fixture.authenticate().await, first_time);
        eventually(1, async || active().bindings[0].pool.idle).await;
        assert_eq!(active().instances.created - before, calls + 1, "one for each call, and one that is ready");
        assert_eq!(active().instances.alive, 1, "the used ones are gone");
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(fixture.authenticate().await, first_time);
    tokio::time::resume();
    eventually(1, async || active().bindings[0].pool.idle).await;
    assert_eq!(active().instances.created - before, 6, "the one that was ready had become too old");
}

#[tokio::test]
async fn a_guest_that_never_drops_what_it_is_passed_is_called_again_and_again() {
    let guest = Guest::new("zoo").hook(GuestHook::EvaluationTransform, guests::FIRST_TRUE).keep_handles();
    let toml = b"[[bind]]\nhook = \"evaluation-transform\"\nisolation = \"pool\"";
    let fixture = Fixture::with(&[("zoo.wasm", &guest.component().unwrap()), ("zoo.toml", toml)]).await;
    for call in 0..1_100 {
        assert!(fixture.results().await.is_ok(), "call {call}");
    }
    let instances = fixture.plugin("zoo").active.unwrap().bindings[0].pool.retired;
    assert_eq!(instances, 1, "after its last call, without a failure");
}

#[tokio::test]
async fn an_instance_never_serves_two_environments() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::COUNT_CALLS).component().unwrap();
    let toml = b"[[bind]]\nhook = \"request-auth\"\nisolation = \"pool\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    let chain = fixture.hooks_of("prod");
    for (environment, seconds) in [("prod", 1), ("test", 1), ("prod", 2), ("test", 2)] {
        let facts = RequestFacts { environment: label(environment), ..request() };
        let denied = denied(DenialClass::RateLimited, Some(seconds));
        assert_eq!(authenticate(&chain, facts).await, Ok(denied), "{environment}");
    }
}

#[tokio::test]
async fn configuration_reaches_the_guest() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ECHO_CONFIG).component().unwrap();
    let toml = b"[plugin.config]\nwho = \"me\"\n[[bind]]\nhook = \"request-auth\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    assert_eq!(principal_of(fixture.authenticate().await), r#"{"who":"me"}"#);
}

#[tokio::test]
async fn a_declared_cache_makes_instances_live_long_and_is_shown() {
    let wasm = Guest::new("zoo")
        .hook(GuestHook::RequestAuth, guests::COUNT_CALLS)
        .manifest(r#"{"name":"zoo","state":"cache"}"#)
        .component()
        .unwrap();
    let fixture = Fixture::with(&[("zoo.wasm", &wasm)]).await;
    for calls in 1..4 {
        assert_eq!(fixture.authenticate().await, Ok(denied(DenialClass::RateLimited, Some(calls))));
    }
    assert_eq!(fixture.plugin("zoo").active.unwrap().state, Some(StatePolicy::Cache));
}
