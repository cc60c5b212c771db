//! L231 to L233, U108 to U113, U115: segments whose members are in the database.

mod operators;
mod polls;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use yardarm_testkit::{Call, RedisServer, until};

use crate::flags::{data, flag, flag_with, segment, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

/// Base64 of SHA-256 of `a`, the key in `CTX`.
pub(super) const HASH: &str = "ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=";
const POLL: &str = "/sdk/big-segments/revisions";
const STREAM: &str = "/big-segments";

/// The flag `gated` is `true` for members of the Big Segment `big` and `false` for others.
pub(super) fn gated() -> Value {
    let clause = json!({"attribute": "", "op": "segmentMatch", "values": ["big"], "negate": false});
    let rule = json!({"id": "r", "variation": 0, "trackEvents": false, "clauses": [clause]});
    data([flag_with("gated", 1, json!({"fallthrough": {"variation": 1}, "rules": [rule]}))], [big(2)])
}

fn big(generation: i64) -> Value {
    let mut big = segment("big", 1);
    big["unbounded"] = json!(true);
    big["generation"] = json!(generation);
    big
}

/// Returns the revision `number`, which follows the previous one.
pub(super) fn revision(number: u32, changes: Value) -> Value {
    let version = |number: u32| if number == 0 { String::new() } else { format!("100:{number}") };
    json!({
        "environmentId": ENV_ID, "segmentId": "big.g2", "version": version(number),
        "previousVersion": version(number - 1), "changes": changes,
    })
}

pub(super) fn includes(hash: &str) -> Value {
    json!({"included": {"add": [hash], "remove": []}, "excluded": {"add": [], "remove": []}})
}

fn forgets(hash: &str) -> Value {
    json!({"included": {"add": [], "remove": [hash]}, "excluded": {"add": [], "remove": []}})
}

fn setup(redis: &RedisServer, data: Value) -> Setup {
    let setup = Setup::with(data).set("launchdarkly.redis.url", redis.url());
    setup.set("launchdarkly.big_segments_retry_interval", "50ms")
}

/// Returns the value of `gated` and the status of Big Segments in its reason, for each kind of SDK.
async fn seen_by_all(row: &str, gateway: &Running) -> Vec<(Value, Value)> {
    let mut seen = Vec::new();
    for call in [
        Call::get(format!("/sdk/evalx/contexts/{CTX}?withReasons=true")).key(SDK_KEY),
        Call::get(format!("/msdk/evalx/contexts/{CTX}?withReasons=true")).key(MOBILE_KEY),
        Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}?withReasons=true")),
    ] {
        let answer = gateway.answers(&call).await;
        assert_eq!(answer.status, 200, "{row}: {call}");
        let gated = answer.json()["gated"].clone();
        seen.push((gated["value"].clone(), gated["reason"]["bigSegmentsStatus"].clone()));
    }
    seen
}

/// Returns the same when nothing changes: all kinds have equal results.
async fn gated_for_a(row: &str, gateway: &Running) -> (Value, Value) {
    let mut seen = seen_by_all(row, gateway).await;
    assert!(seen.iter().all(|it| *it == seen[0]), "{row}: {seen:?}");
    seen.remove(0)
}

