//! L177 to L196, U160 to U168: forwarding of events.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, Recorded, gzip, within};

use crate::expected::{TEXT_C, empty, text};
use crate::flags::some_data;
use crate::running::{ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

pub(super) fn with_schema(call: Call, schema: &str) -> Call {
    call.header("Content-Type", "application/json").header("X-LaunchDarkly-Event-Schema", schema)
}

pub(super) fn bulk(events: &Value) -> Call {
    with_schema(Call::post("/bulk", events.to_string()).key(SDK_KEY), "4")
}

pub(super) async fn posts(gateway: &Running, path: &str, count: usize) -> Vec<Recorded> {
    gateway.eventually(&format!("{count} posts to {path}"), || gateway.upstream.posts(path).len() >= count).await;
    let posts = gateway.upstream.posts(path);
    assert_eq!(posts.len(), count, "posts to {path}: {posts:?}");
    posts
}

/// Returns the events of all posts to a path, in order.
pub(super) fn events(upstream: &yardarm_testkit::FakeLaunchDarkly, path: &str) -> Vec<Value> {
    upstream.posts(path).iter().flat_map(|it| it.json().as_array().expect("an array").clone()).collect()
}

#[tokio::test]
async fn events_are_accepted_and_forwarded_with_own_headers() {
    let gateway = Setup::with(some_data()).events().start().await;
    let call = bulk(&json!([{"kind": "x", "z": 1.0}]))
        .header("X-LaunchDarkly-Payload-ID", "11111111-1111-4111-8111-111111111111")
        .header("X-LaunchDarkly-Tags", "application-id/x")
        .header("X-LaunchDarkly-Wrapper", "w")
        .header("X-LaunchDarkly-User-Agent", "NodeJSClient/1")
        .header("User-Agent", "NodeJSClient/9.7.0")
        .header("Origin", "https://a.example")
        .header("X-Custom", "c");
    gateway.answers_as("L177", call, empty(202)).await; // With a `Date`, as every answer.
    let post = &posts(&gateway, "/bulk", 1).await[0];
    assert_eq!(post.body(), r#"[{"kind":"x","z":1.0}]"#, "L178");
    let id = post.header("x-launchdarkly-payload-id").unwrap().to_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok() && !id.starts_with("11111111"), "L181: {id}");
    let mut headers: Vec<_> =
        post.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    headers.retain(|(name, _)| !["host", "content-length"].contains(name));
    headers.sort_unstable();
    let version = concat!("Yardarm/", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("accept", "*/*"),
        ("authorization", SDK_KEY),   // L178
        ("content-encoding", "gzip"), // L181
        ("content-type", "application/json"),
        ("user-agent", version), // L183
        ("x-launchdarkly-event-schema", "4"),
        ("x-launchdarkly-payload-id", &id),
        ("x-launchdarkly-tags", "application-id/x"), // L182
    ];
    assert_eq!(headers, expected, "L183: nothing else of what the SDK sent");
}

#[tokio::test]
async fn each_kind_of_sdk_has_its_upstream_path() {
    // L179, L180, U164
    let gateway = Setup::with(some_data()).events().start().await;
    for (path, n) in [("/mobile", 1), ("/mobile/events", 2), ("/mobile/events/bulk", 3)] {
        let call = with_schema(Call::post(path, json!([{"n": n}]).to_string()).key(MOBILE_KEY), "4");
        gateway.answers_as("L179", call, empty(202)).await;
    }
    let path = format!("/events/bulk/{ENV_ID}");
    let call = with_schema(Call::post(&path, r#"[{"n":4}]"#), "3").key("nonsense");
    gateway.answers_as("L180", call, empty(202).cors("*", "POST,OPTIONS")).await;
    gateway
        .eventually("all events", || {
            events(&gateway.upstream, "/mobile").len() == 3 && events(&gateway.upstream, &path).len() == 1
        })
        .await;
    for post in gateway.upstream.posts("/mobile") {
        assert_eq!(post.header("authorization"), Some(MOBILE_KEY), "L179");
    }
    assert_eq!(gateway.upstream.posts(&path)[0].header("authorization"), None, "L180");
}

#[tokio::test]
async fn different_headers_are_never_batched_together() {
    // L182, L184 to L186, U162. The interval is long and the flush is that of the shutdown, so that all posts are
    // flushed together.
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h").start().await;
    let post = |n: i64, schema: &str, tags: Option<&str>| {
        let call = with_schema(Call::post("/bulk", json!([{ "n": n }]).to_string()).key(SDK_KEY), schema);
        match tags {
            Some(tags) => call.header("X-LaunchDarkly-Tags", tags),
            None => call,
        }
    };
    for call in [
        post(1, "4", Some("a")),
        post(2, "4", None),
        post(3, "4", Some("a")),
        post(4, "3", None),
        post(5, "4", Some("b")),
        post(6, " 4 ", None),
        post(7, "99", None),
    ] {
        gateway.answers_as("L184", call, empty(202)).await;
    }
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let mut sent: Vec<_> = upstream
        .posts("/bulk")
        .iter()
        .map(|it| {
            let header = |name: &str| it.header(name).unwrap_or("none").to_owned();
            (header("x-launchdarkly-event-schema"), header("x-launchdarkly-tags"), it.json().to_string())
        })
        .collect();
    sent.sort();
    let owned = |schema: &str, tags: &str, body: &str| (schema.to_owned(), tags.to_owned(), body.to_owned());
    let expected = [
        owned("3", "none", r#"[{"n":4}]"#),      // L186
        owned("4", "a", r#"[{"n":1},{"n":3}]"#), // L184: one post, in order
        owned("4", "b", r#"[{"n":5}]"#),         // L185
        owned("4", "none", r#"[{"n":2},{"n":6}]"#),
        owned("99", "none", r#"[{"n":7}]"#),
    ];
    assert_eq!(sent, expected);
    let mut ids: Vec<_> =
        upstream.posts("/bulk").iter().map(|it| it.header("x-launchdarkly-payload-id").unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "U162: every post has its own identifier");
}

#[tokio::test]
async fn a_failed_post_is_retried_once_with_the_same_bytes() {
    let gateway = Setup::with(some_data()).events().start().await;
    gateway.upstream.answers_posts_with([503]);
    gateway.answers_as("L188", bulk(&json!([{"n": 1}])), empty(202)).await;
    let sent = posts(&gateway, "/bulk", 2).await; // L188, U165
    assert_eq!(sent[0].header("x-launchdarkly-payload-id"), sent[1].header("x-launchdarkly-payload-id"), "L188");
    assert_eq!(sent[0].raw_body, sent[1].raw_body, "L188");
    let gap = sent[1].at - sent[0].at;
    assert!(gap >= Duration::from_millis(950), "L188: {gap:?}");

    gateway.upstream.answers_posts_with([503, 503]);
    gateway.answers_as("L189", bulk(&json!([{"n": 2}])), empty(202)).await;
    posts(&gateway, "/bulk", 4).await;
    gateway.answers_as("L189", bulk(&json!([{"n": 3}])), empty(202)).await;
    let sent = posts(&gateway, "/bulk", 5).await; // L189, U166: no third attempt
    assert_eq!(sent[4].json(), json!([{"n": 3}]));

    gateway.upstream.answers_posts_with([413]);
    gateway.answers_as("U167", bulk(&json!([{"n": 4}])), empty(202)).await;
    posts(&gateway, "/bulk", 6).await;
    gateway.answers_as("U167", bulk(&json!([{"n": 5}])), empty(202)).await;
    let sent = posts(&gateway, "/bulk", 7).await;
    assert_eq!(sent[6].json(), json!([{"n": 5}]), "U167: dropped at once, and the next one is sent");

    // Upstream has a post a moment before the gateway has its response.
    let ledger = async || gateway.operator_gets("/api/environments").await.json()["environments"][0]["events"].clone();
    let settled = async {
        while ledger().await["pending"] != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("settled events", settled).await;
    let report = ledger().await;
    let expected = json!({"received": 5, "delivered": 3, "pending": 0, "filtered": [], "dropped": report["dropped"]});
    assert_eq!(report, expected);
    let dropped: i64 = report["dropped"].as_array().unwrap().iter().map(|it| it[1].as_i64().unwrap()).sum();
    assert_eq!(dropped, 2, "received = delivered + dropped: {report}");
}

#[tokio::test]
async fn a_rejected_credential_is_suspended_and_others_are_not() {
    // U168 except the end of the suspension, which takes minutes; unit tests of the backoff cover it.
    let gateway = Setup::with(some_data()).events().start().await;
    gateway.upstream.answers_posts_with([401]);
    gateway.answers_as("U168", bulk(&json!([{"n": 1}])), empty(202)).await;
    posts(&gateway, "/bulk", 1).await;
    let is_lost = |count: i64| {
        move |it: &Value| {
            it["environments"][0]["events"]["dropped"]
                .as_array()
                .is_some_and(|all| all.iter().map(|it| it[1].as_i64().unwrap_or(0)).sum::<i64>() == count)
        }
    };
    let until_lost = async |count: i64| {
        while !is_lost(count)(&gateway.operator_gets("/api/environments").await.json()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    yardarm_testkit::within("the first event to be lost", until_lost(1)).await;
    gateway.answers_as("U168", bulk(&json!([{"n": 2}])), empty(202)).await;
    yardarm_testkit::within("the second event to be lost", until_lost(2)).await;
    let mobile = with_schema(Call::post("/mobile", r#"[{"n":3}]"#).key(MOBILE_KEY), "4");
    gateway.answers_as("L190: another kind of credential", mobile, empty(202)).await;
    posts(&gateway, "/mobile", 1).await;
    assert_eq!(gateway.upstream.posts("/bulk").len(), 1, "U168: nothing more is sent");
}

#[tokio::test]
async fn without_events_every_post_is_unavailable() {
    // L191, U160
    let gateway = Setup::with(some_data()).start().await;
    let disabled = || text(503, r#"{"message":"Event proxy is not enabled for this environment"}"#);
    for path in ["/bulk", "/diagnostic"] {
        gateway.answers_as("L191", Call::post(path, "[1]").key(SDK_KEY), disabled()).await;
        gateway.answers_as("L191: before the body is looked at", Call::post(path, "").key(SDK_KEY), disabled()).await;
    }
    for path in ["/mobile", "/mobile/events", "/mobile/events/bulk", "/mobile/events/diagnostic"] {
        gateway.answers_as("L191", Call::post(path, "[1]").key(MOBILE_KEY), disabled()).await;
    }
    for path in ["/events/bulk", "/events/diagnostic"] {
        let call = Call::post(format!("{path}/{ENV_ID}"), "[1]");
        gateway.answers_as("L191", call, disabled().cors("*", "POST,OPTIONS")).await;
    }
    let not_gzip = || text(400, "gzip: invalid header\n").nosniff();
    let call = Call::post("/bulk", "no gzip at all").key(SDK_KEY).header("Content-Encoding", "gzip");
    gateway.answers_as("L194: also when events are off", call, not_gzip()).await;
    gateway.answers_as("L191, L213", Call::get(format!("/a/{ENV_ID}.gif")), disabled().cors("*", "GET,OPTIONS")).await;
}

#[tokio::test]
async fn bodies_are_checked_for_size_and_form_and_not_read() {
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_max_payload", "1KiB").start().await;
    let unreadable = || text(400, r#"{"message":"unable to read request body"}"#);
    let empty_body = || text(400, r#"{"message":"body may not be empty"}"#);
    let not_gzip = |it: &str| text(400, it).nosniff();
    let post = |body: &[u8]| with_schema(Call::post("/bulk", body).key(SDK_KEY), "4");
    let gzipped = |body: &[u8]| post(body).header("Content-Encoding", "gzip");
    let exactly = format!("[\"{}\"]", "e".repeat(1020));
    let too_much = format!("[\"{}\"]", "t".repeat(1021));
    let far_too_much = "f".repeat(300_000);
    let half = gzip(br#"["half"]"#);
    for (row, call, expected) in [
        ("L192, U161", post(b""), empty_body()),
        ("L192: empty within gzip", gzipped(&gzip(b"")), empty_body()),
        ("L193: exactly the limit", post(exactly.as_bytes()), empty(202)),
        ("L193: exactly the limit", gzipped(&gzip(exactly.as_bytes())), empty(202)),
        ("L193", post(too_much.as_bytes()), unreadable()),
        ("L193", gzipped(&gzip(too_much.as_bytes())), unreadable()),
        ("L193", post(far_too_much.as_bytes()), unreadable()),
        ("L193", gzipped(&gzip(far_too_much.as_bytes())), unreadable()),
        ("L193: broken off", gzipped(&half[..half.len() - 4]), unreadable()),
        ("L194: no gzip", gzipped(b""), not_gzip("EOF\n")),
        ("L194: no gzip", gzipped(b"[]"), not_gzip("unexpected EOF\n")),
        ("L194: no gzip", gzipped(b"[\"looks like JSON\"]"), not_gzip("gzip: invalid header\n")),
        ("L194", gzipped(&gzip(br#"["L194"]"#)), empty(202)),
        ("L194", post(&gzip(br#"["also"]"#)).header("Content-Encoding", "deflate, gzip"), empty(202)),
        ("L194: another coding", post(br#"["br"]"#).header("Content-Encoding", "br"), empty(202)),
        (
            "L196",
            Call::post("/bulk", r#"["no type"]"#).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4"),
            empty(202),
        ),
        (
            "L196",
            Call::post("/bulk", r#"["text"]"#)
                .key(SDK_KEY)
                .header("Content-Type", "text/plain")
                .header("X-LaunchDarkly-Event-Schema", "4"),
            empty(202),
        ),
        ("L177: parsed behind the answer", post(b"not JSON"), empty(202)),
        ("L177: parsed behind the answer", post(b"{}"), empty(202)),
        ("L177: parsed behind the answer", post(b"null"), empty(202)),
        ("L177: parsed behind the answer", post(b"[]"), empty(202)),
        ("L177: parsed behind the answer", post(b" "), empty(202)),
        ("L195", post(b"[1]").key("second"), empty(202)),
        ("L195", Call::post("/bulk", "[1]").key("sdk-unknown"), text(401, TEXT_C)),
    ] {
        gateway.answers_as(row, call, expected).await;
    }
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let mut sent: Vec<_> = events(&upstream, "/bulk").iter().map(ToString::to_string).collect();
    sent.sort();
    let exactly = format!("\"{}\"", "e".repeat(1020));
    let expected = ["\"L194\"", "\"also\"", "\"br\"", &exactly, &exactly, "\"no type\"", "\"text\"", "1"];
    assert_eq!(sent, expected, "L193: nothing of what was refused");
}

#[tokio::test]
async fn a_chunked_body_is_accepted() {
    let gateway = Setup::with(some_data()).events().start().await;
    let mut connection = yardarm_testkit::Connection::open(gateway.address).await;
    let head = format!(
        "POST /bulk HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nX-LaunchDarkly-Event-Schema: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.sends(format!("{head}3\r\n[\"a\r\n5\r\nb\",1]\r\n0\r\n\r\n")).await;
    assert_eq!(connection.answer("POST").await.map(|it| it.status), Some(202));
    let sent = posts(&gateway, "/bulk", 1).await;
    assert_eq!(sent[0].json(), json!(["ab", 1]));
}
