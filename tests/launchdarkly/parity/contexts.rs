//! L080 to L085, L096 to L149: every encoding of a context, on every route that takes one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};
use yardarm_testkit::Call;

use super::{Caller, Family, ROUTES, Route, asks, stream_head};
use crate::expected::{Expected, empty, json as json_answer, message, not_initialized, text};
use crate::flags::{data, flag_with};
use crate::launchdarkly::context_segment as segment_of;
use crate::running::{ENV_ID, Running, SDK_KEY, Setup};

const NO_BASE64: &str = "context part of URL path did not decode as valid base64";
const NO_CONTEXT: &str = "context part of URL path did not decode to valid evaluation context as JSON";
const UNSUPPORTED: &str = "Content-Type must be application/json.";

/// Returns one flag that is false for contexts whose `plan` is `x`.
fn rules() -> Value {
    let clause = json!({"contextKind": "user", "attribute": "plan", "op": "in", "values": ["x"], "negate": false});
    data([flag_with("plain", 3, json!({"rules": [{"id": "r", "variation": 1, "clauses": [clause]}]}))], [])
}

/// Returns the routes that take a context, with whether it is in the path.
fn routes() -> impl Iterator<Item = (&'static Route, bool)> {
    let takes = |route: &&Route| {
        route.family == Family::Evaluation || (route.family == Family::Stream && ![2, 3, 13, 24].contains(&route.row))
    };
    ROUTES.iter().filter(takes).map(|route| (route, route.method == "REPORT"))
}

fn with_key(route: &Route, call: Call) -> Call {
    match route.credential() {
        Some(key) => call.key(key),
        None => call,
    }
}

/// Returns the response of a route to a valid context.
fn fine(route: &Route) -> (Expected, bool) {
    if route.family == Family::Stream {
        let head = stream_head();
        let is_browser = route.caller == Caller::Browser;
        return (if is_browser { route.found(head) } else { head.with("access-control-allow-origin: *") }, true);
    }
    let result = json!({"plain": {"value": true, "variation": 0, "version": 3}});
    (route.found(json_answer(200, result)), false)
}

/// Returns the response of a route to an invalid context.
fn refused(route: &Route, refusal: Expected) -> (Expected, bool) {
    let refusal = if route.family == Family::Stream { refusal.with("x-accel-buffering: no") } else { refusal };
    (route.found(refusal), false)
}

async fn gateway() -> Running {
    Setup::with(rules()).start().await
}