/// Waits until `gated` has this result.
async fn sees(row: &str, gateway: &Running, value: bool, status: &str) {
    let looks = async {
        while seen_by_all(row, gateway).await.iter().any(|it| *it != (json!(value), json!(status))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    yardarm_testkit::within(&format!("{row}: {value} and {status}"), looks).await;
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a time of this age")
}

fn synchronized_on(redis: &RedisServer) -> Option<u64> {
    redis.get("launchdarkly:big_segments_synchronized_on").map(|it| it.parse().expect("Unix milliseconds"))
}

fn status_of(status: &Value) -> &Value {
    &status["environments"]["main"]["bigSegmentStatus"]
}

#[tokio::test]
async fn without_a_big_segment_no_members_are_requested() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, some_data()).start().await;
    until("the data in Redis", || redis.get("launchdarkly:$inited").is_some()).await;
    assert!(gateway.status().await["environments"]["main"].get("bigSegmentStatus").is_none(), "L231, U108");
    assert_eq!(gateway.upstream.revision_requests(), Vec::<String>::new(), "U108");
    // Synchronization starts with the first Big Segment, even if it arrives as a patch.
    gateway.upstream.patches_segment(SDK_KEY, &big(1));
    gateway.status_where("U109: a status", |it| status_of(it).is_object()).await;
    until("U109: a stream", || gateway.upstream.open_revision_streams(SDK_KEY) == 1).await;
    let authorized = gateway.upstream.requests().into_iter().filter(|it| it.path.contains("big-segments"));
    assert!(authorized.clone().count() > 0 && authorized.clone().all(|it| it.header("authorization") == Some(SDK_KEY)));
}

#[tokio::test]
async fn missed_revisions_are_polled_and_new_ones_streamed() {
    let Some(redis) = RedisServer::start() else { return };
    let setup = setup(&redis, gated()).prepare(|cloud| {
        let both = json!({
            "included": {"add": [HASH, "b"], "remove": []}, "excluded": {"add": ["c", "d"], "remove": []},
        });
        cloud.revises_silently(SDK_KEY, &revision(1, both));
        cloud.revises_silently(SDK_KEY, &revision(2, forgets("b")));
        let last = json!({"included": {"add": [], "remove": []}, "excluded": {"add": [], "remove": ["d"]}});
        cloud.revises_silently(SDK_KEY, &revision(3, last));
    });
    let before = unix_ms();
    let gateway = setup.start().await;
    until("U109: synchronized", || synchronized_on(&redis).is_some()).await;
    assert!(synchronized_on(&redis).is_some_and(|it| (before..=unix_ms()).contains(&it)), "U109");
    let after = |number: u32| format!("{POLL}?after=100%3A{number}");
    let expected = [POLL.to_owned(), after(2), after(3), STREAM.to_owned(), after(3)];
    assert_eq!(gateway.upstream.revision_requests(), expected, "U109, U110");

    let big_segments = |prefix: &str| redis.names(&["KEYS", &format!("launchdarkly:{prefix}*")]);
    let expected = ["cursor", "lock", "synchronized_on"].map(|it| format!("launchdarkly:big_segments_{it}"));
    assert_eq!(big_segments("big_segments_"), expected, "U113");
    assert_eq!(redis.get("launchdarkly:big_segments_cursor").as_deref(), Some("100:3"), "U113");
    assert_eq!(redis.get("launchdarkly:big_segments_lock").as_deref(), Some(""), "U113");
    assert_eq!(big_segments("big_segment_include:"), [format!("launchdarkly:big_segment_include:{HASH}")], "U113");
    assert_eq!(big_segments("big_segment_exclude:"), ["launchdarkly:big_segment_exclude:c"], "U113");
    for key in [format!("include:{HASH}"), "exclude:c".to_owned()] {
        assert_eq!(redis.names(&["SMEMBERS", &format!("launchdarkly:big_segment_{key}")]), ["big.g2"], "U113");
    }
    sees("U107: a member", &gateway, true, "HEALTHY").await;
    let status = gateway.status_where("U109", |it| status_of(it)["lastSynchronizedOn"] != 0).await;
    assert_eq!(status["status"], "healthy", "L232");
    assert_eq!(status_of(&status)["available"], true, "L232");
    assert_eq!(status_of(&status)["potentiallyStale"], false, "L232");

    // A gateway that starts later continues from the cursor.
    gateway.stop().await;
    let gateway = self::setup(&redis, gated()).start().await;
    until("U110", || gateway.upstream.open_revision_streams(SDK_KEY) == 1).await;
    assert_eq!(gateway.upstream.revision_requests()[0], after(3), "U110");
}

