//! L096 to L121, L141 to L143, L149: where contexts are read from, and which flags are visible.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use yardarm_testkit::Call;

use crate::expected::{empty, json as json_answer, message, some_json, text};
use crate::flags::{data, flag, flag_with, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

const USER: &str = r#"{"kind":"user","key":"a"}"#;

/// The URL form of a context.
pub(crate) fn segment_of(context: &str) -> String {
    URL_SAFE_NO_PAD.encode(context)
}

fn on_server(context: &str) -> Call {
    Call::get(format!("/sdk/evalx/contexts/{}", segment_of(context))).key(SDK_KEY)
}

fn reported(body: &str) -> Call {
    Call::report("/sdk/evalx/context", body).key(SDK_KEY)
}

fn result(version: i64) -> Value {
    json!({"value": true, "variation": 0, "version": version})
}

#[tokio::test]
async fn every_route_evaluates_what_its_callers_may_see() {
    let visible = |mobile: bool, browser: bool| json!({"clientSideAvailability": {"usingMobileKey": mobile, "usingEnvironmentId": browser}});
    let mut without = [flag("old", 4), flag("old-client-side", 5)];
    for (flag, client_side) in without.iter_mut().zip([false, true]) {
        flag.as_object_mut().unwrap().remove("clientSideAvailability");
        flag["clientSide"] = json!(client_side);
    }
    let [old, old_client_side] = without;
    let mut deleted = flag("deleted", 6);
    deleted["deleted"] = json!(true);
    let flags = [
        flag_with("nobody", 1, visible(false, false)),
        flag_with("mobile", 2, visible(true, false)),
        flag_with("browser", 3, visible(false, true)),
        old,
        old_client_side,
        deleted,
    ];
    let gateway = Setup::with(data(flags, [])).start().await;
    // L134: the deleted flag is in no response. L135 to L137: without the newer property, the older one counts.
    let server = json!({"nobody": result(1), "mobile": result(2), "browser": result(3), "old": result(4), "old-client-side": result(5)});
    let mobile = json!({"mobile": result(2), "old": result(4), "old-client-side": result(5)});
    let browser = json!({"browser": result(3), "old-client-side": result(5)});
    let env = format!("/sdk/evalx/{ENV_ID}");
    let for_server = json_answer(200, server);
    let for_mobile = json_answer(200, mobile);
    let for_browser = |methods: &str| json_answer(200, browser.clone()).cors("*", methods);
    for (row, call, expected) in [
        ("L096", Call::get(format!("/sdk/evalx/contexts/{CTX}")).key(SDK_KEY), for_server.clone()),
        ("L097", Call::get(format!("/sdk/evalx/users/{CTX}")).key(SDK_KEY), for_server.clone()),
        ("L098", Call::report("/sdk/evalx/context", USER).key(SDK_KEY), for_server.clone()),
        ("L098", Call::report("/sdk/evalx/user", USER).key(SDK_KEY), for_server),
        ("L099", Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY), for_mobile.clone()),
        ("L099", Call::get(format!("/msdk/evalx/users/{CTX}")).key(MOBILE_KEY), for_mobile.clone()),
        ("L100", Call::report("/msdk/evalx/context", USER).key(MOBILE_KEY), for_mobile.clone()),
        ("L100", Call::report("/msdk/evalx/user", USER).key(MOBILE_KEY), for_mobile),
        ("L101", Call::get(format!("{env}/contexts/{CTX}")), for_browser("GET,OPTIONS")),
        ("L101", Call::get(format!("{env}/users/{CTX}")), for_browser("GET,OPTIONS")),
        ("L102", Call::report(format!("{env}/context"), USER), for_browser("REPORT,OPTIONS")),
        ("L102", Call::report(format!("{env}/user"), USER), for_browser("REPORT,OPTIONS")),
        ("L103", Call::report(format!("{env}/contexts"), USER), for_browser("REPORT,OPTIONS")),
        ("L103", Call::report(format!("{env}/users"), USER), for_browser("REPORT,OPTIONS")),
        ("L104", Call::get("/sdk/evalx/context").key(SDK_KEY), empty(405)),
        ("L104", Call::post("/sdk/evalx/context", USER).key(SDK_KEY), empty(405)),
        // The text after `contexts/` is a context here, not a second `user`.
        (
            "L096",
            Call::get("/sdk/evalx/contexts/user").key(SDK_KEY),
            message(400, "context part of URL path did not decode to valid evaluation context as JSON"),
        ),
    ] {
        // L142: no caching header, no charset; `answers_as` compares all headers.
        gateway.answers_as(row, call, expected).await;
    }
}

