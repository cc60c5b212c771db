//! Each hook, and the combination of results in chains.

use yardarm_core::hooks::{Denial, ResultChange, Verdict};
use yardarm_testkit::guests;

use super::*;

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
    let Ok(Admission::Allowed(Some(identity))) = fixture.authenticate().await else { panic!() };
    assert_eq!(identity.principal, "caller");

    let fixture = Fixture::of(GuestHook::RequestAuth, guests::FORBID).await;
    let denied = Admission::Denied { plugin: "zoo".into(), denial: Denial::Forbidden };
    assert_eq!(fixture.authenticate().await, Ok(denied));

    let fixture = Fixture::of(GuestHook::RequestAuth, guests::ABSTAIN).await;
    let denied = Admission::Denied { plugin: "zoo".into(), denial: Denial::Unauthorized };
    assert_eq!(fixture.authenticate().await, Ok(denied));
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
            (Admission::Allowed(Some(_)), None) => (),
            (Admission::Denied { plugin, .. }, Some(expected)) => assert_eq!(&*plugin, expected),
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
    assert_eq!(fixture.folder.status().order["request-auth"], ["d", "c", "b", "a"]);
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
        async move { matches!(authenticate(&hooks, &facts).await.unwrap(), Admission::Denied { .. }) }
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
    let replaced = Verdict::Replace("{\"redacted\":true}".into());
    assert_eq!(fixture.filter(&events(3)).await, Filtering::Decided(vec![dropped.clone(), replaced, Verdict::Keep]));
    assert_eq!(fixture.filter(&events(1)).await, Filtering::Decided(vec![dropped]));
    assert_eq!(fixture.filter(&[]).await, Filtering::Decided(vec![]));
}

#[tokio::test]
async fn large_batches_are_split_and_put_together_again() {
    let fixture = Fixture::of(GuestHook::EventFilter, guests::DROP_FIRST).await;
    let Filtering::Decided(verdicts) = fixture.filter(&events(1_201)).await else { panic!() };
    let dropped: Vec<usize> = (0..1_201).filter(|&n| matches!(verdicts[n], Verdict::Drop { .. })).collect();
    assert_eq!(dropped, [0, 500, 1_000]);
    assert_eq!(fixture.calls("zoo", "ok"), 3);
}

#[tokio::test]
async fn edits_of_flag_data_are_merged_along_a_chain() {
    let (one, two) = two(GuestHook::PayloadTransform, guests::HIDE_FIRST, guests::REWRITE_FIRST);
    let grant = b"[plugin]\ngrants = [\"flag-data\"]\n[[bind]]\nhook = \"payload-transform\"";
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two), ("two.toml", grant)]).await;
    let rewritten = PayloadEdit::Replace(1, "{\"key\":\"b\",\"version\":4}".into());
    assert_eq!(fixture.payload().await, Ok(vec![PayloadEdit::Drop(0), rewritten]));

    let fixture = Fixture::of(GuestHook::PayloadTransform, guests::ADD_FLAG).await;
    let added =
        PayloadEdit::Add { kind: "flag".into(), key: "extra".into(), json: "{\"key\":\"extra\",\"version\":1}".into() };
    assert_eq!(fixture.payload().await, Ok(vec![added]));
}

#[tokio::test]
async fn edits_of_results_are_merged_along_a_chain() {
    let (one, two) = two(GuestHook::EvaluationTransform, guests::OMIT_FIRST, guests::FIRST_TRUE);
    let fixture = Fixture::with(&[("one.wasm", &one), ("two.wasm", &two)]).await;
    let expected = vec![
        ResultEdit { index: 0, change: ResultChange::Drop },
        ResultEdit { index: 1, change: ResultChange::Replace("true".into()) },
    ];
    assert_eq!(fixture.results().await, Ok(expected));
}

#[tokio::test]
async fn instances_live_for_one_call_or_for_many() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::COUNT_CALLS).component().unwrap();
    for (isolation, expected) in [("call", [1, 1, 1]), ("pool", [1, 2, 3])] {
        let toml = format!("[[bind]]\nhook = \"request-auth\"\nisolation = \"{isolation}\"");
        let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml.as_bytes())]).await;
        for seconds in expected {
            let denied = Admission::Denied { plugin: "zoo".into(), denial: Denial::RateLimited(seconds) };
            assert_eq!(fixture.authenticate().await, Ok(denied), "{isolation}");
        }
    }
}

#[tokio::test]
async fn an_instance_never_serves_two_environments() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::COUNT_CALLS).component().unwrap();
    let toml = b"[[bind]]\nhook = \"request-auth\"\nisolation = \"pool\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    let chain = fixture.hooks_of("prod");
    for (environment, seconds) in [("prod", 1), ("test", 1), ("prod", 2), ("test", 2)] {
        let facts = RequestFacts { environment: label(environment), ..request() };
        let denied = Admission::Denied { plugin: "zoo".into(), denial: Denial::RateLimited(seconds) };
        assert_eq!(authenticate(&chain, &facts).await, Ok(denied), "{environment}");
    }
}

#[tokio::test]
async fn configuration_reaches_the_guest() {
    let wasm = Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ECHO_CONFIG).component().unwrap();
    let toml = b"[plugin.config]\nwho = \"me\"\n[[bind]]\nhook = \"request-auth\"";
    let fixture = Fixture::with(&[("zoo.wasm", &wasm), ("zoo.toml", toml)]).await;
    let Ok(Admission::Allowed(Some(identity))) = fixture.authenticate().await else { panic!() };
    assert_eq!(identity.principal, "\"me\"");
}
