//! L173, L174: which headers a reverse proxy forwards, and which it removes.

use std::collections::BTreeMap;

use serde_json::json;
use yardarm_testkit::{Call, Recorded};

use crate::expected::{empty, json as json_answer};
use crate::flags::some_data;
use crate::running::{ENV_ID, Running, Setup};

const METHODS: &str = "GET,OPTIONS";

fn path() -> String {
    format!("/sdk/goals/{ENV_ID}")
}

fn last(gateway: &Running) -> Recorded {
    gateway.upstream.requests().into_iter().rfind(|it| it.path.starts_with("/sdk/goals/")).expect("a request")
}

#[tokio::test]
async fn requests_are_forwarded_like_in_gos_proxy() {
    let gateway = Setup::with(some_data()).start().await;
    let call = Call::get(format!("{}?a=%zz;b&c=d%20e+f&c", path()))
        .header("X-Forwarded-For", "1.1.1.1")
        .header("X-Forwarded-For", "2.2.2.2")
        .header("Connection", "keep-alive, X-Hop")
        .header("X-Hop", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "secret")
        .header("TE", "trailers, deflate")
        .header("Trailer", "X-Trailer")
        .header("Origin", "https://a.example")
        .header("Authorization", "passed on")
        .header("Accept", "application/json")
        .header("Accept-Encoding", "gzip")
        .header("User-Agent", "Browser/1")
        .header("X-Custom", "c")
        .header("X-Custom", "d");
    gateway.answers_as("L173", call, json_answer(200, json!([{"goal": 1}])).cors("https://a.example", METHODS)).await;
    let request = last(&gateway);
    assert_eq!(request.path, format!("{}?a=%zz;b&c=d%20e+f&c", path()), "L173");
    let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in &request.headers {
        headers.entry(name.as_str()).or_default().push(value.to_str().unwrap());
    }
    let expected = [
        ("accept", vec!["application/json"]),
        ("accept-encoding", vec!["gzip"]),
        ("authorization", vec!["passed on"]),
        ("host", vec!["127.0.0.1"]),
        ("origin", vec!["https://a.example"]),
        ("te", vec!["trailers"]),
        ("user-agent", vec!["Browser/1"]),
        ("x-custom", vec!["c", "d"]),
        ("x-forwarded-for", vec!["1.1.1.1, 2.2.2.2, 127.0.0.1"]),
    ];
    assert_eq!(headers, expected.into(), "L173, L174");
}

#[tokio::test]
async fn responses_are_forwarded_without_their_cors_headers() {
    let gateway = Setup::with(some_data()).start().await;
    let theirs = [
        ("Access-Control-Allow-Origin", "https://vendor.example"),
        ("access-control-anything", "x"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Cache-Control", "max-age=0"),
        ("Etag", "\"g1\""),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Vary", "Origin"),
        ("X-Other", "o"),
    ];
    for status in [200, 204, 301, 302, 307, 304, 400, 404, 429, 500, 503] {
        let mut headers = theirs.to_vec();
        headers.push(("Location", "/elsewhere"));
        let body = if [204, 304].contains(&status) { "" } else { "the body" };
        gateway.upstream.answers_goals_with(status, &headers, body);
        let expected = empty(status)
            .passed_through()
            .bytes(body.as_bytes())
            .with("cache-control: max-age=0")
            .with("etag: \"g1\"")
            .with("location: /elsewhere")
            .with("set-cookie: a=1")
            .with("set-cookie: b=2")
            .with("vary: Origin")
            .with("x-other: o")
            .cors("*", METHODS);
        gateway.answers_as("L173, L174", Call::get(path()), expected).await;
    }
}

#[tokio::test]
async fn large_responses_are_forwarded_too() {
    let gateway = Setup::with(some_data()).start().await;
    let large = "g".repeat(6 << 20);
    gateway.upstream.answers_goals_with(200, &[], &large);
    gateway.answers_as("L173, L174", Call::get(path()), empty(200).bytes(large.as_bytes()).cors("*", METHODS)).await;
}
