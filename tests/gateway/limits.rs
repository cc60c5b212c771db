//! L017, L074 and the limits of the process: everything is bounded, and a client that exceeds a limit affects no other.

use std::time::Duration;

use yardarm_testkit::{Call, Connection, WAIT_TIMEOUT};

use crate::expected::{empty, message, some_json, text};
use crate::flags::{put, some_data};
use crate::running::{MOBILE_KEY, SDK_KEY, Setup};

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let gateway = Setup::with(some_data()).set("server.max_head", "16KiB").start().await;
    let long = "x".repeat(20_000);
    for request in [
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /status HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /status HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-Many: 1\r\n".repeat(1000)),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        let _ = connection.try_send(&request).await;
        let answer = connection.answer("GET").await.expect("an answer");
        assert_eq!(answer.status, 431, "{}", &request[..60]);
        assert!(connection.closes_within(WAIT_TIMEOUT).await.is_some());
    }
    let fine = Call::get("/status").header("X-Long", &"x".repeat(10_000));
    assert_eq!(gateway.answers(&fine).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_rejected_in_the_format_of_its_route() {
    let gateway = Setup::with(some_data()).events().set("server.max_body", "2KiB").start().await;
    let context = |length: usize| format!(r#"{{"kind":"user","key":"{}"}}"#, "a".repeat(length));
    let evaluate = |length: usize| Call::report("/sdk/evalx/context", context(length)).key(SDK_KEY);
    gateway.answers_as("below", evaluate(1900), some_json(200)).await;
    let too_large = || message(413, "Request body exceeds maximum allowed size.");
    gateway.answers_as("L149", evaluate(3000), too_large()).await;
    gateway.answers_as("L149", evaluate(300_000), too_large()).await;
    let stream = Call::report("/meval", context(3000)).key(MOBILE_KEY);
    gateway.answers_as("L149", stream, too_large().with("x-accel-buffering: no")).await;
    let unreadable = || text(400, r#"{"message":"unable to read request body"}"#);
    for length in [3000, 300_000] {
        let call = Call::post("/bulk", "e".repeat(length)).key(SDK_KEY);
        gateway.answers_as("L193", call, unreadable()).await;
        let call = Call::post("/diagnostic", "e".repeat(length)).key(SDK_KEY);
        gateway.answers_as("L193", call, unreadable()).await;
    }
}

#[tokio::test]
async fn one_stream_too_many_is_rejected_with_retry_after() {
    let gateway = Setup::with(some_data()).set("server.max_streams", 2).start().await;
    let mut first = gateway.opens("/all", SDK_KEY).await;
    let mut second = gateway.opens("/mping", MOBILE_KEY).await;
    first.receives("put", put(some_data())).await;
    second.receives_ping().await;
    for (path, key) in [("/all", SDK_KEY), ("/flags", SDK_KEY), ("/mping", MOBILE_KEY)] {
        let answer = gateway.answers(&Call::get(path).key(key)).await;
        empty(503).compare(path, &answer);
    }
    assert_eq!(gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200, "requests are served");
    drop(first);
    let mut third = gateway.opens_when_ready("/all", SDK_KEY).await;
    third.receives("put", put(some_data())).await;
}

#[tokio::test]
async fn one_connection_too_many_waits() {
    let gateway = Setup::with(some_data()).set("server.max_connections", 2).start().await;
    let mut first = gateway.opens("/all", SDK_KEY).await;
    first.receives("put", put(some_data())).await;
    let mut second = Connection::open(gateway.address).await;
    // A request in progress; an idle connection would be closed to make room.
    second.sends("GET /status HTTP/1.1\r\n").await;
    let mut third = Connection::open(gateway.address).await;
    third.sends(Call::get("/status").bytes()).await;
    let mut answer = std::pin::pin!(third.answer("GET"));
    // While the others are open, nothing is answered; if this wait is too short, the test misses a bug, but does not
    // fail.
    assert!(tokio::time::timeout(Duration::from_millis(700), &mut answer).await.is_err());
    second.sends("Host: a\r\n\r\n").await;
    assert_eq!(second.answer("GET").await.map(|it| it.status), Some(200));
    // Now that it is idle, it is closed in favour of the waiting one.
    assert_eq!(answer.await.map(|it| it.status), Some(200));
    assert_eq!(second.closes_within(WAIT_TIMEOUT).await.as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn unfinished_heads_block_other_connections_for_a_short_time_only() {
    const PLACES: usize = 3;
    let gateway = Setup::with(some_data()).set("server.max_connections", PLACES).start().await;
    let mut unfinished = Vec::new();
    for _ in 0..PLACES {
        let mut connection = Connection::open(gateway.address).await;
        connection.sends("GET /status HTTP/1.1\r\nHo").await;
        unfinished.push(connection);
    }
    let start = tokio::time::Instant::now();
    let mut other = Connection::open(gateway.address).await;
    other.sends(Call::get("/status").bytes()).await;
    assert_eq!(other.answer("GET").await.expect("an answer").status, 200);
    // Without waiting connections, a head may take ten seconds.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_head_limit_is_configurable() {
    let gateway = Setup::with(some_data()).set("server.max_head", "256KiB").start().await;
    let status = async |request: String| {
        let mut connection = Connection::open(gateway.address).await;
        let _ = connection.try_send(&request).await;
        let answer = connection.answer("GET").await.expect("an answer");
        if answer.status != 200 {
            assert!(connection.closes_within(WAIT_TIMEOUT).await.is_some());
        }
        answer.status
    };
    let with_target = |length: usize| format!("GET /status?{} HTTP/1.1\r\nHost: a\r\n\r\n", "q".repeat(length));
    let with_header = |length: usize| format!("GET /status HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length));
    let with_headers =
        |count: usize| format!("GET /status HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(count - 1));
    assert_eq!(status(with_target(65_000)).await, 200);
    // A limit of the HTTP library's types; the documentation of the setting mentions it.
    assert_eq!(status(with_target(66_000)).await, 414);
    assert_eq!(status(with_target(250_000)).await, 414);
    assert_eq!(status(with_target(300_000)).await, 431);
    assert_eq!(status(with_header(250_000)).await, 200);
    assert_eq!(status(with_header(270_000)).await, 431);
    assert_eq!(status(with_headers(129)).await, 200);
    assert_eq!(status(with_headers(1000)).await, 200);
    assert_eq!(status(with_headers(1001)).await, 431);
    drop(gateway);

    let gateway =
        Setup::with(some_data()).set("server.max_headers", 20_000).set("server.max_head", "1MiB").start().await;
    let mut connection = Connection::open(gateway.address).await;
    connection.sends(with_headers(20_000)).await;
    assert_eq!(connection.answer("GET").await.map(|it| it.status), Some(200));
}

#[tokio::test]
async fn a_body_that_never_arrives_times_out() {
    let gateway = Setup::with(some_data()).events().set("server.request_timeout", "300ms").start().await;
    for head in [
        format!("POST /bulk HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nContent-Length: 10\r\n\r\n[1"),
        format!(
            "REPORT /sdk/evalx/context HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n"
        ),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        connection.sends(&head).await;
        let answer = connection.answer("POST").await.expect("an answer");
        // The cause may be transient, so the status must be 503 and not 4xx.
        empty(503).compare("a body that never comes", &answer);
        assert!(connection.closes_within(WAIT_TIMEOUT).await.is_some(), "what comes late is not taken for a request");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_while_a_stream_stays() {
    let gateway = Setup::with(some_data()).start().await;
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives("put", put(some_data())).await;
    let started = tokio::time::Instant::now();
    let half = async {
        let mut connection = Connection::open(gateway.address).await;
        connection.sends("GET /all HTTP/1.1\r\nHost: a\r\nAuthor").await;
        let rest = connection.closes_within(WAIT_TIMEOUT).await;
        (rest, started.elapsed())
    };
    let second_request = async {
        let mut connection = Connection::open(gateway.address).await;
        assert_eq!(Call::get("/status").on(&mut connection).await.status, 200);
        connection.sends("G").await;
        let rest = connection.closes_within(WAIT_TIMEOUT).await;
        (rest, started.elapsed())
    };
    let trickle = async {
        let mut connection = Connection::open(gateway.address).await;
        let mut bytes = Call::get("/status").header("X-Slow", &"y".repeat(100)).bytes().into_iter();
        // Sending single bytes does not extend the deadline.
        while let Some(byte) = bytes.next()
            && connection.try_send([byte]).await.is_ok()
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(bytes.len() > 0, "it was cut off before it had sent everything");
        started.elapsed()
    };
    let ((first, first_took), (second, second_took), trickle_took) = tokio::join!(half, second_request, trickle);
    assert_eq!(first.as_deref(), Some(&b""[..]), "L017: without an answer");
    assert_eq!(second.as_deref(), Some(&b""[..]), "L017: without an answer");
    for took in [first_took, second_took, trickle_took] {
        assert!(took >= Duration::from_millis(9500), "L017: {took:?}");
    }
    // L074: the stream has been silent for as long and is still open.
    gateway.upstream.patches(SDK_KEY, &crate::flags::flag("plain", 4));
    stream.receives_event("patch").await;
}