#[tokio::test]
async fn segments_of_paths_on_every_route() {
    let gateway = gateway().await;
    let special = segment_of(r#"{"kind":"user","key":"a","b":">>>???"}"#);
    assert!(special.contains('-') && special.contains('_'));
    let rows = [
        ("L105", URL_SAFE.encode(r#"{"key":"a"}"#), None),
        ("L105", "eyJrZXkiOiJhIn0".to_owned(), None),
        ("L105", "eyJrZXkiOiJhIn0%3D".to_owned(), None),
        ("L105: too much padding", "eyJrZXkiOiJhIn0==".to_owned(), Some(NO_BASE64)),
        ("L105: too much padding", "eyJrZXkiOiJhYiJ9=".to_owned(), Some(NO_BASE64)),
        ("L105: unused bits", "eyJrZXkiOiJhIn1".to_owned(), None),
        ("L105: unused bits", "eyJrZXkiOiJhIn1=".to_owned(), None),
        ("L105: line breaks", "%0AeyJrZXki%0D%0AOiJhIn0%0A".to_owned(), None),
        ("L105: line breaks", "eyJrZXkiOiJhIn0%0A=%0D".to_owned(), None),
        ("L106", special.clone(), None),
        ("L107", special.replace('-', "+"), Some(NO_BASE64)),
        ("L107", special.replace('-', "%2B"), Some(NO_BASE64)),
        ("L090", "!!!!".to_owned(), Some(NO_BASE64)),
        ("L107: a blank", "eyJrZXkiOiJhIn0%20".to_owned(), Some(NO_BASE64)),
        ("L107: one letter", "e".to_owned(), Some(NO_BASE64)),
        ("L105: padding within", "eyJrZXki=OiJhIn0".to_owned(), Some(NO_BASE64)),
        ("Go: bytes that are no text", "%ff%fe".to_owned(), Some(NO_BASE64)),
        ("Go: NUL", "%00".to_owned(), Some(NO_BASE64)),
        ("L105: line breaks", "%0A".to_owned(), Some(NO_CONTEXT)),
        ("L108: nothing", "user".to_owned(), Some(NO_CONTEXT)),
        ("L108", segment_of("not json"), Some(NO_CONTEXT)),
        ("L091", segment_of(r#"{"no":1}"#), Some(NO_CONTEXT)),
        ("L108", segment_of("[]"), Some(NO_CONTEXT)),
        ("L108", segment_of("null"), Some(NO_CONTEXT)),
        ("L108", segment_of(r#"{"kind":"user","key":""}"#), Some(NO_CONTEXT)),
        ("L111: trailing data", segment_of(r#"{"key":"a"} {"#), Some(NO_CONTEXT)),
        ("L105: white space", segment_of(" \r\n\t{\"key\":\"a\"}\n "), None),
        ("Go: a byte-order mark", segment_of("\u{feff}{\"key\":\"a\"}"), Some(NO_CONTEXT)),
    ];
    for (route, in_body) in routes() {
        if in_body {
            continue;
        }
        for (label, segment, problem) in &rows {
            let (expected, is_stream) = match problem {
                None => fine(route),
                Some(problem) => refused(route, message(400, problem)),
            };
            let path = route.path(ENV_ID).replace(crate::running::CTX, segment);
            asks(&gateway, label, with_key(route, Call::get(path)), expected, is_stream).await;
        }
    }
}

#[tokio::test]
async fn bodies_on_every_route() {
    let gateway = gateway().await;
    let deep = format!(r#"{{"kind":"user","key":"a","x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let too_deep = format!(r#"{{"kind":"user","key":"a","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let key_missing = "\"key\" property not found in JSON context object";
    let rows: Vec<(&str, &str, Option<&str>)> = vec![
        ("a context", r#"{"kind":"user","key":"a"}"#, None),
        ("kind anywhere", r#" { "key":"a" , "kind" : "user" } "#, None),
        ("any other type", r#"{"kind":"o.R-g_1","key":"a","b":[1,{"c":null}],"d":true,"e":-0,"f":1.0}"#, None),
        ("null is absent", r#"{"kind":"user","key":"a","plan":null}"#, None),
        ("Go: the last of two", r#"{"kind":"user","key":"a","plan":"x","plan":"y"}"#, None),
        ("Go: escapes", r#"{"kind":"user","key":"\ud83d\ude00\ud800\u0000"}"#, None),
        ("Go: bigger than 64 bits", r#"{"kind":"user","key":"a","n":123456789012345678901}"#, None),
        ("Go: as small as nothing", r#"{"kind":"user","key":"a","n":1e-400}"#, None),
        ("Go: ten thousand levels", &deep, None),
        ("Go: ten thousand levels", &too_deep, Some("exceeded max depth")),
        ("L122: `_meta`", r#"{"kind":"user","key":"a","_meta":null}"#, None),
        (
            "L122: `_meta`",
            r#"{"kind":"user","key":"a","_meta":{"privateAttributes":["a","/b/c",""],"secondary":3,"x":[]}}"#,
            None,
        ),
        ("L122: `_meta`", r#"{"kind":"user","key":"a","_meta":{"privateAttributes":null}}"#, None),
        ("name", r#"{"kind":"user","key":"a","name":null}"#, None),
        ("L117: multi", r#"{"kind":"multi","user":{"key":"a"},"org":{"key":"b","name":null}}"#, None),
        ("L117: multi", r#"{"kind":"multi","user":{"key":"a"}}"#, None),
        ("L117: multi", r#"{"user":{"key":"a"},"kind":"multi"}"#, None),
        ("L111", "", Some("unexpected end of JSON input")),
        ("L111", " \n", Some("unexpected end of JSON input")),
        ("L093", "{", Some("unexpected end of JSON input")),
        ("L111", r#"{"key":"a"#, Some("unexpected end of JSON input")),
        ("L111", "everything", Some("invalid character 'e' looking for beginning of value")),
        ("L111", "{} true", Some("invalid character 't' after top-level value")),
        ("L111", "{'key':1}", Some(r"invalid character '\'' looking for beginning of object key string")),
        ("L111", "\u{feff}{}", Some("invalid character '\u{ef}' looking for beginning of value")),
        ("L111", "\0", Some(r"invalid character '\x00' looking for beginning of value")),
        ("L111", "{\"key\":\"a\nb\"}", Some(r"invalid character '\n' in string literal")),
        ("L111", "{\"key\":\"a\u{1}\"}", Some(r"invalid character '\x01' in string literal")),
        ("L111", r#"{"key":"\x"}"#, Some("invalid character 'x' in string escape code")),
        ("L111", r#"{"key":01}"#, Some("invalid character '1' after object key:value pair")),
        ("L111", r#"{"key":NaN}"#, Some("invalid character 'N' looking for beginning of value")),
        ("Go", r#"{"key":"a","n":1e400}"#, Some("invalid numeric value at position 15")),
        ("L115", "[]", Some("expected object, got array at position 0")),
        ("L115", "  null ", Some("expected object, got null at position 0")),
        ("L115", "\"x\"", Some("expected object, got string at position 0")),
        ("L115", "-1.5", Some("expected object, got number at position 0")),
        ("L115", "false", Some("expected object, got boolean at position 0")),
        ("L112", "{}", Some(key_missing)),
        ("L112", r#"{"kind":"user"}"#, Some(key_missing)),
        ("L112", r#"{"kind":"multi","org":{}}"#, Some(key_missing)),
        ("L113", r#"{"kind":"org","key":""}"#, Some("context key must not be empty")),
        ("L113", r#"{"kind":"multi","org":{"key":""}}"#, Some("context key must not be empty")),
        ("L121", r#"{"kind":"user","key":null}"#, Some("context key must not be null")),
        (
            "L121: a wrong type",
            r#"{"kind":"user","key":3}"#,
            Some("expected string or null, got number at position 21"),
        ),
        ("L121: a wrong type", r#" {"kind":3}"#, Some("expected string, got number at position 8")),
        ("L121: a wrong type", r#"{"kind":null}"#, Some("expected string, got null at position 8")),
        ("L114", r#"{"kind":"","key":"a"}"#, Some("context kind cannot be empty")),
        ("L114", r#"{"kind":"kind","key":"a"}"#, Some("\"kind\" is not a valid context kind")),
        ("L114", r#"{"kind":"a b","key":"a"}"#, Some("context kind contains disallowed characters")),
        ("L114", r#"{"kind":"\u00e9","key":"a"}"#, Some("context kind contains disallowed characters")),
        ("L116", r#"{"kind":"multi"}"#, Some("multi-context must contain at least one kind")),
        ("L116", r#"{"kind":"multi","multi":{"key":"a"}}"#, Some("single context cannot have the kind \"multi\"")),
        ("L116", r#"{"kind":"multi","kind":{"key":"a"}}"#, Some("multi-context must contain at least one kind")),
        ("L114", r#"{"kind":"multi","a b":{"key":"a"}}"#, Some("context kind contains disallowed characters")),
        ("L115", r#"{"kind":"multi","user":3}"#, Some("expected object, got number at position 23")),
        ("L115", r#"{"kind":"multi","user":null}"#, Some("expected object, got null at position 23")),
        (
            "L121: a wrong type",
            r#"{"kind":"user","key":"u","name":1}"#,
            Some("expected string or null, got number at position 32"),
        ),
        (
            "L121: a wrong type",
            r#"{"kind":"user","key":"u","anonymous":null}"#,
            Some("expected boolean, got null at position 37"),
        ),
        (
            "L121: a wrong type",
            r#"{"kind":"user","key":"u","anonymous":"true"}"#,
            Some("expected boolean, got string at position 37"),
        ),
        ("L115", r#"{"kind":"user","key":"u","_meta":[]}"#, Some("expected object or null, got array at position 33")),
        (
            "L121: a wrong type",
            r#"{"kind":"user","key":"u","_meta":{"privateAttributes":{}}}"#,
            Some("expected array or null, got object at position 54"),
        ),
        (
            "L121: a wrong type",
            r#"{"kind":"user","key":"u","_meta":{"privateAttributes":["a",null]}}"#,
            Some("expected string, got null at position 59"),
        ),
    ];
    for (route, in_body) in routes() {
        if !in_body {
            continue;
        }
        for (label, body, problem) in &rows {
            let (expected, is_stream) = match problem {
                None => fine(route),
                Some(problem) => refused(route, message(400, problem)),
            };
            asks(&gateway, label, with_key(route, Call::report(route.path(ENV_ID), *body)), expected, is_stream).await;
        }
        let of_type = |types: &[&str]| {
            let call = Call::new("REPORT", route.path(ENV_ID)).body(r#"{"key":"a"}"#);
            with_key(route, types.iter().fold(call, |call, it| call.header("Content-Type", it)))
        };
        for types in [
            &[][..],
            &[""],
            &["text/plain"],
            &["Application/JSON"],
            &["application/json; charset=utf-8"],
            &["application/json;"],
            &["application/json,application/json"],
            &["text/plain", "application/json"],
        ] {
            let (expected, _) = refused(route, text(415, UNSUPPORTED));
            asks(&gateway, "L092, L109, L110", of_type(types), expected, false).await;
        }
        for types in [&["application/json"][..], &["  application/json\t"], &["application/json", "text/plain"]] {
            let (expected, is_stream) = fine(route);
            asks(&gateway, "L110: the first header, whole", of_type(types), expected, is_stream).await;
        }
        let (expected, is_stream) = fine(route);
        let compressed = of_type(&["application/json"]).header("Content-Encoding", "gzip");
        asks(&gateway, "L111: no coding is honoured", compressed, expected, is_stream).await;
    }
}

#[tokio::test]
async fn only_true_is_true() {
    // L127, L128
    let gateway = gateway().await;
    let plain = json!({"value": true, "variation": 0, "version": 3});
    let mut reasoned = plain.clone();
    reasoned["reason"] = json!({"kind": "FALLTHROUGH"});
    for (route, in_body) in routes().filter(|(route, _)| route.family == Family::Evaluation) {
        for (query, has_reason) in [
            ("?withReasons=true", true),
            ("?withReasons=%74rue", true),
            ("?withReasons=true&withReasons=false", true),
            ("?a;b&withReasons=true", true),
            ("?withReasons=%zz&withReasons=true", true),
            ("?withReasons=TRUE", false),
            ("?withReasons=1", false),
            ("?withReasons=yes", false),
            ("?withReasons=", false),
            ("?withReasons", false),
            ("?withReasons=false&withReasons=true", false),
            ("?withreasons=true", false),
            ("?withReasons=true%20", false),
            ("?withReasons=true;", false),
            ("?h=wrong&secure=1", false),
        ] {
            let path = format!("{}{query}", route.path(ENV_ID));
            let call = if in_body { Call::report(path, r#"{"key":"a"}"#) } else { Call::get(path) };
            let result = json!({"plain": if has_reason { &reasoned } else { &plain }});
            gateway.answers_as("L127, L128", with_key(route, call), route.found(json_answer(200, result))).await;
        }
    }
}

#[tokio::test]
async fn the_order_of_checks() {
    // L044: an invalid context is rejected in every state, a valid one waits for data.
    let environment = json!({"secure_mode": true});
    let setup = Setup::new().set("launchdarkly.init_timeout", "20ms").environment(environment);
    let gateway = setup.start().await;
    for (route, in_body) in routes() {
        let call = |context: &str, query: &str| {
            let path = route.path(ENV_ID).replace(crate::running::CTX, &segment_of(context));
            let path = format!("{path}{query}");
            with_key(route, if in_body { Call::report(path, context) } else { Call::get(path) })
        };
        let problem = if in_body { "unexpected end of JSON input" } else { NO_CONTEXT };
        let (bad, _) = refused(route, message(400, problem));
        asks(&gateway, "L044", call("{", "?h=wrong"), bad, false).await;
        let is_secure = route.caller == Caller::Browser;
        let (expected, is_stream) = match (is_secure, route.family) {
            (true, _) => {
                let text = "Environment is in secure mode, and context hash does not match.";
                refused(route, message(400, text))
            }
            (false, Family::Stream) => fine(route),
            (false, _) => (not_initialized(), false),
        };
        for query in ["", "?h=", "?h=wrong"] {
            asks(&gateway, "L145, L146", call(r#"{"key":"a"}"#, query), expected.clone(), is_stream).await;
        }
        if route.cors_methods().is_some() {
            gateway.answers_as("L170", Call::options(route.path(ENV_ID)), route.found(empty(200))).await;
        }
    }
    let unread = Call::new("REPORT", "/sdk/evalx/context").key(SDK_KEY);
    gateway.answers_as("L109: the type before the body", unread, text(415, UNSUPPORTED)).await;
}
