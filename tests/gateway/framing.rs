//! Framing of requests: no part of a body is interpreted as a request, and no request is swallowed.

use std::time::Duration;

use yardarm_testkit::{Call, Connection, SseClient, StreamItem, WAIT_TIMEOUT};

use crate::flags::some_data;
use crate::running::{MOBILE_KEY, Running, SDK_KEY, Setup};

/// A request that is sent as a body.
const SMUGGLED: &str = "GET /status HTTP/1.1\r\nHost: smuggled\r\n\r\n";

/// Starts a gateway whose streams live for half a second.
async fn gateway() -> Running {
    Setup::with(some_data()).set("launchdarkly.max_client_connection_time", "500ms").start().await
}

/// Sends pieces with pauses between them; returns everything received until the connection ends.
async fn exchange(gateway: &Running, pieces: &[(u64, &str)]) -> String {
    let mut connection = Connection::open(gateway.address).await;
    for (pause, piece) in pieces {
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        let _ = connection.try_send(piece).await;
    }
    let bytes = connection.closes_within(WAIT_TIMEOUT).await.expect("the connection is closed");
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Returns the status codes of the responses.
fn statuses(text: &str) -> Vec<&str> {
    let heads = text.split("HTTP/1.").skip(1);
    heads.filter_map(|it| it.split(' ').nth(1)).collect()
}

fn head(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\n{headers}\r\n")
}

#[tokio::test]
async fn the_body_of_a_stream_request_is_never_parsed_as_a_request() {
    let gateway = gateway().await;
    let length = format!("Content-Length: {}\r\n", SMUGGLED.len());
    let chunk = format!("{:x}\r\n{SMUGGLED}\r\n0\r\nX-Trailer: 1\r\n\r\n", SMUGGLED.len());
    let large = "x".repeat(300_000);
    let large_length = format!("Content-Length: {}\r\n", large.len() + SMUGGLED.len());
    for path in ["/all", "/flags", "/mping"] {
        let key = if path == "/mping" { MOBILE_KEY } else { SDK_KEY };
        let request = |headers: &str| head("GET", path, headers).replace(SDK_KEY, key);
        let whole = request(&length) + SMUGGLED;
        let (with_length, with_coding) = (request(&length), request("Transfer-Encoding: chunked\r\n"));
        let whole_chunked = request("Transfer-Encoding: chunked\r\n") + &chunk;
        let continues = request(&format!("Expect: 100-continue\r\n{length}"));
        let large_head = request(&large_length);
        for (name, pieces) in [
            ("with the head", vec![(0, whole.as_str())]),
            ("while the stream is open", vec![(0, with_length.as_str()), (100, SMUGGLED)]),
            ("when the stream has ended", vec![(0, &with_length), (900, SMUGGLED)]),
            ("in two parts", vec![(0, &with_length), (100, &SMUGGLED[..4]), (800, &SMUGGLED[4..])]),
            ("chunked, with the head", vec![(0, &whole_chunked)]),
            ("chunked, while it is open", vec![(0, &with_coding), (100, &chunk)]),
            ("chunked, when it has ended", vec![(0, &with_coding), (900, &chunk)]),
            ("after waiting for 100", vec![(0, &continues), (900, SMUGGLED)]),
            ("large", vec![(0, &large_head), (50, &large), (50, SMUGGLED)]),
            ("large, the end late", vec![(0, &large_head), (50, &large), (900, SMUGGLED)]),
        ] {
            let text = exchange(&gateway, &pieces).await;
            assert_eq!(statuses(&text), ["200"], "{path}, {name}: {text}");
            assert!(text.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{path}, {name}: {text}");
            assert!(text.ends_with("0\r\n\r\n"), "{path}, {name}: the stream has its end: {text}");
        }
    }
}

#[tokio::test]
async fn old_and_odd_requests_for_streams_keep_their_bodies_too() {
    let gateway = gateway().await;
    let length = format!("Content-Length: {}\r\n", SMUGGLED.len());
    for (name, request) in [
        ("HTTP/1.0", head("GET", "/all", &length).replace("HTTP/1.1", "HTTP/1.0")),
        ("HEAD", head("HEAD", "/all", &length)),
        ("OPTIONS", head("OPTIONS", "/all", &length)),
        ("an unknown key", head("GET", "/all", &length).replace(SDK_KEY, "sdk-unknown")),
        ("an unknown path", head("GET", "/nothing", &length)),
    ] {
        let close = "GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for pieces in [vec![(0, request.as_str()), (100, SMUGGLED)], vec![(0, &request), (900, SMUGGLED)]] {
            let mut pieces = pieces;
            pieces.push((100, close));
            let text = exchange(&gateway, &pieces).await;
            let count = statuses(&text).len();
            assert!(count <= 2, "{name}: {text}");
            if count == 2 {
                // The body was read and the connection continued with the next request.
                assert!(text.to_ascii_lowercase().contains("connection: close"), "{name}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_request_whose_body_was_read_leaves_the_connection_usable() {
    let gateway = gateway().await;
    let call = Call::report("/meval", r#"{"kind":"user","key":"ada"}"#).key(MOBILE_KEY);
    let mut stream = SseClient::open(gateway.address, &call).await;
    assert_eq!(stream.head().status, 200);
    while stream.next().await != StreamItem::End {}
    let mut connection = stream.into_connection();
    assert_eq!(Call::get("/status").on(&mut connection).await.status, 200);

    // With a transfer coding the connection is closed, because only the library knows for sure where such a body ends.
    let body = "1b\r\n{\"kind\":\"user\",\"key\":\"ada\"}\r\n0\r\n\r\n";
    let chunked = format!(
        "REPORT /meval HTTP/1.1\r\nHost: a\r\nAuthorization: {MOBILE_KEY}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"
    );
    let text = exchange(&gateway, &[(0, &chunked)]).await;
    assert_eq!(statuses(&text), ["200"], "{text}");
    assert!(text.contains("ping"), "{text}");
}

#[tokio::test]
async fn a_request_behind_a_stream_is_answered_after_it() {
    let gateway = gateway().await;
    let stream = head("GET", "/all", "");
    let last = "GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let next = "GET /sdk/flags/plain HTTP/1.1\r\nHost: a\r\nAuthorization: SDK\r\n\r\n".replace("SDK", SDK_KEY);
    let both = format!("{stream}{next}{last}");
    let cut = format!("{stream}{}", &next[..20]);
    let rest = format!("{}{last}", &next[20..]);
    for (name, pieces) in [
        ("with it", vec![(0, both.as_str())]),
        ("while it is open", vec![(0, &stream), (100, &next), (100, last)]),
        ("partly with it", vec![(0, &cut), (100, &rest)]),
        ("partly after it", vec![(0, &cut), (900, &rest)]),
        ("after it", vec![(0, &stream), (900, &next), (10, last)]),
    ] {
        let text = exchange(&gateway, &pieces).await;
        assert_eq!(statuses(&text), ["200", "200", "200"], "{name}: {text}");
        let (stream_end, flag) = (text.find("0\r\n\r\n").expect("an end"), text.rfind(r#""key":"plain""#));
        assert!(flag.is_some_and(|it| it > stream_end), "{name}: in order: {text}");
    }
}

#[tokio::test]
async fn a_body_with_an_unclear_end_is_refused() {
    let gateway = Setup::with(some_data()).events().start().await;
    let body = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for headers in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 6\r\n",
    ] {
        for request in [head("POST", "/bulk", headers), head("GET", "/all", headers)] {
            let text = exchange(&gateway, &[(0, &(request.clone() + &body))]).await;
            assert_eq!(statuses(&text), ["400"], "{request}: {text}");
            // However the head is split.
            let (first, second) = request.split_at(request.len() - 9);
            let text = exchange(&gateway, &[(0, first), (20, second), (20, &body)]).await;
            assert_eq!(statuses(&text), ["400"], "{request} in two pieces: {text}");
        }
    }
    let old = head("POST", "/bulk", "Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0") + &body;
    assert_eq!(statuses(&exchange(&gateway, &[(0, &old)]).await), ["400"]);
    let plain = head("POST", "/bulk", "Transfer-Encoding: Chunked\r\nConnection: close\r\n") + "2\r\n[]\r\n0\r\n\r\n";
    assert_eq!(statuses(&exchange(&gateway, &[(0, &plain)]).await), ["202"]);
}
