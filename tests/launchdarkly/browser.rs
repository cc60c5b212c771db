//! L162 to L176: CORS, preflight, goals.

use serde_json::json;
use yardarm_testkit::Call;

use crate::expected::{ALLOWED_HEADERS, Expected, empty, json as json_answer, message, not_initialized, some_json};
use crate::flags::some_data;
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

const ORIGIN: &str = "https://a.example";

fn evaluation() -> Call {
    Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"))
}

#[tokio::test]
async fn any_origin_is_echoed_when_none_is_configured() {
    let gateway = Setup::with(some_data()).start().await;
    gateway.answers_as("L162", evaluation().header("Origin", ORIGIN), some_json(200).cors(ORIGIN, "GET,OPTIONS")).await;
    gateway.answers_as("L163", evaluation(), some_json(200).cors("*", "GET,OPTIONS")).await;
}

#[tokio::test]
async fn configured_origins_and_headers_are_named() {
    let environment = json!({"allowed_origins": ["https://first.example", ORIGIN], "allowed_headers": ["X-A", "X-B"]});
    let gateway = Setup::with(some_data()).environment(environment).start().await;
    let allowed = format!("{ALLOWED_HEADERS},X-A,X-B"); // L166
    let answered = |origin: &str| some_json(200).cors_with_headers(origin, "GET,OPTIONS", &allowed);
    for (row, origin, answer) in [
        ("L164", Some(ORIGIN), ORIGIN),
        ("L164", Some("https://first.example"), "https://first.example"),
        ("L165", Some("https://foreign.example"), "https://first.example"),
        ("L165: case counts", Some("https://A.example"), "https://first.example"),
        ("L165", None, "https://first.example"),
    ] {
        let call = evaluation();
        let call = match origin {
            Some(origin) => call.header("Origin", origin),
            None => call,
        };
        gateway.answers_as(row, call, answered(answer)).await;
    }
    // Streams answer `*` whatever is configured.
    let call = Call::get(format!("/ping/{ENV_ID}")).header("Origin", ORIGIN);
    let stream = gateway.opens_with(&call).await;
    assert_eq!(stream.client().head().header("access-control-allow-origin"), Some("*"));
    assert_eq!(stream.client().head().header("access-control-allow-headers"), Some(allowed.as_str()));
}

#[tokio::test]
async fn preflights_list_the_methods_of_a_path() {
    // Events are disabled, which does not affect L169.
    let gateway = Setup::with(some_data()).start().await;
    let evalx = format!("/sdk/evalx/{ENV_ID}");
    for (row, path, methods) in [
        ("L167", format!("{evalx}/contexts/{CTX}"), "GET,OPTIONS"),
        ("L167", format!("{evalx}/users/{CTX}"), "GET,OPTIONS"),
        ("L167", format!("/ping/{ENV_ID}"), "GET,OPTIONS"),
        ("L167", format!("/eval/{ENV_ID}/{CTX}"), "GET,OPTIONS"),
        ("L167", format!("/sdk/goals/{ENV_ID}"), "GET,OPTIONS"),
        ("L167", format!("/a/{ENV_ID}.gif"), "GET,OPTIONS"),
        ("L168", format!("{evalx}/context"), "REPORT,OPTIONS"),
        ("L168", format!("{evalx}/user"), "REPORT,OPTIONS"),
        ("L168", format!("/eval/{ENV_ID}"), "REPORT,OPTIONS"),
        ("L103", format!("{evalx}/contexts"), "REPORT,OPTIONS"),
        ("L103", format!("{evalx}/users"), "REPORT,OPTIONS"),
        ("L169", format!("/events/bulk/{ENV_ID}"), "POST,OPTIONS"),
        ("decision R13", format!("/events/diagnostic/{ENV_ID}"), "POST,OPTIONS"),
    ] {
        let call = Call::options(path).header("Origin", ORIGIN).header("Access-Control-Request-Method", "REPORT");
        gateway.answers_as(row, call, empty(200).cors(ORIGIN, methods)).await;
    }
}

