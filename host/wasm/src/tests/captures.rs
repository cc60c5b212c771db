//! Failed calls that are kept: what they contain, and that they fail in the same way elsewhere.

use yardarm_testkit::guests;

use super::*;
use crate::{Capture, Compiler, FieldClass, OperatorFiles, Reply, replay_file};

/// `request-auth`: traps if there is a header that it may read, and allows otherwise.
fn trap_on_header() -> String {
    let trap = "(if (i32.gt_u (i32.load (i32.const 516)) (i32.const 0)) (then (unreachable)))";
    let allow = guests::ALLOW.split_once(";; body").unwrap();
    format!("{}\n;; body\n(call $request_headers (local.get $request) (i32.const 512))\n{trap}\n{}", allow.0, allow.1)
}

const BINDING: &str = "[plugin]\ngrants = [\"header:x-tenant\", \"header:authorization\", \"path\", \"client-address\"]\n\
                       [[bind]]\nhook = \"request-auth\"";

async fn fixture(hook: GuestHook, fragment: &str, binding: &str, plain: &[FieldClass]) -> Fixture {
    let component = Guest::new("zoo").hook(hook, fragment).component().unwrap();
    let files: [(&str, &[u8]); 2] = [("zoo.toml", binding.as_bytes()), ("zoo.wasm", &component)];
    Fixture::set_up(&files, |settings| settings.captures = Some(plain.to_vec())).await
}

fn captures(fixture: &Fixture) -> Vec<Capture> {
    fixture.folder.captures("zoo").expect("captures are on")
}

#[tokio::test]
async fn a_failed_call_is_kept_with_masks_and_fails_again_elsewhere() {
    let fixture = fixture(GuestHook::RequestAuth, &trap_on_header(), BINDING, &[]).await;
    fixture.authenticate().await.unwrap_err();
    let kept = captures(&fixture);
    let [capture] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((&*capture.code, &*capture.class, &*capture.plugin, capture.number), ("C01", "trap", "zoo", 1));
    let case = serde_json::to_value(&capture.case).unwrap();
    assert_eq!(
        case["request"]["headers"],
        serde_json::json!({"authorization": ["xxxxxx-xxxxxx"], "x-tenant": ["xxxx"]})
    );
    assert_eq!(case["request"]["path"], "/xxx");
    assert_eq!(case["request"]["query"], serde_json::Value::Null, "the query is not granted");
    assert_eq!(case["request"]["client_address"], "192.0.2.1");
    let text = serde_json::to_string(capture).unwrap();
    for secret in ["canary", "blue", "192.0.2.7", "filter=f"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }

    let dir = tempfile::tempdir().unwrap();
    let replay = |fragment: &str, captures: Vec<Capture>| {
        let component = Guest::new("zoo").hook(GuestHook::RequestAuth, fragment).component().unwrap();
        let path = dir.path().join("zoo.wasm");
        std::fs::write(&path, component).unwrap();
        std::thread::spawn(move || {
            replay_file(&path, &OperatorFiles::default(), &captures, Compiler::InProcess).unwrap()
        })
        .join()
        .unwrap()
    };
    let same = replay(&trap_on_header(), kept.clone());
    assert!(same.calls[0].is_reproduced && !same.calls[0].is_fixed(), "{same:?}");
    let fixed = replay(guests::ALLOW, kept.clone());
    assert!(!fixed.calls[0].is_reproduced && fixed.calls[0].is_fixed());
    assert!(matches!(fixed.calls[0].reply, Reply::Allow(_)));
    let other = replay(guests::DIVIDE, kept);
    assert!(!other.calls[0].is_reproduced && !other.calls[0].is_fixed(), "another kind of trap");
}

