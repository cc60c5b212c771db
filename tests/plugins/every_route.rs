//! Plugins are called on every route that has a hook, and no route bypasses them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use yardarm_testkit::guests::{self as fragments, Guest, GuestHook};
use yardarm_testkit::{Answer, Call, within};

use super::{Plugged, gate, put, redactor, sample};
use crate::expected::{Expected, TEXT_C, TEXT_D, empty, some_json, text};
use crate::flags::some_data;
use crate::launchdarkly::{Caller, Family, ROUTES, Route};
use crate::running::{ENV_ID, Running, Setup};

const RULES: &str = r#"drop = ["email"]
drop_kinds = ["click", "diagnostic-noise"]"#;

/// One event with private data, and one to be dropped.
const EVENTS: &str = r#"[{"kind":"identify","creationDate":1,"context":{"kind":"user","key":"ada","email":"ada@example.com"}},{"kind":"click","creationDate":2,"context":{"kind":"user","key":"ada"}}]"#;

fn is_diagnostic(route: &Route) -> bool {
    route.path(ENV_ID).contains("diagnostic")
}

/// Returns the event counts of the only environment from `/api/environments`.
async fn ledger(gateway: &Running) -> Value {
    gateway.operator_gets("/api/environments").await.json()["environments"][0]["events"].clone()
}

