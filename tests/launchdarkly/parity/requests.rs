//! L007 to L018: how Go's server parses a request, before any route is matched.

use yardarm_testkit::{Answer, Call, Connection, WAIT_TIMEOUT};

use crate::expected::{Expected, TEXT, TEXT_C, empty, message, page_not_found, some_json, text};
use crate::flags::some_data;
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

const CLOSE: &str = "connection: close";

async fn gateway() -> Running {
    Setup::with(some_data()).events().start().await
}

/// Sends these bytes and compares the response.
async fn compares(gateway: &Running, label: &str, request: &str, expected: Expected) {
    let method = request.split(' ').next().unwrap_or_default();
    let mut connection = Connection::open(gateway.address).await;
    connection.sends(request).await;
    let answer: Answer = connection.answer(method).await.unwrap_or_else(|| panic!("{label}: an answer to {request:?}"));
    expected.compare(&format!("{label}: {request:?}"), &answer);
    if answer.header("connection") == Some("close") {
        let rest = connection.closes_within(WAIT_TIMEOUT).await;
        assert_eq!(rest.as_deref(), Some(&b""[..]), "{label}: closed, and nothing after the answer");
    }
}

#[tokio::test]
async fn escapes_and_hosts_are_checked_first() {
    let gateway = gateway().await;
    let bad = |more: &str| empty(400).bytes(format!("400 Bad Request{more}").as_bytes()).with(TEXT).with(CLOSE);
    let missing = || bad(": missing required Host header");
    let malformed = || bad(": malformed Host header");
    let healthy = || some_json(200);
    for (label, head, expected) in [
        ("L015", "GET /x/%%% HTTP/1.1\r\nHost: a", bad("")),
        ("L015", "GET /% HTTP/1.1\r\nHost: a", bad("")),
        ("L015", "GET /status%2 HTTP/1.1\r\nHost: a", bad("")),
        ("L015", "GET /%+f HTTP/1.1\r\nHost: a", bad("")),
        ("L015", "POST //%zz HTTP/1.1\r\nHost: a", bad("")),
        ("Go: the target before the host", "GET /%zz HTTP/1.1", bad("")),
        ("L016", "GET /status HTTP/1.1", missing()),
        ("L016", "GET //x HTTP/1.1", missing()),
        ("L016", "OPTIONS * HTTP/1.1", missing()),
        ("L016", "GET http://a/status HTTP/1.1", missing()),
        ("Go", "GET /status HTTP/1.1\r\nHost: a\r\nHost: a", bad("")),
        ("Go", "GET /status HTTP/1.1\r\nHost: a b", malformed()),
        ("Go", "GET /status HTTP/1.1\r\nHost: a/b", malformed()),
        ("Go", "GET /status HTTP/1.1\r\nHost: <a>", malformed()),
        ("Go", "GET /status HTTP/1.1\r\nHost:", healthy()),
        ("Go", "GET /status HTTP/1.1\r\nHost: [::1]:8030", healthy()),
        ("Go", "GET /status HTTP/1.1\r\nhost: a\r\nExpect:", healthy()),
        ("Go", "GET /status HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue", healthy()),
        ("Go", "GET /status HTTP/1.1\r\nHost: a\r\nExpect: 200-ok", empty(417).with(CLOSE)),
        ("Go", "GET /nowhere HTTP/1.1\r\nHost: a\r\nExpect: x", empty(417).with(CLOSE)),
        ("L016: not for HTTP/1.0", "GET /status HTTP/1.0", healthy()),
        ("L016: not for HTTP/1.0", "GET /status HTTP/1.0\r\nHost: a", healthy()),
        ("Go", "GET http://elsewhere.test/status HTTP/1.1\r\nHost: a", healthy()),
        ("Go", "GET HTTP://a:1/nowhere?x HTTP/1.1\r\nHost: a", page_not_found()),
        ("Go", "OPTIONS * HTTP/1.1\r\nHost: a", empty(200)),
        ("L009", "OPTIONS /* HTTP/1.1\r\nHost: a", page_not_found()),
        ("Go", "GET /status HTTP/1.1\r\nHost: a\r\nConnection: close", healthy().with(CLOSE)),
        ("L007", "HEAD /status HTTP/1.1\r\nHost: a", empty(405)),
        ("L005: a method that does not exist", "status /status HTTP/1.1\r\nHost: a", empty(405)),
    ] {
        compares(&gateway, label, &format!("{head}\r\n\r\n"), expected).await;
    }
}

