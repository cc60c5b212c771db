//! L197 to L210, U169: events of SDKs that leave summarizing to the gateway.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, Recorded, within};

use crate::expected::empty;
use crate::flags::{data, flag, flag_with};
use crate::plugins::{Plugged, put};
use crate::running::{ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

/// Returns a flag without special properties, and one with `trackEvents`.
fn some_flags() -> Value {
    data([flag("rule", 16), flag_with("tracked", 4, json!({"trackEvents": true}))], [])
}

/// Returns a post of an SDK with this schema; 0 stands for no schema header.
fn post(path: &str, key: &str, schema: u32, events: &Value) -> Call {
    let call = Call::post(path, events.to_string()).key(key).header("Content-Type", "application/json");
    if schema == 0 { call } else { call.header("X-LaunchDarkly-Event-Schema", &schema.to_string()) }
}

fn bulk(schema: u32, events: &Value) -> Call {
    post("/bulk", SDK_KEY, schema, events)
}

/// Returns an evaluation of `rule` for the user `u1`, with other properties.
fn feature(properties: Value) -> Value {
    let mut event = json!({
        "kind": "feature", "creationDate": 1000, "key": "rule", "user": {"key": "u1"}, "value": false, "default": true,
        "version": 16,
    });
    for (name, value) in properties.as_object().expect("an object") {
        event[name] = value.clone();
    }
    event
}

fn index(context: Value) -> Value {
    json!({"kind": "index", "creationDate": 1000, "context": context})
}

/// Returns a summary of one flag with one counter, at one time.
fn summary(flag: &str, counter: Value, kind: &str) -> Value {
    let flags = json!({flag: {"default": true, "counters": [counter], "contextKinds": [kind]}});
    json!({"kind": "summary", "startDate": 1000, "endDate": 1000, "features": flags})
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock before the year 500 million")
}

/// One case: the post, and what arrives upstream.
struct Dialogue {
    row: &'static str,
    call: Call,
    arrives: Value,
}

impl Dialogue {
    /// Returns the tag that identifies its post upstream, and which gives it a separate processor.
    fn tag(&self) -> String {
        format!("row/{}", self.row.replace([' ', ':', ','], "-"))
    }
}

fn dialogues() -> Vec<Dialogue> {
    let dialogue = |row, schema, events: Value, arrives| Dialogue { row, call: bulk(schema, &events), arrives };
    let unsummarized = |row, value: &str, events: Value, arrives| Dialogue {
        row,
        call: bulk(4, &events).header("X-LaunchDarkly-Unsummarized", value),
        arrives,
    };
    let user = || json!({"key": "u1"});
    let org = || json!({"kind": "org", "key": "o1", "name": "n", "_meta": {"redactedAttributes": ["email"]}});
    let once = |counter| json!([index(user()), summary("rule", counter, "user")]);
    let full = |kind: &str, flag: &str, variation: Value| {
        json!({
            "kind": kind, "creationDate": 1000, "key": flag, "version": 16, "context": user(), "variation": variation,
            "value": false, "default": true,
        })
    };
    let counted = || json!({"variation": 1, "version": 16, "value": false, "count": 1});
    let plain = || json!({"version": 16, "value": false, "count": 1});
    let of_org = json!([
        index(org()),
        summary("rule", json!({"variation": 1, "version": 16, "value": false, "count": 1}), "org"),
    ]);
    let org_feature = || json!([feature(json!({"user": null, "context": org(), "variation": 1}))]);
    vec![
        dialogue(
            "L197",
            0,
            json!([feature(json!({"user": {"key": "u1", "privateAttrs": ["name"]}}))]),
            json!([index(json!({"key": "u1", "privateAttrs": ["name"]})), summary("rule", counted(), "user")]),
        ),
        dialogue("L198: no variation is inferred", 2, json!([feature(json!({}))]), once(plain())),
        dialogue(
            "L198",
            2,
            json!([feature(json!({"variation": 1})), feature(json!({"variation": 1}))]),
            once(json!({"variation": 1, "version": 16, "value": false, "count": 2})),
        ),
        unsummarized("L199", "true", org_feature(), of_org.clone()),
        unsummarized("L199: any value", "false", org_feature(), of_org.clone()),
        unsummarized("L199: even an empty one", "", org_feature(), of_org),
        dialogue(
            "L200",
            2,
            json!([feature(json!({"version": null, "variation": 1}))]),
            once(json!({"unknown": true, "value": false, "count": 1})),
        ),
        dialogue(
            "L201",
            2,
            json!([feature(json!({"variation": 1, "trackEvents": true}))]),
            json!([index(user()), full("feature", "rule", json!(1)), summary("rule", counted(), "user")]),
        ),
        dialogue(
            "L202",
            2,
            json!([feature(json!({"variation": 1, "debugEventsUntilDate": now_ms() + 3_600_000}))]),
            json!([index(user()), full("debug", "rule", json!(1)), summary("rule", counted(), "user")]),
        ),
        dialogue(
            "L202: in the past",
            2,
            json!([feature(json!({"variation": 1, "debugEventsUntilDate": now_ms() - 1000}))]),
            once(counted()),
        ),
        dialogue(
            "L203",
            1,
            json!([feature(json!({"key": "tracked"}))]),
            json!([index(user()), full("feature", "tracked", json!(1)), summary("tracked", counted(), "user")]),
        ),
        dialogue(
            "L204",
            2,
            json!([
                {"kind": "custom", "creationDate": 1000, "key": "c", "user": user(), "data": {"x": 1}, "metricValue": 2.5},
                {"kind": "custom", "creationDate": 1001, "key": "d", "user": user(), "data": null},
            ]),
            json!([
                index(user()),
                {"kind": "custom", "creationDate": 1000, "key": "c", "data": {"x": 1}, "contextKeys": {"user": "u1"}, "metricValue": 2.5},
                {"kind": "custom", "creationDate": 1001, "key": "d", "contextKeys": {"user": "u1"}},
            ]),
        ),
        dialogue(
            "L205",
            2,
            json!([{"kind": "identify", "creationDate": 1000, "key": "u1", "user": user()}]),
            json!([{"kind": "identify", "creationDate": 1000, "context": user()}]),
        ),
        dialogue(
            "L206",
            2,
            json!([feature(json!({"variation": 1})), {"kind": "custom", "creationDate": 1000, "key": "c", "user": user()}]),
            json!([
                index(user()),
                {"kind": "custom", "creationDate": 1000, "key": "c", "contextKeys": {"user": "u1"}},
                summary("rule", counted(), "user"),
            ]),
        ),
        dialogue(
            "L207",
            2,
            json!([{"kind": "alias", "key": 5, "previousKey": [1.0]}]),
            json!([{"kind": "alias", "key": 5, "previousKey": [1.0]}]),
        ),
        dialogue(
            "L208",
            2,
            json!([{"kind": "alias", "n": 1}, feature(json!({"version": "sixteen"})), {"kind": "alias", "n": 2}]),
            json!([{"kind": "alias", "n": 1}, {"kind": "alias", "n": 2}]),
        ),
        dialogue(
            "L209",
            2,
            json!([feature(json!({"variation": 1, "trackEvents": true, "excludeFromSummaries": true}))]),
            json!([index(user()), full("feature", "rule", json!(1))]),
        ),
        Dialogue {
            row: "L210: mobile",
            call: post("/mobile/events", MOBILE_KEY, 2, &json!([feature(json!({}))])),
            arrives: once(plain()),
        },
        Dialogue {
            row: "L210: browser",
            call: post(&format!("/events/bulk/{ENV_ID}"), "nonsense", 1, &json!([feature(json!({}))])),
            arrives: once(counted()),
        },
    ]
}

#[tokio::test]
async fn events_of_old_sdks_are_summarized_in_the_current_format() {
    // The interval is long and the flush is that of the shutdown, so that nothing is split.
    let gateway = long_interval(Setup::with(some_flags())).start().await;
    let dialogues = dialogues();
    for dialogue in &dialogues {
        let call = dialogue.call.clone().header("X-LaunchDarkly-Tags", &dialogue.tag());
        let answer = match dialogue.row {
            "L210: browser" => empty(202).cors("*", "POST,OPTIONS"),
            _ => empty(202),
        };
        gateway.answers_as(dialogue.row, call, answer).await;
    }
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let posts: Vec<_> = upstream.requests().into_iter().filter(|it| it.method == "POST").collect();
    for dialogue in &dialogues {
        let row = dialogue.row;
        let tag = dialogue.tag();
        let [post] = &posts.iter().filter(|it| it.header("x-launchdarkly-tags") == Some(&tag)).collect::<Vec<_>>()[..]
        else {
            panic!("{row}: not one post: {posts:?}");
        };
        assert_eq!(post.json(), dialogue.arrives, "{row}");
        let (path, authorization) = match row {
            "L210: mobile" => ("/mobile".to_owned(), Some(MOBILE_KEY)),
            "L210: browser" => (format!("/events/bulk/{ENV_ID}"), None),
            _ => ("/bulk".to_owned(), Some(SDK_KEY)),
        };
        assert_eq!(post.path, path, "{row}");
        assert_eq!(head(post), expected_head(post, authorization, Some(&tag)), "{row}");
    }
    assert_eq!(posts.len(), dialogues.len(), "nothing else was sent");
}

/// Returns all headers of a post except those of the connection.
fn head(post: &Recorded) -> Vec<(String, String)> {
    let headers = post.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()));
    let mut headers: Vec<_> =
        headers.filter(|(name, _)| !["host", "content-length"].contains(&name.as_str())).collect();
    headers.sort_unstable();
    headers
}

