//! Cases reach every hook with the input that they describe, and their replies are compared.

use serde_json::{Value, json};
use yardarm_testkit::guests::{self, Guest, GuestHook};

use crate::{Case, Compiler, OperatorFiles, TestError, TestReport, bench_file, parse_cases, test_file};

/// Runs one case with a guest of one hook.
fn run(hook: GuestHook, fragment: &str, case: &Value) -> Result<TestReport, TestError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.wasm");
    std::fs::write(&path, Guest::new("zoo").hook(hook, fragment).component().unwrap()).unwrap();
    let cases: Vec<Case> = parse_cases(&case.to_string()).unwrap();
    test_file(&path, &OperatorFiles::default(), &cases, Compiler::InProcess)
}

fn request_case(request: Value, grants: Value, expect: Value) -> Value {
    json!({"name": "one", "hook": "request-auth", "request": request, "grants": grants, "expect": expect})
}

#[test]
fn request_plugins_see_the_granted_parts_of_the_request() {
    let principal = |name: &str| json!({"allow": {"principal": name}});
    let (address, identity) = (json!({"client_address": "10.0.0.1"}), json!({"identity": {"principal": "me"}}));
    for (fragment, request, grant, expect) in [
        (guests::ECHO_CLIENT, address.clone(), "client-address", principal("10.0.0.1")),
        (guests::ECHO_CLIENT, address, "path", json!("abstain")),
        (guests::ECHO_PATH, json!({"path": "/a/b", "query": "c=1"}), "path", principal("/a/b")),
        (guests::ECHO_QUERY, json!({"path": "/a/b", "query": "c=1"}), "query", principal("c=1")),
        (guests::ECHO_HEADER, json!({"headers": {"X-A": ["1", "2"]}}), "header:x-a", principal("1")),
        (guests::ECHO_CREDENTIAL, json!({"credential": "secret"}), "credential:raw", principal("secret")),
        (guests::ECHO_IDENTITY, identity, "identity", principal("me")),
        (guests::ADD_HEADER, json!({}), "path", json!({"allow": {"response_headers": {"x-tenant": "acme"}}})),
    ] {
        let case = request_case(request, json!([grant]), expect);
        let report = run(GuestHook::RequestAuth, fragment, &case).unwrap();
        assert_eq!(report.failed, 0, "{case}: {:?}", report.cases);
    }
    let case = request_case(json!({"path": "/a"}), json!([]), json!({"allow": {}}));
    let report = run(GuestHook::RequestAuth, guests::ECHO_PATH, &case).unwrap();
    assert_eq!((report.failed, &*report.cases[0].missing_grants), (1, &["path".to_owned()][..]));
}

#[test]
fn a_case_sets_the_time() {
    let mut case = request_case(json!({}), json!(["clock"]), json!({"deny": {"retry_after": 86_400}}));
    case["services"] = json!({"now_ms": 86_400_000});
    let report = run(GuestHook::RequestAuth, guests::ECHO_TIME, &case).unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.cases);
}

#[test]
fn an_import_without_its_grant_is_denied_and_not_unsupported() {
    for (hook, fragment, grant, import) in [
        (GuestHook::RequestAuth, guests::COUNT_HITS, "\"kv\"", "yardarm:plugin/kv@0.1.0"),
        (GuestHook::RequestAuth, guests::CLOCK, "\"clock\"", "yardarm:plugin/clock@0.1.0"),
        (GuestHook::Background, guests::PUBLISH_FETCHED, "\"http-out:<", "yardarm:plugin/http@0.1.0"),
    ] {
        let mut case = json!({"name": "one", "hook": "request-auth", "grants": ["path"], "request": {}});
        if hook == GuestHook::Background {
            case = json!({"name": "one", "hook": "background", "grants": ["path"], "config": {"url": "https://a.example"}});
        }
        case["expect"] = json!({"failure": {"class": "capability-denied"}});
        let report = run(hook, fragment, &case).unwrap();
        assert_eq!(report.failed, 0, "{import}: {:?}", report.cases);
        let text = serde_json::to_string(&report.cases[0].reply).unwrap().replace("\\\"", "\"");
        let line = format!("write `\"grants\": [\"path\", {grant}");
        assert!(text.contains(import) && text.contains(&line) && text.contains("in the case"), "{text}");
    }
}

