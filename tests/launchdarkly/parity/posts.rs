//! L191 to L215: every post, with every body and coding, where events are enabled, disabled and accepted without being
//! read.

use serde_json::{Value, json};
use yardarm_testkit::{Call, Connection, gzip};

use super::super::offline;
use super::{Family, ROUTES, Route};
use crate::expected::{Expected, empty, text};
use crate::flags::some_data;
use crate::running::{ENV_ID, Running, SDK_KEY, Setup};

const LIMIT: usize = 20;

/// A body to post.
struct Body {
    label: &'static str,
    bytes: Vec<u8>,
    coding: Option<&'static str>,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Taken,
    Empty,
    Unreadable,
    /// With the message of Go's decompressor.
    NotGzip(&'static str),
}

fn bodies() -> Vec<Body> {
    use Outcome::{NotGzip, Taken, Unreadable};
    let exactly = br#"[{"kind":"exactly"}]"#;
    assert_eq!(exactly.len(), LIMIT);
    let packed = gzip(exactly);
    assert!(packed.len() > LIMIT, "compressed, it is larger than the limit, which counts what comes out");
    let too_much = br#"[{"kind":"too much"}]"#;
    let damaged = |at: usize| {
        let mut bytes = packed.clone();
        bytes[at] ^= 0xff;
        bytes
    };
    let with = |more: &[u8]| [&packed[..], more].concat();
    let body = |label, bytes: &[u8], coding, outcome| Body { label, bytes: bytes.to_owned(), coding, outcome };
    let gz = Some("gzip");
    vec![
        body("L177", exactly, None, Taken),
        body("L177", exactly, Some("identity"), Taken),
        body("L177", exactly, Some("GZIP"), Taken),
        body("L177", exactly, Some(""), Taken),
        body("L177: taken as they are", &[0xff, 0xfe], Some("br"), Taken),
        body("L177: not read", b"not JSON", None, Taken),
        body("L177: not read", b" ", None, Taken),
        body("L177: not read", b"null", None, Taken),
        body("L193", too_much, None, Unreadable),
        body("L193", &[b'x'; 200_000], None, Unreadable),
        body("L192", b"", None, Outcome::Empty),
        body("L177", &packed, gz, Taken),
        body("L177", &packed, Some("x-gzip"), Taken),
        body("L177", &packed, Some("deflate, gzip"), Taken),
        body("L177: only the first is looked at", &packed, Some("gzip;q=1"), Taken),
        body("L177: two members", &[gzip(b"[1"), gzip(b"]")].concat(), gz, Taken),
        body("L192", &gzip(b""), gz, Outcome::Empty),
        body("L193", &gzip(too_much), gz, Unreadable),
        body("L193: a bomb", &gzip(&vec![b' '; 1 << 20]), gz, Unreadable),
        body("L193: broken off", &packed[..packed.len() - 1], gz, Unreadable),
        body("L193: broken off", &packed[..10], gz, Unreadable),
        body("L193: another checksum", &damaged(packed.len() - 8), gz, Unreadable),
        body("L193: another length", &damaged(packed.len() - 1), gz, Unreadable),
        body("L193: more behind it", &with(b"more"), gz, Unreadable),
        body("L194", b"", gz, NotGzip("EOF\n")),
        body("L194", &packed[..9], gz, NotGzip("unexpected EOF\n")),
        body("L194", b"[]", gz, NotGzip("unexpected EOF\n")),
        body("L194", exactly, gz, NotGzip("gzip: invalid header\n")),
        body("L194", &damaged(0), gz, NotGzip("gzip: invalid header\n")),
        body("L194", &damaged(2), gz, NotGzip("gzip: invalid header\n")),
        body("L194: before L193", &vec![b'x'; 200_000], gz, NotGzip("gzip: invalid header\n")),
    ]
}

fn posts() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.family == Family::Post)
}