#[tokio::test]
async fn contexts_in_paths_are_read_leniently() {
    let gateway = Setup::with(some_data()).start().await;
    let fine = some_json(200);
    let no_base64 = message(400, "context part of URL path did not decode as valid base64");
    let no_context = message(400, "context part of URL path did not decode to valid evaluation context as JSON");
    let nowhere = crate::expected::page_not_found();
    // `>>>` and `???` result in the two characters in which the alphabets differ.
    let special = r#"{"kind":"user","key":"a","b":">>>???"}"#;
    let dashes = segment_of(special);
    assert!(dashes.contains('-') && dashes.contains('_'), "{dashes}");
    let empty_user = message(400, "User must have a 'key' attribute");
    for (row, segment, expected) in [
        ("L105: no padding", segment_of(USER), &fine),
        ("L105: padding", URL_SAFE.encode(r#"{"key":"a"}"#), &fine),
        ("L105: too much padding", "eyJrZXkiOiJhIn0==".to_owned(), &no_base64),
        ("L105: unused bits", "eyJrZXkiOiJhIn1".to_owned(), &fine),
        ("L105: line breaks", "eyJrZXki%0D%0AOiJhIn0".to_owned(), &fine),
        ("L106", dashes.clone(), &fine),
        ("L107", dashes.replace('-', "+"), &no_base64),
        ("L012: a slash", dashes.replace('_', "%2F"), &nowhere),
        ("L108", segment_of("not json"), &no_context),
        ("L108: no object", segment_of("[]"), &no_context),
        ("L112", segment_of(r#"{"kind":"user"}"#), &no_context),
        ("L113: a user", segment_of(r#"{"key":""}"#), &empty_user),
    ] {
        gateway
            .answers_as(row, Call::get(format!("/sdk/evalx/contexts/{segment}")).key(SDK_KEY), expected.clone())
            .await;
    }
}

#[tokio::test]
async fn contexts_in_bodies_are_read_strictly() {
    let gateway = Setup::with(some_data()).set("launchdarkly.max_client_request_body", "1KiB").start().await;
    let unsupported = text(415, "Content-Type must be application/json.");
    let of_type = |content_type: &str| {
        Call::new("REPORT", "/sdk/evalx/context").key(SDK_KEY).header("Content-Type", content_type).body(USER)
    };
    gateway
        .answers_as("L109", Call::new("REPORT", "/sdk/evalx/context").key(SDK_KEY).body(USER), unsupported.clone())
        .await;
    for content_type in ["text/plain", "application/json; charset=utf-8", "Application/JSON"] {
        gateway.answers_as("L110", of_type(content_type), unsupported.clone()).await;
    }
    for (row, body, text) in [
        ("L111", "", "unexpected end of JSON input"),
        ("L111", "{", "unexpected end of JSON input"),
        ("L112", r#"{"kind":"user"}"#, "\"key\" property not found in JSON context object"),
        ("L112", r#"{"name":"x"}"#, "\"key\" property not found in JSON context object"),
        ("L113", r#"{"kind":"org","key":""}"#, "context key must not be empty"),
        ("L114", r#"{"kind":"kind","key":"a"}"#, "\"kind\" is not a valid context kind"),
        ("L115", "[]", "expected object, got array at position 0"),
        ("L115", "null", "expected object, got null at position 0"),
        ("L116", r#"{"kind":"multi"}"#, "multi-context must contain at least one kind"),
        (
            "L116: multi in multi",
            r#"{"kind":"multi","multi":{"key":"a"}}"#,
            "single context cannot have the kind \"multi\"",
        ),
        ("L114: no kind", r#"{"kind":"","key":"a"}"#, "context kind cannot be empty"),
        ("L114: other characters", r#"{"kind":"a b","key":"a"}"#, "context kind contains disallowed characters"),
        ("L121", r#"{"kind":"user","key":null}"#, "context key must not be null"),
        ("L113: a user", r#"{"key":""}"#, "User must have a 'key' attribute"),
    ] {
        gateway.answers_as(row, reported(body), message(400, text)).await;
    }
    let long = |length: usize| format!(r#"{{"kind":"user","key":"{}"}}"#, "a".repeat(length - 25));
    assert_eq!(long(1024).len(), 1024 - 1);
    gateway.answers_as("L149", reported(&long(1025)), some_json(200)).await;
    let too_large = message(413, "Request body exceeds maximum allowed size.");
    gateway.answers_as("L149", reported(&long(1026)), too_large.clone()).await;
    gateway.answers_as("L149", reported(&long(100_000)), too_large).await;
}

#[tokio::test]
async fn contexts_of_every_schema_are_evaluated() {
    let rule = |kind: Option<&str>, attribute: &str, value: &str| {
        let mut clause = json!({"attribute": attribute, "op": "in", "values": [value], "negate": false});
        if let Some(kind) = kind {
            clause["contextKind"] = json!(kind);
        }
        json!({"rules": [{"id": "r", "variation": 1, "clauses": [clause]}]})
    };
    let flags = [
        flag_with("org", 1, json!({"contextTargets": [{"contextKind": "org", "variation": 1, "values": ["acme"]}]})),
        flag_with("plan", 1, rule(None, "plan", "x")),
        flag_with("email", 1, rule(Some("user"), "email", "q@x.com")),
    ];
    let gateway = Setup::with(data(flags, [])).start().await;
    for (row, context, flag, value) in [
        ("L117", r#"{"kind":"multi","user":{"key":"a"},"org":{"key":"acme"}}"#, "org", false),
        ("L117", r#"{"kind":"multi","user":{"key":"acme"},"org":{"key":"other"}}"#, "org", true),
        ("L118", r#"{"key":"a","custom":{"plan":"x"}}"#, "plan", false),
        ("L118", r#"{"key":"a","plan":"x"}"#, "plan", true),
        ("L119", r#"{"key":"a","email":"q@x.com"}"#, "email", false),
        ("L120", r#"{"key":"a","custom":null}"#, "plan", true),
    ] {
        for call in [on_server(context), reported(context)] {
            let answer = gateway.answers(&call).await;
            assert_eq!((answer.status, &answer.json()[flag]["value"]), (200, &json!(value)), "{row}: {context}");
        }
    }
}

#[tokio::test]
async fn no_flags_is_a_valid_result_and_evaluation_sends_no_events() {
    let gateway = Setup::with(json!({"flags": {}, "segments": {}})).events().start().await;
    gateway.answers_as("L141", on_server(USER), json_answer(200, json!({}))).await;
    let browser = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"));
    gateway.answers_as("L141", browser, json_answer(200, json!({})).cors("*", "GET,OPTIONS")).await;
    // L143, U171, L187: upstream receives only the test's own post, flushed.
    let ours = Call::post("/bulk", r#"[{"kind":"ours"}]"#).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    gateway.answers_as("L143", ours, empty(202)).await;
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let posts: Vec<_> = upstream.requests().into_iter().filter(|it| it.method == "POST").collect();
    assert_eq!(posts.len(), 1, "{posts:?}");
    assert_eq!(posts[0].json(), json!([{"kind": "ours"}]));
}