#[tokio::test]
async fn a_patch_is_announced_to_those_who_cannot_see_it_and_evaluated() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).start().await;
    until("a stream", || synchronized_on(&redis).is_some()).await;
    sees("before", &gateway, false, "HEALTHY").await;
    let mut pings = Vec::new();
    for call in [Call::get("/mping").key(MOBILE_KEY), Call::get(format!("/ping/{ENV_ID}"))] {
        let mut sdk = gateway.opens_with(&call).await;
        sdk.receives_ping().await;
        pings.push(sdk);
    }
    let mut servers = Vec::new();
    for path in ["/all", "/flags"] {
        let mut sdk = gateway.opens(path, SDK_KEY).await;
        sdk.receives_event("put").await;
        servers.push(sdk);
    }
    for (number, changes, value) in [(1, includes(HASH), true), (2, forgets(HASH), false), (3, includes(HASH), true)] {
        // Requested before, so that an earlier result is cached.
        assert_eq!(gated_for_a("U112", &gateway).await.0, !value, "U112");
        gateway.upstream.revises(SDK_KEY, &revision(number, changes));
        for sdk in &mut pings {
            sdk.receives_ping().await;
        }
        assert_eq!(gated_for_a("U112", &gateway).await, (json!(value), json!("HEALTHY")), "U112: at once");
    }
    // Nothing else was sent: the next change is the next event on all streams.
    gateway.upstream.patches(SDK_KEY, &flag("plain", 1));
    for sdk in &mut servers {
        sdk.receives_event("patch").await;
    }
    for sdk in &mut pings {
        sdk.receives_ping().await;
    }
}

#[tokio::test]
async fn a_patch_that_does_not_follow_is_not_applied_and_polling_heals_it() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).start().await;
    let upstream = &gateway.upstream;
    upstream.revises_silently(SDK_KEY, &revision(1, includes("x")));
    until("U111: a stream", || upstream.open_revision_streams(SDK_KEY) == 1).await;
    until("U111: before", || synchronized_on(&redis).is_some()).await;
    let before = synchronized_on(&redis);
    upstream.revises(SDK_KEY, &revision(2, includes("y")));
    upstream.revises(SDK_KEY, &revision(3, includes("z")));
    until("U111: all of them", || redis.get("launchdarkly:big_segments_cursor").as_deref() == Some("100:3")).await;
    until("U111: synchronized again", || synchronized_on(&redis) > before).await;
    // A revision that was not published: it must leave nothing behind, and the stream is opened again.
    let requests = upstream.revision_requests().len();
    let mut alien = revision(9, includes("alien"));
    alien["previousVersion"] = json!("100:8");
    upstream.sends_revision_event(SDK_KEY, &json!([alien]));
    let is_polled = || upstream.revision_requests()[requests..].iter().any(|it| it.starts_with(POLL));
    until("U111: polled", is_polled).await;
    until("U111: streamed", || upstream.revision_requests()[requests..].contains(&STREAM.to_owned())).await;
    assert_eq!(redis.get("launchdarkly:big_segments_cursor").as_deref(), Some("100:3"), "U111");
    assert!(redis.names(&["KEYS", "*alien*"]).is_empty(), "U111");
    assert_eq!(redis.names(&["KEYS", "launchdarkly:big_segment_include:*"]).len(), 3, "U111");
}

#[tokio::test]
async fn an_idle_stream_is_polled_from_time_to_time() {
    // Published after the poll, while no stream was open.
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).set("launchdarkly.big_segments_poll_interval", "200ms").start().await;
    until("a stream", || synchronized_on(&redis).is_some()).await;
    let mut sdk = gateway.opens("/mping", MOBILE_KEY).await;
    sdk.receives_ping().await;
    gateway.upstream.revises_silently(SDK_KEY, &revision(1, includes(HASH)));
    sdk.receives_ping().await;
    assert_eq!(gated_for_a("U112", &gateway).await.0, true);
    // The time of synchronization advances although nothing changes.
    let before = synchronized_on(&redis);
    until("U109: the time goes on", || synchronized_on(&redis) > before).await;
    let streams = gateway.upstream.revision_requests().into_iter().filter(|it| it == STREAM).count();
    assert_eq!(streams, 1, "all of it on one stream");
}

