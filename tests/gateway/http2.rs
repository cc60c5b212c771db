//! Many requests on one HTTP/2 connection: an error or a delay affects only its own request.

use futures_util::StreamExt;
use reqwest::{Client, Response, Version};
use serde_json::{Value, json};
use yardarm_testkit::within;

use super::tls::{Secured, receives};
use crate::flags::{data, flag, flag_with};
use crate::running::{Running, SDK_KEY};

/// Returns the status that operators see.
async fn status(gateway: &Running) -> Value {
    gateway.operator_gets("/api/status").await.json()
}

async fn get(secured: &Secured, client: &Client, path: &str) -> reqwest::Result<Response> {
    client.get(secured.url(path)).header("authorization", SDK_KEY).send().await
}

#[tokio::test]
async fn a_stuck_response_is_aborted_without_affecting_others_on_the_connection() {
    let filler = "f".repeat(4 << 20);
    let large = data([flag_with("large", 1, json!({"filler": filler}))], []);
    let secured = Secured::start(|it| it.data(SDK_KEY, large).set("server.write_timeout", "1s")).await;
    let client = secured.client(|it| it.http2_initial_stream_window_size(65_535));
    // Neither is read, so the window of each is soon full.
    let stuck = get(&secured, &client, "/sdk/flags").await.expect("a head");
    let stuck_stream = get(&secured, &client, "/all").await.expect("a head");
    assert_eq!((stuck.version(), stuck_stream.version()), (Version::HTTP_2, Version::HTTP_2));
    within("both to be given up", async {
        loop {
            let status = status(&secured.gateway).await;
            let closed = status["connections"]["closed"].as_array().expect("a list").clone();
            let ended = status["streams"][0]["ended"].as_array().cloned().unwrap_or_default();
            if closed.contains(&json!(["write-timeout", 2])) && ended.contains(&json!(["unresponsive", 1])) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(get(&secured, &client, "/status").await.expect("an answer").status(), 200);
    assert_eq!(status(&secured.gateway).await["connections"]["open"], 1, "on the same connection");
    assert!(stuck.bytes().await.is_err(), "incomplete, and the client knows");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_and_affects_no_other_request() {
    let secured = Secured::start(|it| it.set("server.max_head", "32KiB").set("server.max_headers", 200)).await;
    let client = secured.client(|it| it);
    let stream = get(&secured, &client, "/all").await.expect("a stream");
    assert_eq!(stream.version(), Version::HTTP_2);
    let (mut stream, mut received) = (Box::pin(stream.bytes_stream()), String::new());
    receives(&mut stream, &mut received, "event: put\n").await;

    let long = |length: usize| "x".repeat(length);
    let with_headers = |count: usize| {
        let request = client.get(secured.url("/status"));
        (0..count).fold(request, |request, number| request.header(format!("x-many-{}", number % 50), "1"))
    };
    for (what, request, expected) in [
        ("a long header", client.get(secured.url("/status")).header("x-long", long(40_000)), 431),
        // Longer than the frames that contain it.
        ("a longer header", client.get(secured.url("/status")).header("x-long", long(70_000)), 431),
        ("a long path", client.get(secured.url(&format!("/status?{}", long(40_000)))), 431),
        ("many long headers", (0..5).fold(with_headers(1), |it, _| it.header("x-long", long(9_000))), 431),
        ("many headers", with_headers(220), 431),
        ("a header that fits", client.get(secured.url("/status")).header("x-long", long(25_000)), 200),
        ("headers that fit", with_headers(150), 200),
    ] {
        let answer = within(what, request.send()).await.expect(what);
        assert_eq!((answer.status().as_u16(), answer.version()), (expected, Version::HTTP_2), "{what}");
        // The next request is served on the same connection.
        let next = get(&secured, &client, "/sdk/flags").await.expect(what);
        assert_eq!(next.status(), 200, "{what}");
        assert_eq!(status(&secured.gateway).await["connections"]["open"], 1, "{what}");
    }
    secured.gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    receives(&mut stream, &mut received, "event: patch\n").await;
}

#[tokio::test]
#[cfg(debug_assertions)]
async fn a_panic_ends_one_request_or_one_stream_of_a_connection() {
    let secured = Secured::start(|it| it).await;
    let client = secured.client(|it| it);
    let faults = secured.gateway.supervisor.faults().clone();
    let stream = get(&secured, &client, "/all").await.expect("a stream");
    let (mut stream, mut received) = (Box::pin(stream.bytes_stream()), String::new());
    receives(&mut stream, &mut received, "event: put\n").await;

    // A panic in a handler is answered, as over HTTP/1.
    faults.arm("request");
    let answer = get(&secured, &client, "/sdk/flags").await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.version()), (503, Version::HTTP_2));
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(get(&secured, &client, "/sdk/flags").await.expect("an answer").status(), 200);
    secured.gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    receives(&mut stream, &mut received, "\"version\":4").await;

    // A panic in the task that writes a response cannot be answered, and the client receives a broken stream.
    let before = secured.gateway.panics().await.get("http/2 request").copied().unwrap_or(0);
    faults.arm("http/2 request");
    within("the end of the stream", async { while stream.next().await.is_some_and(|it| it.is_ok()) {} }).await;
    secured.gateway.counts_a_panic("http/2 request", before).await;
    assert!(faults.are_over());
    assert_eq!(get(&secured, &client, "/sdk/flags").await.expect("an answer").status(), 200);
    let report = status(&secured.gateway).await;
    assert_eq!(report["connections"]["open"], 1, "on the same connection");
    assert_eq!(report["streams"][0]["open"], 0, "the place of the stream is free again: {}", report["streams"]);
}
