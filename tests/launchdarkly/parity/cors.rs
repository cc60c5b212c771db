//! L162 to L172 on every route that browsers use, for every outcome; L156; L218.

use serde_json::json;
use yardarm_testkit::Call;

use super::{Caller, Family, ROUTES, asks, stream_head};
use crate::expected::{ALLOWED_HEADERS, Expected, TEXT_D, empty, json as json_answer, message, some_json, text};
use crate::flags::{flag, some_data};
use crate::running::{CTX, ENV_ID, SDK_KEY, Setup};

const FIRST: &str = "https://first.example";
const SECOND: &str = "https://second.example";

fn origins(call: Call, origins: &[&str]) -> Call {
    origins.iter().fold(call, |call, origin| call.header("Origin", origin))
}

#[tokio::test]
async fn origins_on_every_route_and_outcome() {
    for (allowed, rows) in [
        (
            &[][..],
            &[
                (&[][..], "*"),
                (&[""][..], "*"),
                (&["null"][..], "null"),
                (&[FIRST][..], FIRST),
                (&[FIRST, SECOND][..], FIRST),
                (&["not an origin, really"][..], "not an origin, really"),
            ][..],
        ),
        (
            &[FIRST, SECOND][..],
            &[
                (&[][..], FIRST),
                (&[""][..], FIRST),
                (&[SECOND][..], SECOND),
                (&["https://foreign.example", SECOND][..], FIRST),
                (&["https://Second.example"][..], FIRST),
                (&["https://second.example/"][..], FIRST),
            ][..],
        ),
    ] {
        let environment = json!({"allowed_origins": allowed, "allowed_headers": ["X-A", "x-b"]});
        let gateway = Setup::with(some_data()).environment(environment).start().await;
        let allowed_headers = format!("{ALLOWED_HEADERS},X-A,x-b");
        for route in ROUTES.iter().filter(|it| it.caller == Caller::Browser) {
            let methods = route.cors_methods().unwrap();
            for (sent, answered) in rows {
                let cors =
                    |expected: Expected, origin: &str| expected.cors_with_headers(origin, &methods, &allowed_headers);
                let preflight = origins(Call::options(route.path(ENV_ID)), sent);
                gateway.answers_as("L162 to L169", preflight, cors(empty(200), answered)).await;
                let call = origins(route.right(), sent);
                let (expected, is_stream) = match route.family {
                    Family::Stream => (cors(stream_head(), "*"), true),
                    // L169: events are disabled, and the headers are present.
                    Family::Post | Family::Pixel => {
                        let disabled = r#"{"message":"Event proxy is not enabled for this environment"}"#;
                        (cors(text(503, disabled), answered), false)
                    }
                    _ => (cors(some_json(200), answered), false),
                };
                asks(&gateway, "L162 to L165", call, expected, is_stream).await;
                let call = origins(route.call("unknown"), sent);
                gateway.answers_as("L031", call, text(404, TEXT_D).cors_methods(&methods)).await;
                if route.method == "REPORT" {
                    let call = origins(Call::new("REPORT", route.path(ENV_ID)).body("{}"), sent);
                    let unsupported = cors(text(415, "Content-Type must be application/json."), answered);
                    let is_stream = route.family == Family::Stream;
                    let unsupported = if is_stream { unsupported.with("x-accel-buffering: no") } else { unsupported };
                    gateway.answers_as("L092", call, unsupported).await;
                }
            }
        }
        let call = origins(Call::get(format!("/eval/{ENV_ID}/!")), &[SECOND]);
        let expected = message(400, "context part of URL path did not decode as valid base64")
            .with("x-accel-buffering: no")
            .cors_with_headers(SECOND, "GET,OPTIONS", &allowed_headers);
        gateway.answers_as("L171: errors carry the normal origin", call, expected).await;
    }
}

#[tokio::test]
async fn other_callers_receive_no_cors_headers() {
    // L172
    let gateway = Setup::with(some_data()).start().await;
    for route in ROUTES.iter().filter(|it| it.caller != Caller::Browser && it.family != Family::Stream) {
        let call = route.right().header("Origin", FIRST).header("Access-Control-Request-Method", "GET");
        let answer = gateway.answers(&call).await;
        let is_cors = |(name, _): &&(String, String)| name.starts_with("access-control") || name == "vary";
        assert_eq!(answer.headers.iter().find(is_cors), None, "L172: {call}");
    }
    let answer = gateway.answers(&Call::get("/status").header("Origin", FIRST)).await;
    assert_eq!(answer.headers, [("content-type".to_owned(), "application/json".to_owned())], "L172");
}

