//! L001 to L021: which paths and methods exist, and how the listener handles malformed requests.

use yardarm_testkit::{Call, Connection, StreamAnswer};

use crate::expected::{TEXT_E, empty, page_not_found, some_json, text};
use crate::flags::{data, flag, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

#[tokio::test]
async fn paths_and_methods_are_matched_exactly() {
    let gateway = Setup::with(some_data()).start().await;
    let get = |path: &str| Call::get(path).key(SDK_KEY);
    let nowhere = page_not_found();
    let no_such_method = empty(405);
    let user = |path: &str| format!("{path}/users/{CTX}");
    for (row, call, expected) in [
        ("L001", Call::get("/nonesuch"), &nowhere),
        ("L002", Call::get("/"), &nowhere),
        ("L003", get("/all/"), &nowhere),
        ("L003", get("/status/"), &nowhere),
        ("L003", get("/sdk/flags/"), &nowhere),
        ("L004", Call::post("/mobile/", "[]").key(MOBILE_KEY), &nowhere),
        ("L005", Call::post("/all", "").key(SDK_KEY), &no_such_method),
        ("L006", Call::get("/bulk"), &no_such_method),
        ("L007", Call::new("HEAD", "/status"), &no_such_method),
        ("L008", Call::new("HEAD", "/all").key(SDK_KEY), &no_such_method),
        ("L009", Call::options("/all"), &no_such_method),
        ("L009", Call::options("/mping"), &no_such_method),
        ("L009", Call::options("/bulk"), &no_such_method),
        ("L009", Call::options("/status"), &no_such_method),
        ("L012", get("/sdk/flags/a%2Fb"), &nowhere),
        ("L012", get("/sdk/flags/a%2fb"), &nowhere),
        ("L014", get("/ALL"), &nowhere),
        ("L019", get(&user("/sdk/eval")), &nowhere),
        ("L019", Call::get(user("/msdk/eval")).key(MOBILE_KEY), &nowhere),
        ("L019", Call::get(user(&format!("/sdk/eval/{ENV_ID}"))), &nowhere),
        ("L020", Call::get("/metrics"), &nowhere),
        ("L020", Call::get("/health"), &nowhere),
        ("L020", Call::get("/healthz"), &nowhere),
        // The internal route for REPORT must not be reachable from outside.
        (
            "no PUT",
            Call::new("PUT", "/meval").key(MOBILE_KEY).header("Content-Type", "application/json").body("{}"),
            &no_such_method,
        ),
        ("any method", Call::new("BREW", "/nonesuch"), &nowhere),
        ("any method", Call::new("BREW", "/all").key(SDK_KEY), &no_such_method),
        ("a plain slash in a variable", get("/sdk/flags/a/b"), &nowhere),
        (
            "L001",
            Call::get(format!("/sdk/evalx/user/contexts/{CTX}")),
            &text(404, crate::expected::TEXT_D).cors_methods("GET,OPTIONS"),
        ),
    ] {
        gateway.answers_as(row, call, expected.clone()).await;
    }
}

#[tokio::test]
async fn without_fdv2_its_paths_do_not_exist() {
    let gateway = Setup::with(some_data()).set("launchdarkly.fdv2", false).start().await;
    for path in ["/sdk/poll", "/sdk/stream", "/sdk/poll/eval", "/sdk/stream/eval"] {
        gateway.answers_as("L266", Call::get(path).key(SDK_KEY), page_not_found()).await;
    }
    for path in ["/sdk/poll/eval", "/sdk/stream/eval"] {
        let call = Call::get(format!("{path}/{CTX}?auth={ENV_ID}"));
        gateway.answers_as("L266", call, page_not_found()).await;
        gateway.answers_as("L266", Call::options(path), page_not_found()).await;
    }
}

#[tokio::test]
async fn unclean_paths_are_redirected_before_anything_else() {
    let gateway = Setup::with(some_data()).start().await;
    let moved = |location: &str| empty(301).with(&format!("location: {location}"));
    for (row, call, location) in [
        ("L010", Call::get("//all").key(SDK_KEY), "/all"),
        ("L011", Call::get("/x/../status?a=1"), "/status?a=1"),
        ("L001", Call::post("/./bulk", "[]"), "/bulk"),
        ("L001", Call::new("DELETE", "/a//b/"), "/a/b/"),
    ] {
        gateway.answers_as(row, call, moved(location)).await;
    }
}

#[tokio::test]
async fn a_key_with_a_blank_is_a_key() {
    // L013
    let gateway = Setup::with(data([flag("a b", 1), flag("a+b", 2)], [])).start().await;
    for (path, key, version) in
        [("/sdk/flags/a%20b", "a b", 1), ("/sdk/flags/a+b", "a+b", 2), ("/sdk/flags/a%2Bb", "a+b", 2)]
    {
        let answer = gateway.answers(&Call::get(path).key(SDK_KEY)).await;
        assert_eq!((answer.status, answer.json()), (200, flag(key, version)), "{path}");
    }
}

#[tokio::test]
async fn malformed_requests_are_rejected_and_the_connection_closed() {
    let gateway = Setup::with(some_data()).start().await;
    for (row, request, status, body) in [
        ("L015", "GET /x/%%% HTTP/1.1\r\nHost: a\r\n\r\n", 400, "400 Bad Request"),
        ("L016", "GET /status HTTP/1.1\r\n\r\n", 400, "400 Bad Request: missing required Host header"),
        ("L015: no request", "nonsense\r\n\r\n", 400, ""),
        ("L015: no request", "GET / HTTP/9.9\r\nHost: a\r\n\r\n", 400, ""),
        ("L015: no request", "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\r\n\r\n", 400, ""),
        ("L015: no request", "POST /bulk HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, ""),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        connection.sends(request).await;
        let answer = connection.answer("GET").await.unwrap_or_else(|| panic!("{row}: an answer to {request:?}"));
        assert_eq!((answer.status, answer.text()), (status, body), "{row}: {request:?}");
        if !body.is_empty() {
            let headers = answer.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
            assert_eq!(headers, ["connection: close", crate::expected::TEXT], "{row}");
        }
        let rest = connection.closes_within(yardarm_testkit::WAIT_TIMEOUT).await;
        assert_eq!(rest.as_deref(), Some(&b""[..]), "{row}: closed, and nothing after the answer");
    }
}

#[tokio::test]
async fn every_response_has_a_date_and_no_server_header() {
    // L018. Every response of every test is checked for a `Date` in GMT.
    let gateway = Setup::with(some_data()).start().await;
    for call in [Call::get("/status"), Call::get("/nonesuch"), Call::get("/sdk/flags").key(SDK_KEY), Call::get("/all")]
    {
        assert_eq!(gateway.answers(&call).await.header("server"), None, "{call}");
    }
    let stream = gateway.opens("/all", SDK_KEY).await;
    assert_eq!(stream.client().head().header("server"), None);
    assert!(stream.client().head().header("date").is_some_and(|it| it.ends_with(" GMT")));
}

#[tokio::test]
async fn the_listener_does_not_wait_for_upstream() {
    // L021
    let silent = |cloud: &yardarm_testkit::FakeLaunchDarkly| cloud.answers_streams_with([StreamAnswer::Silence]);
    let gateway = Setup::with(some_data()).prepare(silent).without_waiting().start().await;
    gateway.answers_as("L021", Call::get("/all").key(SDK_KEY), text(503, TEXT_E)).await;
    gateway.answers_as("L021", Call::get("/status"), some_json(200)).await;
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let gateway = Setup::with(some_data()).start().await;
    let mut connection = Connection::open(gateway.address).await;
    for _ in 0..3 {
        assert_eq!(Call::get("/status").on(&mut connection).await.status, 200);
        assert_eq!(Call::get("/nonesuch").on(&mut connection).await.status, 404);
        assert_eq!(Call::post("/all", "some body").on(&mut connection).await.status, 405);
    }
}