#[test]
fn a_case_without_grants_has_those_that_the_imports_need() {
    let url = "https://idp.example.com/keys";
    let case = json!({
        "name": "one", "hook": "background", "config": {"url": url},
        "services": {"http": [{"url": url, "body": "key-1"}]}, "expect": {"publish": {"token": "key-1"}},
    });
    assert_eq!(run(GuestHook::Background, guests::PUBLISH_FETCHED, &case).unwrap().failed, 0);
    let case = json!({"name": "one", "hook": "request-auth", "request": {}, "expect": {"deny": {"retry_after": 1}}});
    assert_eq!(run(GuestHook::RequestAuth, guests::COUNT_HITS, &case).unwrap().failed, 0);
}

#[test]
fn a_plugin_that_sends_requests_has_cases() {
    let url = "https://idp.example.com/keys";
    let case = json!({
        "name": "one", "hook": "background", "grants": [format!("http-out:{url}")], "config": {"url": url},
        "services": {"http": [{"url": url, "body": "key-1"}]}, "expect": {"publish": {"token": "key-1"}},
        "sent": [{"url": url, "method": "GET"}],
    });
    let report = run(GuestHook::Background, guests::PUBLISH_FETCHED, &case).unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.cases);
}

#[test]
fn edits_of_the_other_hooks_are_compared() {
    let flag = |key: &str| json!({"kind": "flag", "key": key, "body": {"key": key, "version": 4}});
    let items = |keys: &[&str]| json!({"changed": keys.iter().map(|key| flag(key)).collect::<Vec<_>>()});
    let results = json!([{"flag": "b", "value": 1}, {"flag": "a", "value": {"x": [1]}}]);
    let rewritten = json!([{"replace": {"index": 0, "body": {"version": 4, "key": "a"}}}]);
    let renamed = json!([{"drop": 0}, {"add": {"kind": "flag", "key": "renamed", "derived_from": 0}}]);
    for (hook, fragment, input, edits) in [
        (GuestHook::EventFilter, guests::DROP_FIRST, json!({"events": [{"body": {}}]}), json!([{"drop": 0}])),
        (GuestHook::EventFilter, guests::KEEP, json!({"events": [{"body": {}}]}), json!([])),
        (GuestHook::PayloadTransform, guests::REWRITE_FIRST, json!({"items": items(&["a", "b"])}), rewritten),
        (GuestHook::PayloadTransform, guests::RENAME_FIRST, json!({"items": items(&["a"])}), renamed),
        (
            GuestHook::PayloadTransform,
            guests::HIDE_UNLESS,
            json!({"items": {"changed": [flag("a")], "others": [flag("show")]}}),
            json!([]),
        ),
        (
            GuestHook::EvaluationTransform,
            guests::FIRST_TRUE,
            json!({"results": results, "context": {"user": {"key": "u"}}}),
            json!([{"replace": {"index": 0, "value": true}}]),
        ),
        (
            GuestHook::EvaluationTransform,
            guests::ADD_RESULT,
            json!({"results": results}),
            json!([{"add": {"flag": "extra"}}]),
        ),
    ] {
        let mut case = json!({"name": "one", "expect": {"edits": edits}, "grants": ["flag-data", "event-bodies"]});
        case["hook"] = match hook {
            GuestHook::EventFilter => "event-filter",
            GuestHook::PayloadTransform => "payload-transform",
            _ => "evaluation-transform",
        }
        .into();
        case.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
        let report = run(hook, fragment, &case).unwrap();
        assert_eq!(report.failed, 0, "{case}: {:?}", report.cases);
    }
}

#[test]
fn limits_of_cases_are_part_of_what_is_expected() {
    let mut case = request_case(json!({}), json!([]), json!({"allow": {}}));
    case["limits"] = json!({"max_memory_kb": 1});
    let report = run(GuestHook::RequestAuth, guests::ALLOW, &case).unwrap();
    assert_eq!(report.cases[0].fresh[0].field, "limits.max_memory_kb");
    case["limits"] = json!({"max_ms": 900, "max_memory_kb": 1_024});
    assert_eq!(run(GuestHook::RequestAuth, guests::ALLOW, &case).unwrap().failed, 0);
}

#[test]
fn instructions_of_calls_are_counted_and_equal_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.wasm");
    std::fs::write(&path, Guest::new("zoo").hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()).unwrap();
    let cases = parse_cases(&request_case(json!({}), json!([]), json!({"allow": {}})).to_string()).unwrap();
    let counts = || {
        let report = bench_file(&path, &OperatorFiles::default(), &cases, Compiler::InProcess).unwrap();
        (report.cases[0].instructions, report.cases[0].instance_instructions)
    };
    let (call, instance) = counts();
    assert!(call > 0, "{call} {instance}");
    assert_eq!((call, instance), counts());
}