#[tokio::test]
async fn errors_of_a_known_environment_carry_the_headers_too() {
    // L171
    let gateway = Setup::new().set("launchdarkly.init_timeout", "20ms").start().await;
    let bad = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/!!!!")).header("Origin", ORIGIN);
    let expected = message(400, "context part of URL path did not decode as valid base64").cors(ORIGIN, "GET,OPTIONS");
    gateway.answers_as("L171", bad, expected).await;
    let expected = not_initialized().cors(ORIGIN, "GET,OPTIONS");
    gateway.answers_as("L171", evaluation().header("Origin", ORIGIN), expected).await;
}

#[tokio::test]
async fn only_browsers_receive_cors_headers() {
    // L172; `answers_as` compares all headers.
    let gateway = Setup::with(some_data()).events().start().await;
    let server = |path: &str| Call::get(path).key(SDK_KEY).header("Origin", ORIGIN);
    let context = |path: &str| format!("{path}/contexts/{CTX}");
    for (call, expected) in [
        (server("/sdk/flags"), some_json(200).with("etag: relay-7958a0a3e057e9d")),
        (server(&context("/sdk/evalx")), some_json(200)),
        (Call::get(context("/msdk/evalx")).key(MOBILE_KEY).header("Origin", ORIGIN), some_json(200)),
        (Call::post("/bulk", "[]").key(SDK_KEY).header("Origin", ORIGIN), empty(202)),
        (Call::post("/mobile", "[]").key(MOBILE_KEY).header("Origin", ORIGIN), empty(202)),
        (Call::get("/status").header("Origin", ORIGIN), some_json(200)),
    ] {
        gateway.answers_as("L172", call, expected).await;
    }
}

#[tokio::test]
async fn goals_are_forwarded() {
    let gateway = Setup::with(some_data()).start().await;
    let goals = Call::get(format!("/sdk/goals/{ENV_ID}?x=1")).header("Origin", ORIGIN).header("X-Custom", "c");
    let headers = [
        ("Content-Type", "application/json"),
        ("ETag", "\"g1\""),
        ("Cache-Control", "max-age=60"),
        ("Access-Control-Allow-Origin", "https://vendor.example"),
        ("Access-Control-Allow-Private-Network", "true"),
        ("X-Other", "o"),
    ];
    let passed_on = |expected: Expected| {
        // L174: upstream's headers are removed, the gateway's are present.
        expected.cors(ORIGIN, "GET,OPTIONS").with("etag: \"g1\"").with("cache-control: max-age=60").with("x-other: o")
    };
    gateway.upstream.answers_goals_with(200, &headers, r#"[{"goal":1}]"#);
    gateway.answers_as("L173", goals.clone(), passed_on(json_answer(200, json!([{"goal": 1}])))).await;
    let request = gateway.upstream.requests().into_iter().find(|it| it.path.starts_with("/sdk/goals/")).unwrap();
    assert_eq!(request.path, format!("/sdk/goals/{ENV_ID}?x=1"), "L173");
    let passed = |name: &str| request.header(name).map(str::to_owned);
    assert_eq!(passed("origin").as_deref(), Some(ORIGIN));
    assert_eq!(passed("x-custom").as_deref(), Some("c"));
    assert_eq!(passed("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_ne!(passed("host").as_deref(), Some("gateway.localhost"));

    gateway.upstream.answers_goals_with(304, &[("ETag", "\"g1\"")], "");
    let answer = gateway.answers(&goals.clone().header("If-None-Match", "\"g1\"")).await;
    assert_eq!((answer.status, answer.header("etag")), (304, Some("\"g1\"")), "L173: the status is passed on");
    gateway.upstream.answers_goals_with(500, &[("Content-Type", "application/json")], "{}");
    gateway.answers_as("L173", goals, json_answer(500, json!({})).cors(ORIGIN, "GET,OPTIONS")).await;
}

#[tokio::test]
async fn goals_that_cannot_be_fetched_are_a_bad_gateway() {
    // L175: the test holds the port and no server listens on it.
    let closed = super::outage::closed_port();
    let setup = Setup::with(some_data()).set("launchdarkly.client_side_base_uri", closed.url());
    let gateway = setup.start().await;
    gateway.answers_as("L175", Call::get(format!("/sdk/goals/{ENV_ID}")), empty(502).cors("*", "GET,OPTIONS")).await;
}
