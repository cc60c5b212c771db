//! V039: a limit of full deliveries at a time.

use std::time::Duration;

use yardarm_testkit::{Call, Connection, within};

use super::client_objects::cors;
use crate::expected::{Expected, message};
use crate::flags::{large_data, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

const REFUSAL: &str = "too many deliveries are in progress";

fn limited() -> Setup {
    Setup::with(large_data()).set("launchdarkly.max_deliveries", 1)
}

fn get(path: &str) -> Call {
    Call::get(path).key(SDK_KEY)
}

fn evaluating_poll(query: &str) -> Call {
    Call::get(format!("/sdk/poll/eval/{CTX}{query}")).key(MOBILE_KEY)
}

/// The requests whose answers have all data.
fn polls() -> [Call; 4] {
    [get("/sdk/flags"), get("/sdk/latest-all"), get("/sdk/poll"), evaluating_poll("")]
}

/// The refusal of each of [`polls`].
fn refusals() -> [Expected; 4] {
    let refusal = || message(503, REFUSAL);
    [refusal(), refusal(), refusal(), cors(refusal(), "GET,OPTIONS", "*")]
}

/// Sends a request whose answer is never read, and waits until its delivery has the slot.
async fn occupy(gateway: &Running, path: &str) -> Connection {
    let mut connection = Connection::open_narrow(gateway.address, 8192).await;
    connection.sends(get(path).bytes()).await;
    wait_for_counts(gateway, &[("", 1)]).await;
    connection
}

/// Waits until the metrics of deliveries have these values.
async fn wait_for_counts(gateway: &Running, expected: &[(&str, u64)]) {
    within(&format!("the counts {expected:?}"), async {
        loop {
            let metrics = gateway.operator_gets("/metrics").await.text().to_owned();
            let has = |(name, value): &(&str, u64)| {
                metrics.lines().any(|it| it == format!("yardarm_deliveries{name} {value}"))
            };
            if expected.iter().all(has) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Returns the state of the data, which is also a basis.
async fn state(gateway: &Running) -> String {
    let poll = gateway.answers(&get("/sdk/poll")).await.json();
    poll["events"][0]["data"]["payloads"][0]["id"].as_str().expect("a state").to_owned()
}

#[tokio::test]
async fn full_deliveries_beyond_the_limit_are_refused_and_all_else_is_served() {
    // V039
    let gateway = limited().start().await;
    let mut known = Vec::new();
    for poll in polls() {
        let answer = gateway.answers(&poll).await;
        assert_eq!(answer.status, 200);
        known.push(poll.header("If-None-Match", answer.header("etag").expect("a tag")));
    }
    let state = state(&gateway).await;
    let (mut admitted, mut refused) = (5, 0);
    for holder in ["/all", "/sdk/stream", "/sdk/flags", "/sdk/latest-all", "/sdk/poll"] {
        let held = occupy(&gateway, holder).await;
        for (poll, refusal) in polls().into_iter().zip(refusals()) {
            gateway.answers_as(holder, poll, refusal).await;
        }
        for path in ["/all", "/sdk/stream", "/sdk/stream?basis=(p:other:1)"] {
            let stream = gateway.answers(&get(path)).await;
            assert_eq!((stream.status, stream.body.len()), (200, 0), "{path} while {holder} is sent");
            assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
        }
        (admitted, refused) = (admitted + 1, refused + 7);
        for poll in &known {
            let answer = gateway.answers(poll).await;
            assert_eq!((answer.status, answer.body.len()), (304, 0), "while {holder} is sent");
        }
        for short in [
            get(&format!("/sdk/poll?basis={state}")),
            evaluating_poll(&format!("?basis={state}")),
            get("/sdk/flags/large0"),
            Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}")),
        ] {
            assert_eq!(gateway.answers(&short).await.status, 200, "while {holder} is sent");
        }
        let mut resumed = gateway.opens(&format!("/sdk/stream?basis={state}"), SDK_KEY).await;
        assert_eq!(resumed.receives_event("server-intent").await["payloads"][0]["intentCode"], "none");
        gateway.opens("/mping", MOBILE_KEY).await.receives_ping().await;
        gateway.opens("/flags", SDK_KEY).await.receives_event("put").await;
        drop(held);
        wait_for_counts(&gateway, &[("", 0), ("_admitted_total", admitted), ("_refused_total", refused)]).await;
    }
    for poll in polls() {
        assert_eq!(gateway.answers(&poll).await.status, 200);
    }
    gateway.opens("/all", SDK_KEY).await.receives_event("put").await;
    wait_for_counts(&gateway, &[("", 0), ("_waiting", 0), ("_overdue_total", 0)]).await;
}

#[tokio::test]
async fn deliveries_wait_for_their_turn_as_far_as_there_is_room() {
    // V039
    let gateway = limited().set("launchdarkly.max_waiting_deliveries", 2).start().await;
    let held = occupy(&gateway, "/all").await;
    let poll = get("/sdk/flags");
    // Only the end of a transfer has the state.
    let streamed = async { gateway.opens("/sdk/stream", SDK_KEY).await.receives_text(r#""state":"#).await };
    let mut both = Box::pin(futures_util::future::join(gateway.answers(&poll), streamed));
    tokio::select! {
        _ = &mut both => panic!("a delivery without a slot"),
        () = wait_for_counts(&gateway, &[("_waiting", 2)]) => {}
    }
    gateway.answers_as("V039", get("/sdk/latest-all"), message(503, REFUSAL)).await;
    drop(held);
    let (answer, ()) = both.await;
    assert_eq!(answer.status, 200);
    wait_for_counts(&gateway, &[("", 0), ("_waiting", 0), ("_admitted_total", 3), ("_refused_total", 1)]).await;
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_does_not_stop_others() {
    // V039
    let gateway = limited()
        .set("launchdarkly.max_waiting_deliveries", 1)
        .set("launchdarkly.delivery_timeout", "5s")
        .start()
        .await;
    let mut slow = occupy(&gateway, "/sdk/flags").await;
    assert_eq!(gateway.answers(&get("/sdk/flags")).await.status, 200);
    wait_for_counts(&gateway, &[("", 0), ("_overdue_total", 1)]).await;
    // Its delivery goes on.
    let head = slow.head().await.expect("an answer");
    let length: usize = head.header("content-length").expect("a length").parse().expect("a number");
    assert_eq!(slow.exactly(length).await.len(), length);
}

#[tokio::test]
async fn without_a_limit_nothing_is_counted() {
    let gateway = Setup::with(some_data()).start().await;
    assert_eq!(gateway.answers(&get("/sdk/flags")).await.json(), some_data()["flags"]);
    let metrics = gateway.operator_gets("/metrics").await;
    assert!(!metrics.text().contains("yardarm_deliveries"), "{}", metrics.text());
}