#[tokio::test]
async fn credentials_are_the_first_header_and_nothing_else() {
    let gateway = gateway().await;
    let flags = |authorization: &str| format!("GET /sdk/flags HTTP/1.1\r\nHost: a\r\n{authorization}\r\n\r\n");
    let known = || some_json(200).with("etag: relay-7958a0a3e057e9d");
    let unknown = || text(401, TEXT_C);
    for (line, expected) in [
        (format!("Authorization:{SDK_KEY}"), known()),
        (format!("AUTHORIZATION: \t {SDK_KEY} \t"), known()),
        (format!("authorization: api_key {SDK_KEY}"), known()),
        (format!("authorization: api_key \t{SDK_KEY}"), known()),
        (format!("authorization: api_key  api_key {SDK_KEY}"), empty(401)),
        (format!("authorization: api_key\t{SDK_KEY}"), unknown()),
        (format!("authorization: api_key{SDK_KEY}"), unknown()),
        (format!("authorization: {SDK_KEY},{SDK_KEY}"), unknown()),
        (format!("authorization: {SDK_KEY}\tx"), unknown()),
        ("authorization: api_key ".to_owned(), unknown()),
        ("authorization:".to_owned(), empty(401)),
        (format!("authorization:\r\nauthorization: {SDK_KEY}"), empty(401)),
        (format!("authorization: {SDK_KEY}\r\nauthorization: x"), known()),
        ("authorization: \u{e9}".to_owned(), unknown()),
        (format!("x-authorization: {SDK_KEY}\r\ncookie: authorization={SDK_KEY}"), empty(401)),
        (format!("proxy-authorization: {SDK_KEY}"), empty(401)),
    ] {
        compares(&gateway, "L022 to L030", &flags(&line), expected).await;
    }
}

#[tokio::test]
async fn one_connection_carries_every_kind_of_answer() {
    let gateway = gateway().await;
    let mut connection = Connection::open(gateway.address).await;
    let context = format!("/sdk/evalx/contexts/{CTX}");
    for (call, status) in [
        (Call::get("/status"), 200),
        (Call::get("//status"), 301),
        (Call::get("/nowhere"), 404),
        (Call::new("DELETE", "/all").body("a body that is not read"), 405),
        (Call::post("/bulk", "[1]"), 401),
        (Call::post("/bulk", "[1]").key("unknown"), 401),
        (Call::post("/bulk", "[1]").key(SDK_KEY), 202),
        (Call::post("/bulk", "").key(SDK_KEY), 400),
        (Call::new("REPORT", "/sdk/evalx/context").body("{}").key(SDK_KEY), 415),
        (Call::report("/sdk/evalx/context", "{}").key(SDK_KEY), 400),
        (Call::get(&context).key(SDK_KEY), 200),
        (Call::get(&context).key(MOBILE_KEY), 401),
        (Call::options(format!("/ping/{ENV_ID}")), 200),
        (Call::options("*"), 200),
        (Call::get("/sdk/flags/plain").key(SDK_KEY).header("If-None-Match", "relay-3"), 304),
        (Call::new("HEAD", "/status"), 405),
        (Call::get("/status"), 200),
    ] {
        assert_eq!(call.on(&mut connection).await.status, status, "{call}");
    }
}

#[tokio::test]
async fn a_body_is_waited_for_only_where_it_is_read() {
    let gateway = gateway().await;
    let head = |line: &str, key: &str, length: usize| {
        format!(
            "{line} HTTP/1.1\r\nHost: a\r\nAuthorization: {key}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let body = r#"{"kind":"user","key":"a"}"#;
    let mut connection = Connection::open(gateway.address).await;
    connection.sends(head("REPORT /sdk/evalx/context", SDK_KEY, body.len())).await;
    assert_eq!(connection.interim().await, 100);
    connection.sends(body).await;
    assert_eq!(connection.answer("REPORT").await.map(|it| it.status), Some(200));
    for (line, key, status) in [
        ("REPORT /sdk/evalx/context", "unknown", 401),
        ("POST /bulk", MOBILE_KEY, 401),
        ("POST /all", SDK_KEY, 405),
        ("POST /nowhere", SDK_KEY, 404),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        connection.sends(head(line, key, 10)).await;
        let answer = connection.answer("POST").await.expect("an answer before the body");
        assert_eq!(answer.status, status, "{line}");
    }
}

#[tokio::test]
async fn chunked_bodies_are_accepted_for_contexts_too() {
    let gateway = gateway().await;
    let head = format!(
        "REPORT /sdk/evalx/context HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let evaluated = || some_json(200);
    for (chunks, expected) in [
        ("6\r\n{\"key\"\r\n5\r\n:\"a\"}\r\n0\r\n\r\n", evaluated()),
        ("b;ext=1\r\n{\"key\":\"a\"}\r\n0\r\nTrailer: x\r\n\r\n", evaluated()),
        ("0\r\n\r\n", message(400, "unexpected end of JSON input")),
    ] {
        compares(&gateway, "L098, L111", &format!("{head}{chunks}"), expected).await;
    }
}
