//! Client-side streams that send changed results, like those of LaunchDarkly's own service:
//! `launchdarkly.client_streams`.
//!
//! The reference has no such streams. The tests assert what SDKs need: see
//! `host/launchdarkly/src/evaluated_streams/delta.rs`.

use serde_json::{Map, Value, json};
use yardarm_testkit::{Call, StreamItem, within};

use super::auto_config::{AUTO_KEY, ID, environment as listed, path as listed_path, ready, setup as listing};
use super::evaluation::segment_of;
use super::server::shown;
use crate::expected::message;
use crate::flags::{data, flag, flag_with, segment, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};
use crate::sdk::Sdk;

const SETTING: &str = "launchdarkly.client_streams";
const USER: &str = r#"{"kind":"user","key":"a"}"#;

fn evaluated(data: Value) -> Setup {
    Setup::with(data).set(SETTING, "evaluated")
}

/// Returns the four routes, each with the poll that returns the same results.
fn streams() -> [(Call, Call); 4] {
    let mobile = || Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY);
    let browser = || Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"));
    [
        (Call::get(format!("/meval/{CTX}")).key(MOBILE_KEY), mobile()),
        (Call::report("/meval", USER).key(MOBILE_KEY), mobile()),
        (Call::get(format!("/eval/{ENV_ID}/{CTX}")), browser()),
        (Call::report(format!("/eval/{ENV_ID}"), USER), browser()),
    ]
}

/// The results of a stream, merged as in SDKs.
struct Client {
    sdk: Sdk,
    poll: Call,
    items: Map<String, Value>,
}

impl Client {
    async fn opens(gateway: &Running, stream: &Call, poll: &Call) -> Self {
        Self { sdk: gateway.opens_with(stream).await, poll: poll.clone(), items: Map::new() }
    }

    /// Reads the events of one step, which are ordered by key. The merged results must then equal those of a poll.
    async fn receives(&mut self, gateway: &Running, events: &[&str]) {
        for expected in events {
            let (name, key) = expected.split_once(' ').unwrap_or((expected, ""));
            let mut data = self.sdk.receives_event(name).await;
            if name == "put" {
                self.items = data.as_object().expect("all results").clone();
                continue;
            }
            let data = data.as_object_mut().expect("one result");
            assert_eq!(data.remove("key"), Some(json!(key)));
            let known = self.items.get(key).map_or(0, |it| it["version"].as_i64().expect("a version"));
            assert!(data["version"].as_i64().is_some_and(|it| it > known), "{data:?} is newer than version {known}");
            if name == "delete" {
                assert_eq!(data.len(), 1, "{data:?}");
                self.items.remove(key);
            } else {
                self.items.insert(key.to_owned(), Value::Object(data.clone()));
            }
        }
        let answer = gateway.answers(&self.poll).await.json();
        assert_eq!(Value::Object(self.items.clone()), answer, "{} and the stream beside it", self.poll);
    }
}

async fn all(gateway: &Running) -> Vec<Client> {
    let mut clients = Vec::new();
    for (stream, poll) in streams() {
        let mut client = Client::opens(gateway, &stream, &poll).await;
        client.receives(gateway, &["put"]).await;
        clients.push(client);
    }
    clients
}

/// Further flags, so that sending a part of them is worthwhile.
fn more_flags() -> impl Iterator<Item = Value> {
    (0..20).map(|it| flag(&format!("more{it:02}"), 1))
}