/// L184, with schema 4.
fn expected_head(post: &Recorded, authorization: Option<&str>, tags: Option<&str>) -> Vec<(String, String)> {
    let id = post.header("x-launchdarkly-payload-id").expect("a payload ID");
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
    let headers = [
        ("accept", Some("*/*")),
        ("authorization", authorization),
        ("content-encoding", Some("gzip")),
        ("content-type", Some("application/json")),
        ("user-agent", Some(concat!("Yardarm/", env!("CARGO_PKG_VERSION")))),
        ("x-launchdarkly-event-schema", Some("4")),
        ("x-launchdarkly-payload-id", Some(id)),
        ("x-launchdarkly-tags", tags),
    ];
    headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

fn long_interval(setup: Setup) -> Setup {
    setup.events().set("launchdarkly.events_flush_interval", "1h")
}

async fn posts(gateway: &Running, path: &str, count: usize) -> Vec<Recorded> {
    gateway.eventually(&format!("{count} posts to {path}"), || gateway.upstream.posts(path).len() >= count).await;
    gateway.upstream.posts(path)
}

/// Returns the event counts from the admin listener.
async fn ledger(gateway: &Running) -> Value {
    gateway.operator_gets("/api/environments").await.json()["environments"][0]["events"].clone()
}

/// Waits until this many events were received and none is pending.
async fn settled(gateway: &Running, received: u64) -> Value {
    within(&format!("{received} events to be settled"), async {
        loop {
            let ledger = ledger(gateway).await;
            if ledger["received"] == received && ledger["pending"] == 0 {
                return ledger;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

fn kinds(post: &Recorded) -> Vec<String> {
    let events = post.json();
    events.as_array().expect("an array").iter().map(|it| it["kind"].as_str().expect("a kind").to_owned()).collect()
}

#[tokio::test]
async fn posts_are_summarized_per_interval() {
    // U169
    let gateway = long_interval(Setup::with(some_flags())).start().await;
    let events = json!([feature(json!({"variation": 1}))]);
    for (schema, tags) in [(2, "a"), (2, "a"), (2, "b"), (1, "a"), (2, "a"), (4, "a")] {
        let call = bulk(schema, &events).header("X-LaunchDarkly-Tags", tags);
        let call = if schema == 4 { call.header("X-LaunchDarkly-Unsummarized", "1") } else { call };
        gateway.answers_as("L197 to L210", call, empty(202)).await;
    }
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let mut sent: Vec<_> = upstream
        .posts("/bulk")
        .iter()
        .map(|it| {
            assert_eq!(
                (it.header("x-launchdarkly-event-schema"), kinds(it)),
                (Some("4"), ["index", "summary"].map(str::to_owned).to_vec())
            );
            let tags = it.header("x-launchdarkly-tags").expect("tags").to_owned();
            (tags, it.json()[1]["features"]["rule"]["counters"][0]["count"].as_i64().expect("a count"))
        })
        .collect();
    sent.sort();
    let owned = |tags: &str, count| (tags.to_owned(), count);
    // Three processors of tag `a`, by schema; each sends the context once.
    assert_eq!(sent, [owned("a", 1), owned("a", 1), owned("a", 3), owned("b", 1)]);
}

#[tokio::test]
async fn a_context_is_indexed_once_and_counters_are_reset() {
    let gateway = Setup::with(some_flags()).events().start().await;
    for n in 1..=2 {
        gateway.answers_as("L197 to L210", bulk(2, &json!([feature(json!({"creationDate": n}))])), empty(202)).await;
        posts(&gateway, "/bulk", n).await;
    }
    let sent = posts(&gateway, "/bulk", 2).await;
    assert_eq!(
        (kinds(&sent[0]), kinds(&sent[1])),
        (vec!["index".to_owned(), "summary".to_owned()], vec!["summary".to_owned()])
    );
    let summary = &sent[1].json()[0];
    assert_eq!((&summary["startDate"], &summary["endDate"]), (&json!(2), &json!(2)));
    assert_eq!(summary["features"]["rule"]["counters"][0]["count"], 1);
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    assert_eq!(upstream.posts("/bulk").len(), 2, "nothing new, so nothing is sent at the end");
}

#[tokio::test]
async fn summaries_are_retried_once_and_every_event_is_counted() {
    let gateway = Setup::with(some_flags()).events().start().await;
    gateway.upstream.answers_posts_with([503]);
    let counted = json!([feature(json!({})), feature(json!({})), feature(json!({})), 7, {"kind": "custom"}]);
    gateway.answers_as("L181 to L189", bulk(2, &counted), empty(202)).await;
    let sent = posts(&gateway, "/bulk", 2).await;
    assert_eq!(sent[0].header("x-launchdarkly-payload-id"), sent[1].header("x-launchdarkly-payload-id"));
    assert_eq!(sent[0].raw_body, sent[1].raw_body);
    assert!(sent[1].at - sent[0].at >= Duration::from_millis(950));
    let report = settled(&gateway, 5).await;
    let expected = json!({"received": 5, "delivered": 3, "pending": 0, "filtered": [], "dropped": [["malformed", 2]]});
    assert_eq!(report, expected, "three that became two");

    // Events that were only counted are lost with their summary.
    gateway.upstream.answers_posts_with([503, 503]);
    gateway.answers_as("L181 to L189", bulk(2, &json!([feature(json!({})), feature(json!({}))])), empty(202)).await;
    posts(&gateway, "/bulk", 4).await;
    let report = settled(&gateway, 7).await;
    assert_eq!(report["delivered"], 3);
    assert_eq!(report["dropped"], json!([["malformed", 2], ["upstream-error", 2]]));

    // The next post is delivered; events that result in nothing are reported as such.
    let silent = feature(json!({"excludeFromSummaries": true}));
    gateway.answers_as("L181 to L189", bulk(2, &json!([silent, feature(json!({}))])), empty(202)).await;
    let report = settled(&gateway, 9).await;
    let dropped = json!([["malformed", 2], ["nothing-to-send", 1], ["upstream-error", 2]]);
    assert_eq!((&report["delivered"], &report["dropped"]), (&json!(4), &dropped));
    assert_eq!(gateway.upstream.posts("/bulk").len(), 5);
}

#[tokio::test]
async fn a_rejection_of_one_format_does_not_affect_the_other() {
    let alias = |n: u32| json!([{"kind": "alias", "n": n}]);
    for (refused, other) in [(4, 2), (2, 4)] {
        let gateway = Setup::with(some_flags()).events().start().await;
        gateway.upstream.answers_posts_with([401]);
        for (received, events) in [(1, alias(1)), (2, alias(2))] {
            gateway.answers_as("L181 to L189", bulk(refused, &events), empty(202)).await;
            let report = settled(&gateway, received).await;
            assert_eq!(report["delivered"], 0, "{report}");
        }
        gateway.answers_as("L181 to L189", bulk(other, &alias(3)), empty(202)).await;
        let mobile = post("/mobile", MOBILE_KEY, refused, &alias(4));
        gateway.answers_as("L181 to L189", mobile, empty(202)).await;
        settled(&gateway, 4).await;
        let sent: Vec<_> = gateway.upstream.posts("/bulk").iter().map(Recorded::json).collect();
        assert_eq!(sent, [alias(1), alias(3)], "refused in schema {refused}");
        assert_eq!(gateway.upstream.posts("/mobile").len(), 1);
    }
}

#[tokio::test]
async fn a_full_queue_is_sent_at_once_and_nothing_is_lost() {
    let gateway = long_interval(Setup::with(some_flags())).set("launchdarkly.events_capacity", 3).start().await;
    let custom = |key: &str| json!({"kind": "custom", "creationDate": 1000, "key": key, "user": {"key": "u1"}});
    let events = json!([custom("a"), custom("b"), custom("c"), feature(json!({})), custom("d"), feature(json!({}))]);
    gateway.answers_as("L197 to L210", bulk(2, &events), empty(202)).await;
    let sent = posts(&gateway, "/bulk", 1).await;
    assert_eq!(kinds(&sent[0]), ["index", "custom", "custom"], "before its time");
    let upstream = gateway.upstream.clone();
    gateway.stop().await;
    let [_, post] = &upstream.posts("/bulk")[..] else { panic!("two posts") };
    assert_eq!(kinds(post), ["custom", "custom", "summary"]);
    assert_eq!(post.json()[2]["features"]["rule"]["counters"][0]["count"], 2);
}

#[tokio::test]
async fn many_processors_of_one_flush_all_arrive() {
    let gateway = Setup::with(some_flags()).events().set("launchdarkly.events_flush_interval", "2s").start().await;
    for n in 0..150 {
        let call = bulk(2, &json!([feature(json!({}))])).header("X-LaunchDarkly-Tags", &format!("application-id/{n}"));
        gateway.answers_as("150 tag values", call, empty(202)).await;
    }
    let report = settled(&gateway, 150).await;
    assert_eq!((&report["delivered"], &report["dropped"]), (&json!(150), &json!([])), "{report}");
}

#[tokio::test]
async fn the_clock_of_the_events_service_ends_debugging_too() {
    let gateway = Setup::with(some_flags()).events().start().await;
    gateway.upstream.dates_posts("Fri, 01 Jan 2100 00:00:00 GMT");
    for (n, until_ms, is_debugged) in [
        (1, now_ms() + 3_600_000, true),
        // The clock of the fake is in the year 2100 by now.
        (2, now_ms() + 3_600_000, false),
        (3, 4_102_444_800_000, false),
        (4, 4_102_444_800_001, true),
    ] {
        let events = json!([feature(json!({"debugEventsUntilDate": until_ms}))]);
        gateway.answers_as("L202", bulk(2, &events), empty(202)).await;
        settled(&gateway, n).await;
        let sent = gateway.upstream.posts("/bulk");
        assert_eq!(kinds(sent.last().expect("a post")).contains(&"debug".to_owned()), is_debugged, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_filter_events_before_they_are_summarized() {
    let filter = Guest::new("first").hook(GuestHook::EventFilter, guests::DROP_FIRST).component().expect("a component");
    let plugged = Plugged::start(Setup::with(some_flags()).events(), |folder| {
        put(folder, "first.toml", "[plugin]\nname = \"first\"\n[[bind]]\nhook = \"event-filter\"\n");
        put(folder, "first.wasm", filter);
    })
    .await;
    plugged.wait_until_active("first").await;
    let gateway = &plugged.gateway;
    let events = json!([feature(json!({"user": {"key": "dropped"}})), feature(json!({})), feature(json!({}))]);
    gateway.answers_as("L197 to L210", bulk(2, &events), empty(202)).await;
    let report = settled(gateway, 3).await;
    let expected = json!({"received": 3, "delivered": 2, "pending": 0, "filtered": [["first", 1]], "dropped": []});
    assert_eq!(report, expected);
    let sent = &posts(gateway, "/bulk", 1).await[0];
    let counter = json!({"version": 16, "value": false, "count": 2});
    assert_eq!(sent.json(), json!([index(json!({"key": "u1"})), summary("rule", counter, "user")]));
}