#[tokio::test]
async fn only_the_named_classes_are_plain_and_credentials_never_are() {
    let grants = BINDING.replace("\"path\"", "\"path\", \"credential:raw\", \"query\"");
    let fixture = fixture(GuestHook::RequestAuth, guests::TRAP, &grants, &FieldClass::ALL).await;
    let facts = RequestFacts {
        head: RequestHead::new(&http::Uri::from_static("/eval/sdk-canary?h=1"), &{
            let mut headers = HeaderMap::new();
            headers.append("x-tenant", "blue sdk-canary".parse().unwrap());
            headers.append("authorization", "sdk-canary".parse().unwrap());
            headers
        }),
        ..request()
    };
    authenticate(&fixture.hooks_of("prod"), facts).await.unwrap_err();
    let text = serde_json::to_string(&captures(&fixture)[0]).unwrap();
    for plain in ["blue xxx-xxxxxx", "/eval/xxx-xxxxxx", "h=1", "192.0.2.7"] {
        assert!(text.contains(plain), "{plain}: {text}");
    }
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn events_data_and_contexts_keep_their_form() {
    let events = [event(r#"{"kind":"custom","user":{"email":"ann@example.org"},"n":42}"#)];
    let of = |grants: &str, hook: &str| format!("[plugin]\ngrants = [{grants}]\n[[bind]]\nhook = \"{hook}\"");
    for (grants, expected) in
        [("\"event-bodies\"", r#"{"kind":"custom","n":11,"user":{"email":"xxx@xxxxxxx.xxx"}}"#), ("", "{}")]
    {
        let fixture = fixture(GuestHook::EventFilter, guests::TRAP, &of(grants, "event-filter"), &[]).await;
        fixture.filter(&events).await;
        let case = serde_json::to_value(&captures(&fixture)[0].case).unwrap();
        assert_eq!(case["events"][0]["body"].to_string(), expected);
        assert_eq!((&case["events"][0]["kind"], &case["schema"]), (&"custom".into(), &4.into()));
    }
    let fixture_of =
        async |hook: GuestHook, grants: &str, name: &str| fixture(hook, guests::TRAP, &of(grants, name), &[]).await;
    let data = fixture_of(GuestHook::PayloadTransform, "\"flag-data\"", "payload-transform").await;
    data.payload().await.unwrap_err();
    let case = serde_json::to_value(&captures(&data)[0].case).unwrap();
    assert_eq!(case["items"]["changed"][0]["body"], serde_json::json!({"key": "a", "version": 3}));
    let context = fixture_of(GuestHook::ContextEnrichment, "\"context-attributes:*\"", "context-enrichment").await;
    let _ = context.attributes().await;
    let case = serde_json::to_value(&captures(&context)[0].case).unwrap();
    assert_eq!(case["context"], serde_json::json!({"user": {"key": "xxxxxx", "plan": "xxxx"}}));
    let results = fixture_of(GuestHook::EvaluationTransform, "\"flag-data\"", "evaluation-transform").await;
    results.results().await.unwrap_err();
    let case = serde_json::to_value(&captures(&results)[0].case).unwrap();
    assert_eq!(case["results"][1], serde_json::json!({"flag": "b", "value": false, "variation": 0}));
}

#[tokio::test]
async fn their_number_is_bounded_and_no_failure_displaces_all_others() {
    let fixture = fixture(GuestHook::RequestAuth, guests::TEMPORARY, BINDING, &[]).await;
    for _ in 0..30 {
        fixture.authenticate().await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kept = captures(&fixture);
    assert!(kept.len() <= 10 && kept.iter().all(|it| it.class == "guest-error"), "{}", kept.len());
    let newest = kept[0].number;
    assert!(newest <= 11, "under load, failures that are alike are not written down: {newest}");
    assert!(kept.is_sorted_by(|one, next| one.number > next.number), "the newest comes first");
    let off = Fixture::of(GuestHook::RequestAuth, guests::TRAP).await;
    off.authenticate().await.unwrap_err();
    assert!(off.folder.captures("zoo").is_none());
}