fn call(route: &Route, body: &Body) -> Call {
    let call = Call::post(route.path(ENV_ID), &body.bytes[..]).header("X-LaunchDarkly-Event-Schema", "4");
    let call = body.coding.into_iter().fold(call, |call, coding| call.header("Content-Encoding", coding));
    match route.credential() {
        Some(key) => call.key(key),
        None => call,
    }
}

fn not_gzip(problem: &str) -> Expected {
    text(400, problem).nosniff()
}

fn disabled() -> Expected {
    text(503, r#"{"message":"Event proxy is not enabled for this environment"}"#)
}

/// Posts every body to every route.
async fn posts_everything(gateway: &Running, answer: impl Fn(Outcome) -> Expected) {
    for route in posts() {
        for body in bodies() {
            let label = format!("L191 to L196, {}, {} bytes, {:?}", body.label, body.bytes.len(), body.coding);
            gateway.answers_as(&label, call(route, &body), route.found(answer(body.outcome))).await;
        }
    }
}

#[tokio::test]
async fn when_events_are_on() {
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_max_payload", LIMIT);
    let gateway = setup.start().await;
    posts_everything(&gateway, |outcome| match outcome {
        Outcome::Taken => empty(202),
        Outcome::Empty => text(400, r#"{"message":"body may not be empty"}"#),
        Outcome::Unreadable => text(400, r#"{"message":"unable to read request body"}"#),
        Outcome::NotGzip(problem) => not_gzip(problem),
    })
    .await;
    // Accepted arrays of events have been forwarded with their content.
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let is_event = |it: &&Value| **it == json!({"kind": "exactly"});
    let analytics = upstream.requests().into_iter().filter(|it| it.method == "POST" && !it.path.contains("diagnostic"));
    let events: Vec<Value> = analytics.flat_map(|it| it.json().as_array().cloned().unwrap_or_default()).collect();
    let routes = posts().filter(|it| !it.path(ENV_ID).contains("diagnostic")).count();
    // Four plain, four compressed for each route, and one array in two members with a number in it.
    assert_eq!(events.iter().filter(is_event).count(), routes * 8);
    assert_eq!(events.len(), routes * 9, "and nothing of what was refused");
}

#[tokio::test]
async fn when_events_are_off() {
    let gateway = Setup::with(some_data()).set("launchdarkly.events_max_payload", LIMIT).start().await;
    posts_everything(&gateway, |outcome| match outcome {
        Outcome::NotGzip(problem) => not_gzip(problem),
        _ => disabled(),
    })
    .await;
}

#[tokio::test]
async fn when_offline() {
    // L260: accepted without reading beyond the head of a compressed body.
    let (_folder, setup) = offline::archived(some_data());
    let gateway = setup.events().set("launchdarkly.events_max_payload", LIMIT).start().await;
    posts_everything(&gateway, |outcome| match outcome {
        Outcome::NotGzip(problem) => not_gzip(problem),
        _ => empty(202),
    })
    .await;
}

#[tokio::test]
async fn chunked_bodies_have_the_same_results() {
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_max_payload", LIMIT);
    let gateway = setup.start().await;
    for (chunks, expected) in [
        ("8\r\n[{\"kind\"\r\nc\r\n:\"exactly\"}]\r\n0\r\n\r\n", empty(202)),
        (
            "8\r\n[{\"kind\"\r\nd\r\n:\"too much\"}]\r\n0\r\n\r\n",
            text(400, r#"{"message":"unable to read request body"}"#),
        ),
        ("0\r\n\r\n", text(400, r#"{"message":"body may not be empty"}"#)),
    ] {
        let head =
            format!("POST /bulk HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut connection = Connection::open(gateway.address).await;
        connection.sends(format!("{head}{chunks}")).await;
        expected.compare("L193: in chunks", &connection.answer("POST").await.expect("an answer"));
    }
}

/// Headers of a post; schema and tags under which its events are forwarded.
type Head<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a str>);

#[tokio::test]
async fn headers_decide_how_events_are_forwarded() {
    // L197, L199, L207: an unknown kind is not summarized, so it shows both formats.
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h");
    let gateway = setup.start().await;
    let rows: [Head; 18] = [
        (&[], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "1")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "2")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "0")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "-3")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "three")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "3.0")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "3")], "3", None),
        (&[("X-LaunchDarkly-Event-Schema", " 3\t")], "3", None),
        (&[("X-LaunchDarkly-Event-Schema", "+3")], "3", None),
        (&[("X-LaunchDarkly-Event-Schema", "03")], "3", None),
        (&[("X-LaunchDarkly-Event-Schema", "99")], "99", None),
        (&[("X-LaunchDarkly-Event-Schema", "3"), ("X-LaunchDarkly-Unsummarized", "")], "4", None),
        (&[("X-LaunchDarkly-Event-Schema", "3"), ("X-LaunchDarkly-Event-Schema", "4")], "3", None),
        (&[("X-LaunchDarkly-Event-Schema", "3"), ("X-LaunchDarkly-Tags", "a")], "3", Some("a")),
        (&[("X-LaunchDarkly-Event-Schema", "3"), ("X-LaunchDarkly-Tags", "")], "3", None),
        (&[("X-LaunchDarkly-Tags", "b"), ("X-LaunchDarkly-Tags", "a")], "4", Some("b")),
    ];
    for (index, (headers, ..)) in rows.iter().enumerate() {
        let body = json!([{"kind": "other", "row": index}]).to_string();
        let call = headers
            .iter()
            .fold(Call::post("/bulk?q", body).key(SDK_KEY), |call, (name, value)| call.header(name, value));
        gateway.answers_as("L197, L199", call, empty(202)).await;
    }
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let mut seen = 0;
    for post in upstream.posts("/bulk") {
        for event in post.json().as_array().unwrap() {
            let (headers, schema, tags) = rows[usize::try_from(event["row"].as_u64().unwrap()).unwrap()];
            assert_eq!(post.header("x-launchdarkly-event-schema"), Some(schema), "{headers:?}");
            assert_eq!(post.header("x-launchdarkly-tags"), tags, "{headers:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, rows.len());
}

#[tokio::test]
async fn pixels_carry_padded_standard_base64() {
    // L213: `W3siZCI6Mn1d` is `[{"d":2}]`, `WzFd` is `[1]`, `WzEgXQ==` is `[1 ]`.
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h");
    let gateway = setup.start().await;
    for (query, is_read) in [
        ("?d=W3siZCI6Mn1d", true),
        ("?d=WzEgXQ==", true),
        ("?d=WzEgXQ%3D%3D&d=!", true),
        ("?d=WzEgXR==", true), // Left-over bits.
        ("?d=Wz%0AFd%0D", true),
        ("?x=1&d=WzFd", true),
        ("?d=WzEgXQ", false),
        ("?d=WzEgXQ=", false),
        ("?d=%20WzFd", false),
        ("?d=WyI-Il0=", false),
        ("?d=!&d=WzFd", false),
        ("?d=", false),
        ("?D=WzFd", false),
        ("", false),
    ] {
        let before = received(&gateway).await;
        let answer = gateway.answers(&Call::get(format!("/a/{ENV_ID}.gif{query}"))).await;
        assert_eq!((answer.status, answer.body.len()), (200, 42), "L213: {query}");
        // Events are counted after the response; a later post shows when that has happened.
        let after = Call::post(format!("/events/bulk/{ENV_ID}"), "[7]").header("X-LaunchDarkly-Event-Schema", "3");
        assert_eq!(gateway.answers(&after).await.status, 202);
        let expected = before + 1 + u64::from(is_read);
        yardarm_testkit::within("the events to be counted", async {
            while received(&gateway).await < expected {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
        assert_eq!(received(&gateway).await, expected, "L213: {query}");
    }
}

async fn received(gateway: &Running) -> u64 {
    let report = gateway.operator_gets("/api/environments").await.json();
    report["environments"][0]["events"]["received"].as_u64().expect("a number")
}
