//! Events under load: bursts, floods, many queues, invalid events, a slow or unreachable upstream. No event is lost
//! while upstream keeps up, and losses are counted.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, gzip, within};

use super::events::{bulk, events, posts, with_schema};
use crate::expected::empty;
use crate::flags::some_data;
use crate::running::{ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

/// Returns the event counts of the first environment from the admin listener.
async fn ledger(gateway: &Running) -> Value {
    gateway.operator_gets("/api/environments").await.json()["environments"][0]["events"].clone()
}

/// Waits until the counts satisfy a condition; returns them.
async fn ledger_where(gateway: &Running, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    within(what, async {
        loop {
            let ledger = ledger(gateway).await;
            if is_wanted(&ledger) {
                return ledger;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Waits until this many events were received and none is pending.
async fn settled(gateway: &Running, received: u64) -> Value {
    let what = format!("{received} events to be settled");
    ledger_where(gateway, &what, |it| it["received"] == received && it["pending"] == 0).await
}

fn tagged(events: &Value, tag: &str) -> Call {
    bulk(events).header("X-LaunchDarkly-Tags", tag)
}

#[tokio::test]
async fn a_full_queue_is_posted_at_once_and_nothing_is_lost() {
    // U163: the relay drops two of these. Here the next flush is an hour away.
    let setup = Setup::with(some_data()).events();
    let gateway =
        setup.set("launchdarkly.events_capacity", 3).set("launchdarkly.events_flush_interval", "1h").start().await;
    gateway.answers_as("U163", bulk(&json!([1, 2])), empty(202)).await;
    // The second is posted once the first has been processed, which happens after the response.
    ledger_where(&gateway, "two events", |it| it["received"] == 2).await;
    gateway.answers_as("U163", bulk(&json!([3, 4, 5])), empty(202)).await;
    assert_eq!(posts(&gateway, "/bulk", 1).await[0].json(), json!([1, 2, 3]), "before its time");
    let report = ledger_where(&gateway, "three delivered events", |it| it["delivered"] == 3).await;
    assert_eq!((&report["pending"], &report["dropped"]), (&json!(2), &json!([])), "{report}");
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    assert_eq!(events(&upstream, "/bulk"), [1, 2, 3, 4, 5].map(Value::from), "and the rest at the end");
}

#[tokio::test]
async fn many_queues_of_one_flush_all_arrive() {
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "2s").start().await;
    for n in 0..200 {
        gateway.answers_as("200 tag values", tagged(&json!([n]), &format!("application-id/{n}")), empty(202)).await;
    }
    let report = settled(&gateway, 200).await;
    assert_eq!((&report["delivered"], &report["dropped"]), (&json!(200), &json!([])), "{report}");
    let mut sent: Vec<_> = events(&gateway.upstream, "/bulk").iter().map(|it| it.as_u64().expect("a number")).collect();
    sent.sort_unstable();
    assert_eq!(sent, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn all_received_events_are_forwarded() {
    // 30,000 events, with the default interval and capacity.
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "5s").start().await;
    let event = json!({"kind": "custom", "key": "k", "creationDate": 1, "contextKeys": {"user": "u"}});
    let hundred = Value::from(vec![event; 100]);
    for _ in 0..300 {
        gateway.answers_as("3,000 events a second", bulk(&hundred), empty(202)).await;
    }
    let report = settled(&gateway, 30_000).await;
    assert_eq!((&report["delivered"], &report["dropped"]), (&json!(30_000), &json!([])), "{report}");
    assert_eq!(events(&gateway.upstream, "/bulk").len(), 30_000);
}

#[tokio::test]
async fn one_post_of_many_events_arrives_whole_and_in_order() {
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_capacity", 100).start().await;
    let many: Vec<_> = (0..20_000).map(Value::from).collect();
    gateway.answers_as("200 times the capacity", bulk(&Value::from(many.clone())), empty(202)).await;
    let report = settled(&gateway, 20_000).await;
    assert_eq!((&report["delivered"], &report["dropped"]), (&json!(20_000), &json!([])), "{report}");
    let mut sent = events(&gateway.upstream, "/bulk");
    sent.sort_by_key(Value::as_u64);
    assert_eq!(sent, many);
}

#[tokio::test]
async fn while_upstream_does_not_answer_pending_events_are_bounded_and_losses_counted() {
    // 24 posts may be in progress; beyond them a queue holds its capacity once upstream has not answered for two
    // seconds.
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h");
    let gateway = setup.set("launchdarkly.events_capacity", 1).start().await;
    gateway.upstream.delays_posts(Duration::from_secs(6));
    let posted: Vec<_> = (0..24).map(Value::from).collect();
    gateway.answers_as("24 posts", bulk(&Value::from(posted)), empty(202)).await;
    posts(&gateway, "/bulk", 24).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    gateway.answers_as("five more", bulk(&json!([24, 25, 26, 27, 28])), empty(202)).await;
    let report = ledger_where(&gateway, "lost events", |it| it["dropped"] != json!([])).await;
    assert_eq!((&report["pending"], &report["dropped"]), (&json!(25), &json!([["queue-full", 4]])), "{report}");
    gateway.upstream.delays_posts(Duration::ZERO);
    let report = settled(&gateway, 29).await;
    assert_eq!(report["delivered"], 25, "{report}");
}

#[tokio::test]
async fn a_flood_with_a_public_id_does_not_affect_other_credentials() {
    // A quarter of the memory is for environment IDs. All their posts are in progress and unanswered when the flood
    // arrives.
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_memory", "4MiB").start().await;
    gateway.upstream.delays_posts(Duration::from_secs(6));
    let path = format!("/events/bulk/{ENV_ID}");
    let flood = async |count: usize, length: usize| {
        let body = json!([{"kind": "custom", "x": "x".repeat(length)}]).to_string();
        for n in 0..count {
            let call = with_schema(Call::post(&path, body.clone()), "4");
            let call = call.header("X-LaunchDarkly-Tags", &format!("application-id/{n}"));
            assert_eq!(gateway.answers(&call).await.status, 202);
        }
    };
    flood(24, 10).await;
    posts(&gateway, &path, 24).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let honest = async {
        for n in 0..60 {
            gateway.answers_as("a server", tagged(&json!([n]), &format!("application-id/{}", n % 7)), empty(202)).await;
            let phone = with_schema(Call::post("/mobile", json!([n]).to_string()).key(MOBILE_KEY), "4");
            gateway.answers_as("a phone", phone, empty(202)).await;
        }
    };
    tokio::join!(flood(100, 50_000), honest);
    let report = settled(&gateway, 244).await;
    assert_eq!((events(&gateway.upstream, "/bulk").len(), events(&gateway.upstream, "/mobile").len()), (60, 60));
    let dropped = &report["dropped"];
    assert!(dropped[0][0] == "memory-full" && dropped.as_array().is_some_and(|it| it.len() == 1), "{report}");
    let delivered = 120 + events(&gateway.upstream, &path).len();
    assert_eq!(report["delivered"], delivered, "received = delivered + dropped: {report}");
}

#[tokio::test]
async fn a_burst_beyond_the_memory_waits_while_upstream_keeps_up() {
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_memory", "4MiB").start().await;
    gateway.upstream.delays_posts(Duration::from_millis(100));
    let event = json!({"kind": "custom", "key": "k", "x": "x".repeat(1000)});
    let thousand = Value::from(vec![event; 1000]);
    for _ in 0..12 {
        gateway.answers_as("12 MB", bulk(&thousand), empty(202)).await;
    }
    let report = settled(&gateway, 12_000).await;
    assert_eq!((&report["delivered"], &report["dropped"]), (&json!(12_000), &json!([])), "{report}");
}

#[tokio::test]
async fn events_survive_an_outage_of_upstream() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
    let setup = Setup::with(some_data()).events().set("launchdarkly.events_uri", format!("http://{address}"));
    let gateway = setup.start().await;
    gateway.answers_as("nothing there", bulk(&json!([1, 2])), empty(202)).await;
    let report = settled(&gateway, 2).await;
    assert_eq!(report["dropped"], json!([["upstream-unreachable", 2]]), "after one retry, as the reference");
    let upstream = yardarm_testkit::FakeLaunchDarkly::start_at(address).await.expect("the port is free");
    gateway.answers_as("there again", bulk(&json!([3])), empty(202)).await;
    let report = settled(&gateway, 3).await;
    assert_eq!(report["delivered"], 1, "{report}");
    assert_eq!(events(&upstream, "/bulk"), [json!(3)]);
}

#[tokio::test]
async fn an_invalid_event_affects_only_itself() {
    // The reference drops the whole post for each of them but the first.
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_flush_interval", "1h").start().await;
    let deep = format!("[{{\"n\":9}},{}{}]", "[".repeat(10_001), "]".repeat(10_001));
    let large = format!("[{{\"n\":10}},\"{}\"]", "x".repeat(5 << 20));
    for body in [
        &b"[{\"n\":1},{\"n\":2,\"x\":\"\xff\"}]"[..],
        b"[{\"n\":3},{bad},{\"n\":4}]",
        b"[{\"n\":5},{\"n\":6},{\"n\":",
        b"[{\"n\":7},NaN,{\"n\":8,\"x\":[}]",
        deep.as_bytes(),
        large.as_bytes(),
    ] {
        let post = || with_schema(Call::post("/bulk", body).key(SDK_KEY), "4");
        gateway.answers_as("one bad event", post(), empty(202)).await;
        let compressed = with_schema(Call::post("/bulk", gzip(body)).key(SDK_KEY), "3");
        gateway.answers_as("one bad event", compressed.header("Content-Encoding", "gzip"), empty(202)).await;
    }
    let report = ledger(&gateway).await;
    let dropped = json!([["event-too-large", 2], ["malformed", 8], ["too-deep", 2]]);
    assert_eq!((&report["received"], &report["dropped"]), (&json!(30), &dropped), "{report}");
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let expected: Vec<_> = [1, 2, 3, 4, 5, 6, 7, 9, 10]
        .map(|n| if n == 2 { json!({"n": 2, "x": "\u{fffd}"}) } else { json!({ "n": n }) })
        .into();
    for post in upstream.posts("/bulk") {
        assert_eq!(post.json(), Value::from(expected.clone()));
    }
    assert_eq!(upstream.posts("/bulk").len(), 2);
}

#[tokio::test]
async fn a_slow_upstream_delays_no_other_post() {
    let delay = Duration::from_secs(3);
    let gateway = Setup::with(some_data()).events().start().await;
    gateway.upstream.delays_posts(delay);
    gateway.answers_as("U168", bulk(&json!([1])), empty(202)).await;
    posts(&gateway, "/bulk", 1).await;
    // The same queue, another queue of the same credential, another credential.
    gateway.answers_as("U168", bulk(&json!([2])), empty(202)).await;
    gateway.answers_as("U168", tagged(&json!([3]), "a"), empty(202)).await;
    let mobile = with_schema(Call::post("/mobile", "[4]").key(MOBILE_KEY), "4");
    gateway.answers_as("U168", mobile, empty(202)).await;
    let sent = [posts(&gateway, "/bulk", 3).await, posts(&gateway, "/mobile", 1).await].concat();
    assert_eq!(sent[0].json(), json!([1]));
    for post in &sent[1..] {
        assert!(post.at < sent[0].at + delay, "sent while the first was not answered: {:?}", post.at - sent[0].at);
    }
}