async fn settled(gateway: &Running, received: u64) -> Value {
    within(&format!("{received} events to be settled"), async {
        loop {
            let ledger = ledger(gateway).await;
            if ledger["received"] == received && ledger["pending"] == 0 {
                return ledger;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_filter_sees_every_event_of_every_route() {
    let plugged = Plugged::start(Setup::with(some_data()).events(), |folder| {
        put(folder, "event-redactor.toml", redactor(RULES));
        put(folder, "event-redactor.wasm", sample("event-redactor"));
    })
    .await;
    plugged.wait_until_active("event-redactor").await;
    let gateway = &plugged.gateway;
    let (mut received, mut filtered) = (0, 0);
    for route in ROUTES.iter().filter(|route| route.family == Family::Post) {
        let bodies = if is_diagnostic(route) {
            // Each diagnostic is a batch of one event.
            let secret = r#"{"kind":"diagnostic-init","id":{"diagnosticId":"d1"},"user":{"key":"ada","email":"ada@example.com"}}"#;
            [(secret, "4"), (r#"{"kind":"diagnostic-noise"}"#, "4")]
        } else {
            // Forwarded verbatim, and summarized.
            [(EVENTS, "4"), (EVENTS, "1")]
        };
        for (body, schema) in bodies {
            let call = route.call(ENV_ID).body(body).header("X-LaunchDarkly-Event-Schema", schema);
            let call = route.credential().into_iter().fold(call, Call::key);
            gateway.answers_as("L191 to L196: as if there were no plugin", call, route.found(empty(202))).await;
        }
        (received, filtered) =
            if is_diagnostic(route) { (received + 2, filtered + 1) } else { (received + 4, filtered + 2) };
    }
    let pixel = Call::get(format!("/a/{ENV_ID}.gif?d={}", STANDARD.encode(EVENTS).replace('+', "%2B")));
    assert_eq!(gateway.answers(&pixel).await.status, 200);
    (received, filtered) = (received + 2, filtered + 1);

    let ledger = settled(gateway, received).await;
    let expected = json!({
        "received": received, "delivered": received - filtered, "pending": 0,
        "filtered": [["event-redactor", filtered]], "dropped": [],
    });
    assert_eq!(ledger, expected);

    let posts: Vec<_> = gateway.upstream.requests().into_iter().filter(|it| it.method == "POST").collect();
    for post in &posts {
        let body = post.json().to_string();
        assert!(!body.contains("example.com"), "{} {body}", post.path);
        assert!(!body.contains("click") && !body.contains("noise"), "{} {body}", post.path);
    }
    // Events that passed the filter have been forwarded, whatever route received them.
    let count = |kind: &str| posts.iter().map(|it| it.json().to_string().matches(kind).count()).sum::<usize>();
    assert_eq!(count("identify"), 5 * 2 + 1);
    assert_eq!(count("diagnostic-init"), 3);
}

#[tokio::test]
async fn a_filter_is_called_with_events_only() {
    let plugged = Plugged::start(Setup::with(some_data()).events(), |folder| {
        put(folder, "event-redactor.toml", redactor(RULES));
        put(folder, "event-redactor.wasm", sample("event-redactor"));
    })
    .await;
    plugged.wait_until_active("event-redactor").await;
    let body = format!("[7,null,[],\"ada@example.com\",{}", &EVENTS[1..]);
    let post = Call::post(format!("/events/bulk/{ENV_ID}"), body).header("X-LaunchDarkly-Event-Schema", "4");
    assert_eq!(plugged.gateway.answers(&post).await.status, 202);
    let ledger = settled(&plugged.gateway, 6).await;
    assert_eq!(ledger["dropped"], json!([["malformed", 4]]));
    assert_eq!((&ledger["delivered"], &ledger["filtered"]), (&json!(1), &json!([["event-redactor", 1]])));
}

#[tokio::test]
async fn a_diagnostic_that_no_filter_can_decide_on_is_not_forwarded() {
    let plugged = Plugged::start(Setup::with(some_data()).events(), |folder| {
        put(folder, "event-redactor.toml", redactor(RULES));
        put(folder, "event-redactor.wasm", sample("event-redactor"));
    })
    .await;
    plugged.wait_until_active("event-redactor").await;
    let post = |body: &str| Call::post(format!("/events/diagnostic/{ENV_ID}"), body);
    for body in ["ada@example.com", "[\"ada@example.com\"]", "{", "7"] {
        assert_eq!(plugged.gateway.answers(&post(body)).await.status, 202, "{body}");
    }
    let ledger = settled(&plugged.gateway, 4).await;
    assert_eq!((&ledger["dropped"], &ledger["delivered"]), (&json!([["malformed", 4]]), &json!(0)), "{ledger}");
    assert!(plugged.gateway.upstream.requests().iter().all(|it| it.method != "POST"));
}

#[tokio::test]
async fn diagnostics_wait_for_an_unavailable_filter() {
    let plugged =
        Plugged::start(Setup::with(some_data()).events(), |folder| put(folder, "event-redactor.toml", redactor(RULES)))
            .await;
    let path = format!("/events/diagnostic/{ENV_ID}");
    let body = r#"{"kind":"diagnostic-init","user":{"key":"ada","email":"ada@example.com"}}"#;
    assert_eq!(plugged.gateway.answers(&Call::post(&path, body)).await.status, 202);
    within("the diagnostic to be held", async {
        while ledger(&plugged.gateway).await["pending"] != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(plugged.gateway.upstream.posts(&path).is_empty());
    plugged.drops("event-redactor.wasm", sample("event-redactor"));
    settled(&plugged.gateway, 1).await;
    let posts = plugged.gateway.upstream.posts(&path);
    assert_eq!(posts.len(), 1);
    assert!(!posts[0].json().to_string().contains("example.com"));
}

/// Compares a response. `again` is the plugin's minimum delay for a retry; up to half of it is added.
fn compare(label: &str, expected: &Expected, mut answer: Answer, again: Option<u32>) {
    let Some(least) = again else { return expected.compare(label, &answer) };
    let seconds: u32 = answer.header("retry-after").expect("Retry-After").parse().expect("seconds");
    assert!((least..=least + least / 2).contains(&seconds), "{label}: {seconds}");
    answer.headers.retain(|(name, _)| name != "retry-after");
    expected.clone().passed_through().compare(label, &answer);
}

/// Checks the routes that plugins are not called for.
async fn assert_open(gateway: &Running) {
    gateway.answers_as("/status needs no credential", Call::get("/status"), some_json(200)).await;
    for route in ROUTES.iter().filter(|route| route.caller == Caller::Browser) {
        gateway
            .answers_as("preflights carry nothing", Call::options(route.path(ENV_ID)), route.found(empty(200)))
            .await;
    }
}

#[tokio::test]
async fn a_gate_is_called_on_every_route() {
    for (class, more) in
        [("unauthorized", ""), ("forbidden", ""), ("rate-limited", "retry_after = 7"), ("unavailable", "")]
    {
        let binding = gate(&format!("deny_as = \"{class}\"\n{more}"));
        let plugged = Plugged::start(Setup::with(some_data()).events(), |folder| {
            put(folder, "request-gate.toml", binding);
            put(folder, "request-gate.wasm", sample("request-gate"));
        })
        .await;
        plugged.wait_until_active("request-gate").await;
        for route in &ROUTES {
            let (expected, again) = match class {
                // The response to an unknown credential.
                "unauthorized" if route.caller == Caller::Browser => (text(404, TEXT_D), None),
                "unauthorized" => (text(401, TEXT_C), None),
                "forbidden" => (empty(403), None),
                "rate-limited" => (empty(429), Some(7)),
                _ => (empty(503), None),
            };
            let label = format!("{class}, route {}", route.row);
            compare(&label, &route.found(expected), plugged.gateway.answers(&route.right()).await, again);
            if route.family != Family::Stream {
                let passes = route.right().header("X-Gate-Token", "open sesame");
                let status = if route.family == Family::Post { 202 } else { 200 };
                assert_eq!(plugged.gateway.answers(&passes).await.status, status, "{label}, with the token");
            }
        }
        assert_open(&plugged.gateway).await;
    }
}

#[tokio::test]
async fn a_failing_gate_never_answers_with_a_final_status() {
    for fragment in [fragments::TRAP, fragments::TEMPORARY] {
        let component = Guest::new("zoo").hook(GuestHook::RequestAuth, fragment).component().expect("a component");
        let plugged = Plugged::start(Setup::with(some_data()).events(), |folder| {
            put(folder, "zoo.toml", "[plugin]\nname = \"zoo\"\n[[bind]]\nhook = \"request-auth\"\n");
            put(folder, "zoo.wasm", component);
        })
        .await;
        plugged.wait_until_active("zoo").await;
        // The first calls fail, the others find the breaker open; the responses are the same.
        for route in &ROUTES {
            let answer = plugged.gateway.answers(&route.right()).await;
            compare(&format!("route {}", route.row), &route.found(empty(503)), answer, None);
        }
        assert_open(&plugged.gateway).await;
        // An unknown credential is rejected without a plugin.
        for route in &ROUTES {
            let expected = match route.credential() {
                Some(_) => empty(401),
                None => route.lost(text(404, TEXT_D)),
            };
            plugged.gateway.answers_as("L022, L031", route.call("unknown"), expected).await;
        }
    }
}