#[tokio::test]
async fn an_upstream_that_always_has_more_is_polled_once_a_second_after_a_while() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).prepare(|cloud| {
        // A page of a poll contains two of them.
        for number in 1..=2_100 {
            cloud.revises_silently(SDK_KEY, &revision(number, includes("x")));
        }
    });
    let gateway = gateway.start().await;
    let polls = || gateway.upstream.revision_requests().len();
    until("a thousand polls", || polls() >= 1_000).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let polls = polls();
    assert!((1_001..=1_004).contains(&polls), "{polls} polls");
}

#[tokio::test]
async fn a_key_that_worked_is_tried_soon_after_members_are_refused() {
    // A rejection must not delay changes of members by five minutes if the key worked before.
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).start().await;
    until("synchronized", || synchronized_on(&redis).is_some()).await;
    let requests = gateway.upstream.revision_requests().len();
    gateway.upstream.refuses_revisions(SDK_KEY, Some(401));
    until("refused", || gateway.upstream.revision_requests().len() > requests + 1).await;
    gateway.upstream.revises_silently(SDK_KEY, &revision(1, includes(HASH)));
    gateway.upstream.refuses_revisions(SDK_KEY, None);
    until("caught up", || redis.get("launchdarkly:big_segments_cursor").as_deref() == Some("100:1")).await;
}

#[tokio::test]
async fn gateways_that_share_a_database_all_announce() {
    let Some(redis) = RedisServer::start() else { return };
    let first = setup(&redis, gated()).start().await;
    let second = setup(&redis, gated()).start().await;
    // Each has its own upstream with the same data.
    let gateways = [&first, &second];
    let mut sdks = Vec::new();
    for gateway in gateways {
        until("a stream", || gateway.upstream.open_revision_streams(SDK_KEY) == 1).await;
        gateway.status_where("synchronized", |it| status_of(it)["lastSynchronizedOn"] != 0).await;
        let mut sdk = gateway.opens("/mping", MOBILE_KEY).await;
        sdk.receives_ping().await;
        sdks.push(sdk);
    }
    for number in 1..=5 {
        let (changes, value) = if number % 2 == 1 { (includes(HASH), true) } else { (forgets(HASH), false) };
        for gateway in gateways {
            gateway.upstream.revises(SDK_KEY, &revision(number, changes.clone()));
        }
        for (gateway, sdk) in gateways.into_iter().zip(&mut sdks) {
            sdk.receives_ping().await;
            assert_eq!(gated_for_a("a revision", gateway).await.0, value, "revision {number}");
        }
    }
    assert_eq!(redis.get("launchdarkly:big_segments_cursor").as_deref(), Some("100:5"));
    for gateway in gateways {
        let streams = gateway.upstream.revision_requests().into_iter().filter(|it| it == STREAM).count();
        assert_eq!(streams, 1, "that another one was faster is no reason to begin again");
    }
}