#[tokio::test]
async fn four_routes_send_deltas_and_two_still_send_pings() {
    let hidden = json!({"clientSideAvailability": {"usingMobileKey": false, "usingEnvironmentId": false}});
    let needy = flag_with("needy", 5, json!({"prerequisites": [{"key": "plain", "variation": 0}]}));
    let clause = json!({"attribute": "", "op": "segmentMatch", "values": ["crew"], "negate": false});
    let crewed = flag_with("crewed", 2, json!({"rules": [{"id": "r", "variation": 1, "clauses": [clause]}]}));
    let secret = flag_with("secret", 1, hidden.clone());
    let start = || more_flags().chain([flag("plain", 3), needy.clone(), crewed.clone(), secret.clone()]);
    let gateway = evaluated(data(start(), [segment("crew", 2)])).start().await;
    let cloud = &gateway.upstream;
    let mut clients = all(&gateway).await;
    let mut pinged = Vec::new();
    for call in [Call::get("/mping").key(MOBILE_KEY), Call::get(format!("/ping/{ENV_ID}"))] {
        let mut sdk = gateway.opens_with(&call).await;
        sdk.receives_ping().await;
        pinged.push(sdk);
    }
    let mut crew = segment("crew", 3);
    let crew_with = |version: i64, key: &str| {
        let mut crew = segment("crew", version);
        crew["included"] = json!([key]);
        crew
    };
    crew["excluded"] = json!(["somebody"]);
    let was = || cloud.patches(SDK_KEY, &flag("plain", 12));
    type Change<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);
    let changes: [Change<'_>; 18] = [
        ("a flag", &|| cloud.patches(SDK_KEY, &flag("plain", 4)), &["patch plain"]),
        ("a new flag", &|| cloud.patches(SDK_KEY, &flag("fresh", 1)), &["patch fresh"]),
        ("an old version", &|| cloud.patches(SDK_KEY, &flag("plain", 1)), &[]),
        ("an invisible flag", &|| cloud.patches(SDK_KEY, &flag_with("secret", 2, hidden.clone())), &[]),
        ("a segment, for others", &|| cloud.patches_segment(SDK_KEY, &crew), &[]),
        ("a segment", &|| cloud.patches_segment(SDK_KEY, &crew_with(4, "a")), &["put"]),
        ("a segment's deletion", &|| cloud.deletes(SDK_KEY, "/segments/crew", 5), &["put"]),
        ("a prerequisite", &|| cloud.patches(SDK_KEY, &flag_with("plain", 5, json!({"on": false}))), &["put"]),
        ("a deletion of what another needs", &|| cloud.deletes(SDK_KEY, "/flags/plain", 6), &["put"]),
        ("its return", &|| cloud.patches(SDK_KEY, &flag("plain", 7)), &["put"]),
        ("a deletion", &|| cloud.deletes(SDK_KEY, "/flags/fresh", 9), &["delete fresh"]),
        ("a deletion of what is gone", &|| cloud.deletes(SDK_KEY, "/flags/fresh", 10), &[]),
        ("a return", &|| cloud.patches(SDK_KEY, &flag("fresh", 11)), &["patch fresh"]),
        (
            "a flag that is hidden",
            &|| cloud.patches(SDK_KEY, &flag_with("fresh", 12, hidden.clone())),
            &["delete fresh"],
        ),
        ("a flag that is shown", &|| cloud.patches(SDK_KEY, &flag("fresh", 13)), &["patch fresh"]),
        ("everything anew", &|| cloud.puts(SDK_KEY, &data(start(), [])), &["put"]),
        ("the same again", &|| cloud.puts(SDK_KEY, &data(start(), [])), &[]),
        ("a flag once more", &was, &["patch plain"]),
    ];
    for (what, change, events) in changes {
        change();
        for sdk in &mut pinged {
            sdk.receives_ping().await;
        }
        for client in &mut clients {
            // If nothing is sent, the next change shows it: its events would come second.
            within(what, client.receives(&gateway, events)).await;
        }
    }
    let mut stop = std::pin::pin!(gateway.stop());
    let mut ends = std::pin::pin!(async {
        for client in &mut clients {
            client.sdk.receives_end().await;
        }
    });
    futures_util::future::join(stop.as_mut(), ends.as_mut()).await;
}

#[tokio::test]
async fn response_heads_equal_those_of_ping_streams() {
    let pinging = Setup::with(some_data()).set(SETTING, "ping").start().await;
    let evaluating = evaluated(some_data()).start().await;
    for (call, _) in streams() {
        let call = call.header("Origin", "https://app.example");
        let mut ping = pinging.opens_with(&call).await;
        ping.receives_ping().await;
        let mut put = evaluating.opens_with(&call).await;
        put.receives("put", json!({"plain": {"value": true, "variation": 0, "version": 3}})).await;
        assert_eq!(shown(&put), shown(&ping), "{call}");
    }
}