#[tokio::test]
async fn tags_are_compared_as_a_whole() {
    // L156
    let gateway = Setup::with(some_data()).start().await;
    let poll = |tags: &[&str]| {
        let call = Call::get("/sdk/flags/plain").key(SDK_KEY);
        tags.iter().fold(call, |call, tag| call.header("If-None-Match", tag))
    };
    let fresh = || json_answer(200, flag("plain", 3)).with("etag: relay-3");
    for tags in [&["relay-3"][..], &["  relay-3\t"], &["relay-3", "other"]] {
        gateway.answers_as("L156", poll(tags), empty(304)).await;
    }
    for tags in [
        &[][..],
        &[""],
        &["*"],
        &["\"relay-3\""],
        &["W/\"relay-3\""],
        &["W/relay-3"],
        &["relay-3, relay-4"],
        &["relay-30"],
        &["relay-"],
        &["RELAY-3"],
        &["3"],
        &["other", "relay-3"],
    ] {
        gateway.answers_as("L156", poll(tags), fresh()).await;
    }
    let modified =
        Call::get("/sdk/flags/plain").key(SDK_KEY).header("If-Modified-Since", "Sun, 22 Nov 2099 02:04:23 GMT");
    gateway.answers_as("L156: nothing else counts", modified.header("Range", "bytes=0-1"), fresh()).await;
    let nothing = Call::get("/sdk/flags/none").key(SDK_KEY).header("If-None-Match", "relay-3");
    gateway.answers_as("L153", nothing, empty(404)).await;
}

#[tokio::test]
async fn secure_mode_wants_the_hash_of_the_context() {
    // L147; the hashes are those of launchdarkly/sdk-test-harness.
    let key = "sdk-01234567-89ab-cdef-0123-456789abcdef";
    let environment = json!({"name": "main", "sdk_key": key, "env_id": ENV_ID, "secure_mode": true});
    let gateway = Setup::new().data(key, some_data()).environments([environment]).start().await;
    let user = "73df666a13f2c474e50aa34ca5a761e89abb737fb139ff65fdde7fa85c9dcacd";
    let other = "98a933ca26d2951547fc021981ebcdeda95fbca2ac3f767ae67f7042d5458f72";
    let mismatch = "Environment is in secure mode, and context hash does not match.";
    let upper = user.to_uppercase();
    for (context, query, is_fine) in [
        (r#"{"kind":"user","key":"user-key-123"}"#, format!("?h={user}"), true),
        (r#"{"key":"user-key-123"}"#, format!("?x=1&h={user}&h=wrong"), true),
        (r#"{"kind":"multi","user":{"key":"user-key-123"}}"#, format!("?h={user}"), true),
        (r#"{"kind":"other","key":"user-key-123"}"#, format!("?h={other}"), true),
        (r#"{"kind":"user","key":"user-key-123"}"#, String::new(), false),
        (r#"{"kind":"user","key":"user-key-123"}"#, "?h=".to_owned(), false),
        (r#"{"kind":"user","key":"user-key-123"}"#, format!("?h={upper}"), false),
        (r#"{"kind":"user","key":"user-key-123"}"#, format!("?h={user}%20"), false),
        (r#"{"kind":"user","key":"user-key-123"}"#, format!("?h=wrong&h={user}"), false),
        (r#"{"kind":"user","key":"user-key-123"}"#, format!("?H={user}"), false),
        (r#"{"kind":"user","key":"user-key-124"}"#, format!("?h={user}"), false),
        (r#"{"kind":"other","key":"user-key-123"}"#, format!("?h={user}"), false),
    ] {
        let call = Call::report(format!("/sdk/evalx/{ENV_ID}/context{query}"), context);
        let expected = if is_fine { some_json(200) } else { message(400, mismatch) };
        gateway.answers_as("L144, L145, L147", call, expected.cors("*", "REPORT,OPTIONS")).await;
        let call = Call::report(format!("/eval/{ENV_ID}{query}"), context);
        let (expected, is_stream) = if is_fine {
            (stream_head().cors("*", "REPORT,OPTIONS"), true)
        } else {
            (message(400, mismatch).with("x-accel-buffering: no").cors("*", "REPORT,OPTIONS"), false)
        };
        asks(&gateway, "L146", call, expected, is_stream).await;
    }
    // Servers need no hash, and neither does a stream without a context.
    let server = Call::get(format!("/sdk/evalx/contexts/{CTX}")).key(key);
    gateway.answers_as("L148: not for servers", server, some_json(200)).await;
    gateway.opens_with(&Call::get(format!("/ping/{ENV_ID}"))).await.receives_ping().await;
}

#[tokio::test]
async fn keys_are_masked_on_the_status_page() {
    // L218
    let keys = [
        ("sdk-def01234-56-789abc", "sdk-********-**-*89abc"),
        ("def01234-56-789abc", "********-**-*89abc"),
        ("sdk-aaaa-1", "sdk-*aaa-1"),
        ("89abc", "89abc"),
        ("sdk-9abc", "sdk-9abc"),
        ("sdk-secure", "sdk-secure"),
        ("sdk-mob-aaaa-1", "sdk-mob-*aaa-1"),
    ];
    let environments = keys.map(|(key, _)| json!({"name": format!("of {key}"), "sdk_key": key}));
    let gateway = Setup::new().environments(environments).without_waiting().start().await;
    let status = gateway.status().await;
    for (key, masked) in keys {
        assert_eq!(status["environments"][format!("of {key}")]["sdkKey"], masked, "L218: {key}");
    }
}