#[tokio::test]
async fn never_synchronized_is_potentially_stale() {
    let Some(redis) = RedisServer::start() else { return };
    for (as_degraded, expected) in [(false, "healthy"), (true, "degraded")] {
        let setup = setup(&redis, gated()).prepare(|cloud| cloud.fails_revisions(SDK_KEY, true));
        let gateway = setup.set("launchdarkly.big_segments_stale_as_degraded", as_degraded).start().await;
        let status = gateway.status_where("L232", |it| status_of(it).is_object()).await;
        let never = json!({"available": true, "potentiallyStale": true, "lastSynchronizedOn": 0});
        assert_eq!(status_of(&status), &never, "L232");
        assert_eq!(status["status"], expected, "L232: as degraded {as_degraded}");
        assert_eq!(gated_for_a("L232", &gateway).await, (json!(false), json!("STALE")));
        // Polls are retried.
        gateway.upstream.fails_revisions(SDK_KEY, false);
        let status = gateway.status_where("L232: over", |it| status_of(it)["potentiallyStale"] == false).await;
        assert_eq!(status["status"], "healthy", "L232");
        gateway.stop().await;
        redis.ask(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn outdated_members_are_used_and_reported_as_stale() {
    let Some(redis) = RedisServer::start() else { return };
    redis.ask(&["SADD", &format!("launchdarkly:big_segment_include:{HASH}"), "big.g2"]);
    redis.ask(&["SADD", &format!("launchdarkly:big_segment_exclude:{HASH}"), "big.g2"]);
    for (minutes, is_potentially_stale, reason) in [(6, true, "STALE"), (3, false, "STALE"), (1, false, "HEALTHY")] {
        let time = unix_ms() - minutes * 60_000;
        redis.ask(&["SET", "launchdarkly:big_segments_synchronized_on", &time.to_string()]);
        for (as_degraded, is_degraded) in [(false, false), (true, is_potentially_stale)] {
            let setup = setup(&redis, gated()).prepare(|cloud| cloud.fails_revisions(SDK_KEY, true));
            let gateway = setup.set("launchdarkly.big_segments_stale_as_degraded", as_degraded).start().await;
            let is_read = |it: &Value| status_of(it)["lastSynchronizedOn"] == time;
            let status = gateway.status_where("U115", is_read).await;
            let expected =
                json!({"available": true, "potentiallyStale": is_potentially_stale, "lastSynchronizedOn": time});
            assert_eq!(status_of(&status), &expected, "U115: {minutes} minutes");
            assert_eq!(status["status"], if is_degraded { "degraded" } else { "healthy" }, "U115: {minutes} minutes");
            // Included wins over excluded.
            assert_eq!(gated_for_a("U115", &gateway).await, (json!(true), json!(reason)), "{minutes} minutes");
        }
    }
}

#[tokio::test]
async fn without_the_database_rules_decide() {
    let Some(mut redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).start().await;
    gateway.upstream.revises(SDK_KEY, &revision(1, includes(HASH)));
    sees("before", &gateway, true, "HEALTHY").await;
    redis.kill();
    let status = gateway.status_where("L233", |it| status_of(it)["available"] == false).await;
    let unknown = json!({"available": false, "potentiallyStale": false, "lastSynchronizedOn": 0});
    assert_eq!(status_of(&status), &unknown, "L233");
    assert_eq!(status["status"], "degraded", "L233, R11");
    sees("a database that is down", &gateway, false, "STORE_ERROR").await;

    // The database comes back empty: everything is synchronized again from the beginning.
    redis.restart();
    sees("L233: over", &gateway, true, "HEALTHY").await;
    gateway.status_where("L233: over", |it| it["status"] == "healthy").await;
}

#[tokio::test]
async fn without_a_database_big_segments_are_not_configured() {
    let gateway = Setup::with(gated()).start().await;
    assert_eq!(
        gated_for_a("NOT_CONFIGURED without a database", &gateway).await,
        (json!(false), json!("NOT_CONFIGURED"))
    );
    let status = gateway.status().await;
    assert!(status["environments"]["main"].get("bigSegmentStatus").is_none(), "L231: only with a database");
    assert_eq!(gateway.upstream.revision_requests(), Vec::<String>::new(), "U108: only with a database");
}

#[tokio::test]
async fn evaluated_streams_receive_changes_of_membership() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).set("launchdarkly.client_streams", "evaluated").start().await;
    until("a stream", || synchronized_on(&redis).is_some()).await;
    let mut phone = gateway.opens_with(&Call::get(format!("/meval/{CTX}")).key(MOBILE_KEY)).await;
    assert_eq!(phone.receives_event("put").await["gated"]["value"], false);
    for (number, changes, value) in [(1, includes(HASH), true), (2, forgets(HASH), false)] {
        gateway.upstream.revises(SDK_KEY, &revision(number, changes));
        // The flag's version is unchanged, so SDKs would ignore a `patch`.
        assert_eq!(phone.receives_event("put").await["gated"]["value"], value);
    }
}