#[tokio::test]
async fn the_bytes_are_those_that_sdks_expect() {
    let gateway = evaluated(data([flag("a", 1), flag("b\"", 2), flag("c", 3)], [])).start().await;
    let (call, _) = &streams()[2];
    let mut sdk = gateway.opens_with(call).await;
    sdk.receives_event("put").await;
    gateway.upstream.patches(SDK_KEY, &flag_with("b\"", 3, json!({"trackEvents": true})));
    sdk.receives_event("patch").await;
    gateway.upstream.deletes(SDK_KEY, "/flags/b\"", 4);
    sdk.receives_event("delete").await;
    let chunks: Vec<_> = sdk.client().chunks().iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect();
    let b = r#""value":true,"variation":0,"version""#;
    let expected = [
        format!("event: put\ndata: {{\"a\":{{{b}:1}},\"b\\\"\":{{{b}:2}},\"c\":{{{b}:3}}}}\n\n"),
        format!("event: patch\ndata: {{\"key\":\"b\\\"\",{b}:3,\"trackEvents\":true}}\n\n"),
        "event: delete\ndata: {\"key\":\"b\\\"\",\"version\":4}\n\n".to_owned(),
    ];
    assert_eq!(chunks, expected);
}

#[tokio::test]
async fn each_client_receives_the_results_of_its_own_request() {
    let targets = json!({"targets": [{"values": ["a"], "variation": 1}]});
    let flags = more_flags().chain([flag_with("plain", 3, targets.clone()), flag("open", 1)]);
    let gateway = evaluated(data(flags, [])).start().await;
    let open = async |context: &str, query: &str| {
        let poll = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{}{query}", segment_of(context)));
        let stream = Call::get(format!("/eval/{ENV_ID}/{}{query}", segment_of(context)));
        let mut client = Client::opens(&gateway, &stream, &poll).await;
        client.receives(&gateway, &["put"]).await;
        client
    };
    let mut plain = open(USER, "").await;
    let mut with_reasons = open(USER, "?withReasons=true&h=any").await;
    let mut somebody_else = open(r#"{"kind":"user","key":"else"}"#, "?withReasons=false").await;
    assert_eq!(plain.items["plain"], json!({"value": false, "variation": 1, "version": 3}));
    let reason = json!({"value": false, "variation": 1, "version": 3, "reason": {"kind": "TARGET_MATCH"}});
    assert_eq!(with_reasons.items["plain"], reason);
    assert_eq!(somebody_else.items["plain"]["value"], true);
    gateway.upstream.patches(SDK_KEY, &flag_with("plain", 4, targets));
    for client in [&mut plain, &mut with_reasons, &mut somebody_else] {
        client.receives(&gateway, &["patch plain"]).await;
    }
    assert_eq!(with_reasons.items["plain"]["reason"], json!({"kind": "TARGET_MATCH"}));
    // An old user without a key may open a stream, and has no results: evalx returns an error.
    let mut keyless = gateway.opens_with(&Call::report("/meval", r#"{"key":""}"#).key(MOBILE_KEY)).await;
    keyless.receives_ping().await;
}

#[tokio::test]
async fn streams_do_not_keep_large_contexts_and_send_pings_instead() {
    let gateway = evaluated(data(more_flags(), [])).start().await;
    let context = |size: usize| json!({"kind": "user", "key": "a", "about": "x".repeat(size)}).to_string();
    let (small, large) = (context(32_000), context(33_000));
    let browser = |context: &str| Call::report(format!("/eval/{ENV_ID}"), context.to_owned());
    let mut kept = gateway.opens_with(&browser(&small)).await;
    kept.receives_event("put").await;
    let in_path = Call::get(format!("/eval/{ENV_ID}/{}", segment_of(&large)));
    let mut pinged = Vec::new();
    for call in [browser(&large), Call::report("/meval", large).key(MOBILE_KEY), in_path] {
        let mut sdk = gateway.opens_with(&call).await;
        sdk.receives_ping().await;
        pinged.push(sdk);
    }
    gateway.upstream.patches(SDK_KEY, &flag("more00", 2));
    kept.receives_event("patch").await;
    for sdk in &mut pinged {
        sdk.receives_ping().await;
    }
}

#[tokio::test]
async fn a_burst_may_be_merged_and_received_results_can_be_polled() {
    let gateway = evaluated(data(more_flags(), [])).start().await;
    let (stream, poll) = &streams()[0];
    let mut sdk = gateway.opens_with(stream).await;
    sdk.receives_event("put").await;
    for version in 2..=40 {
        gateway.upstream.patches(SDK_KEY, &flag("more00", version));
        gateway.upstream.patches(SDK_KEY, &flag("more01", version));
    }
    let (mut versions, mut events) = ([1, 1], 0);
    while versions != [40, 40] {
        let received = within("an event", sdk.next()).await;
        let StreamItem::Event { name, data } = received else { panic!("{received:?}") };
        let data: serde_json::Value = serde_json::from_str(&data).expect("JSON");
        // A slow reader, as on a busy machine, receives the full data.
        let received: Vec<_> = match name.as_str() {
            "patch" => vec![(data["key"].as_str().expect("a key"), &data)],
            "put" => ["more00", "more01"].into_iter().map(|key| (key, &data[key])).collect(),
            other => panic!("`{other}`"),
        };
        events += 1;
        let polled = gateway.answers(poll).await.json();
        for (key, flag) in received {
            let index = usize::from(key == "more01");
            let version = flag["version"].as_i64().expect("a version");
            assert!(version > versions[index] || name == "put", "{flag} after {versions:?}");
            assert!(version >= versions[index], "{flag} after {versions:?}");
            versions[index] = version;
            assert!(polled[key]["version"].as_i64() >= Some(version), "{polled}");
        }
    }
    assert!(events <= 78, "{events} events for 78 changes");
    gateway.upstream.patches(SDK_KEY, &flag("more02", 2));
    let patch = sdk.receives_event("patch").await;
    assert_eq!(patch, json!({"key": "more02", "value": true, "variation": 0, "version": 2}), "nothing came between");
    // Many changes at once result in one event.
    let newer = (0..20).map(|it| flag(&format!("more{it:02}"), 50));
    gateway.upstream.puts(SDK_KEY, &data(newer, []));
    assert_eq!(sdk.receives_event("put").await, gateway.answers(poll).await.json());
}

#[tokio::test]
async fn streams_wait_for_data_and_receive_heartbeats_meanwhile() {
    let setup = Setup::new().set("launchdarkly.init_timeout", "20ms").set("launchdarkly.heartbeat_interval", "20ms");
    let gateway = setup.set(SETTING, "evaluated").start().await;
    let mut clients = Vec::new();
    for (stream, poll) in streams() {
        let mut client = Client::opens(&gateway, &stream, &poll).await;
        client.sdk.receives_only_heartbeats(3).await;
        clients.push(client);
    }
    gateway.upstream.puts(SDK_KEY, &some_data());
    for client in &mut clients {
        client.receives(&gateway, &["put"]).await;
        client.sdk.receives_only_heartbeats(3).await;
    }
}

#[tokio::test]
async fn admission_and_ends_equal_those_of_ping_streams() {
    let setup = evaluated(some_data()).environment(json!({"secure_mode": true}));
    let gateway = setup.set("launchdarkly.max_client_connection_time", "400ms").start().await;
    let refusal = "Environment is in secure mode, and context hash does not match.";
    let refused = message(400, refusal).with("x-accel-buffering: no").cors("*", "GET,OPTIONS");
    gateway.answers_as("L145", Call::get(format!("/eval/{ENV_ID}/{CTX}?h=0")), refused).await;
    let no_base64 = message(400, "context part of URL path did not decode as valid base64");
    let call = Call::get("/meval/!!!!").key(MOBILE_KEY);
    gateway.answers_as("L090", call, no_base64.with("x-accel-buffering: no")).await;
    let (stream, poll) = &streams()[0];
    let mut client = Client::opens(&gateway, stream, poll).await; // phones need no hash
    client.receives(&gateway, &["put"]).await;
    client.sdk.receives_end().await;
}

#[tokio::test]
async fn a_withdrawn_key_ends_streams() {
    let gateway = ready(listing().set(SETTING, "evaluated")).await;
    let stream = format!("/meval/{CTX}");
    let mut phone = gateway.opens(&stream, &format!("mob-{ID}")).await;
    let mut browser = gateway.opens_with(&Call::get(format!("/eval/{ID}/{CTX}"))).await;
    phone.receives_event("put").await;
    browser.receives_event("put").await;
    let changed = listed(ID, 2, json!({"value": "sdk-a"}), json!({"mobKey": "mob-new"}));
    gateway.upstream.lists_one(AUTO_KEY, &listed_path(ID), &changed);
    phone.receives_end().await;
    let mut phone = gateway.opens(&stream, "mob-new").await;
    phone.receives_event("put").await;
    gateway.upstream.patches("sdk-a", &flag("other", 4));
    for sdk in [&mut phone, &mut browser] {
        // With so few flags the full data may be shorter than a delta: both contain the flag.
        match within("the change", sdk.next()).await {
            StreamItem::Event { data, .. } => assert!(data.contains("other"), "{data}"),
            other => panic!("{other:?}"),
        }
    }
}
