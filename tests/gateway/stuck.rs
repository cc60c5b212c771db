//! Clients that do not read: they are disconnected, cost little until then, and leave room for other clients.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, Connection, SseClient, within};

use crate::flags::{flag, large_data, some_data};
use crate::running::{Running, SDK_KEY, Setup};

async fn status(gateway: &Running) -> Value {
    gateway.operator_gets("/api/status").await.json()
}

async fn status_where(gateway: &Running, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    within(what, async {
        loop {
            let status = status(gateway).await;
            if is_wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn count(list: &Value, reason: &str) -> u64 {
    let rows = list.as_array().into_iter().flatten();
    rows.filter(|it| it[0] == reason).filter_map(|it| it[1].as_u64()).sum()
}

/// Returns the number of streams that ended for a reason, on all routes.
fn ended(status: &Value, reason: &str) -> u64 {
    status["streams"].as_array().into_iter().flatten().map(|it| count(&it["ended"], reason)).sum()
}

/// Sends a request without reading the response.
async fn never_reads(gateway: &Running, call: &Call) -> Connection {
    let mut connection = Connection::open_narrow(gateway.address, 8192).await;
    connection.sends(call.bytes()).await;
    connection
}

/// Returns timer and send queue of the gateway's connections, as shown by the kernel.
fn kernel_rows(gateway: &Running) -> Vec<(u64, String)> {
    let port = format!(":{:04X}", gateway.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|it| it[1].ends_with(&port) && it[3] == "01");
    ours.map(|it| (u64::from_str_radix(&it[4][..8], 16).expect("a size"), it[5].to_owned())).collect()
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_ended_and_others_are_not() {
    let gateway = Setup::with(large_data()).set("server.write_timeout", "1500ms").start().await;
    let call = Call::get("/all").key(SDK_KEY);
    let mut healthy = gateway.opens("/all", SDK_KEY).await;
    healthy.receives_event("put").await;
    let stuck = never_reads(&gateway, &call).await;
    // Over HTTP/1.0 a stream is written by the library, not by the fan-out threads.
    let stuck_library = never_reads(&gateway, &call.clone().http_1_0()).await;
    let is_blocked = |it: &Value| it["fanout"]["blocked"] == 1 && it["connections"]["open"] == 3;
    status_where(&gateway, "a blocked stream beside two others", is_blocked).await;
    let most = kernel_rows(&gateway).into_iter().map(|(queued, _)| queued).max();
    assert!(most < Some(1 << 20), "the kernel keeps {most:?} bytes for one client");
    let status = status_where(&gateway, "both to be ended", |it| ended(it, "unresponsive") == 2).await;
    assert_eq!((&status["fanout"]["blocked"], &status["fanout"]["streams"]), (&json!(0), &json!(1)));
    assert_eq!(count(&status["connections"]["closed"], "write-timeout"), 1);
    status_where(&gateway, "their places", |it| it["connections"]["open"] == 1).await;
    let metrics = gateway.operator_gets("/metrics").await.text().to_owned();
    assert!(metrics.contains(r#"reason="unresponsive""#), "{metrics}");

    // The other one is silent for longer and stays open, because it reads what it is sent.
    tokio::time::sleep(Duration::from_secs(2)).await;
    gateway.upstream.patches(SDK_KEY, &flag("large0", 2));
    healthy.receives_event("patch").await;
    drop((stuck, stuck_library));
}

#[tokio::test]
async fn a_response_that_is_not_read_is_aborted() {
    let gateway = Setup::with(large_data()).set("server.write_timeout", "1s").start().await;
    let stuck = never_reads(&gateway, &Call::get("/sdk/flags").key(SDK_KEY)).await;
    status_where(&gateway, "the cut", |it| count(&it["connections"]["closed"], "write-timeout") == 1).await;
    status_where(&gateway, "its place", |it| it["connections"]["open"] == 0).await;
    drop(stuck);
    // A slow reader receives everything.
    let mut slow = Connection::open_narrow(gateway.address, 64 << 10).await;
    slow.sends(Call::get("/sdk/flags").key(SDK_KEY).bytes()).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let answer = slow.answer("GET").await.expect("an answer");
    assert!(answer.body.len() > 8 << 20);
}

#[tokio::test]
async fn stuck_streams_leave_room_for_short_requests() {
    let gateway = Setup::with(large_data()).set("server.max_connections", 60).start().await;
    let call = Call::get("/all").key(SDK_KEY);
    let mut stuck = Vec::new();
    for _ in 0..54 {
        stuck.push(never_reads(&gateway, &call).await);
    }
    status_where(&gateway, "54 streams", |it| it["fanout"]["streams"] == 54).await;
    let limits = &status(&gateway).await["connections"]["limits"];
    assert_eq!((&limits["connections"], &limits["streams"]), (&json!(60), &json!(54)));
    // Further streams are rejected, and may be retried.
    let mut refused = Vec::new();
    for _ in 0..6 {
        let client = SseClient::open(gateway.address, &call).await;
        assert_eq!(client.head().status, 503);
        assert!(client.head().header("retry-after").is_some());
        refused.push(client.into_connection());
    }
    // Stuck clients keep their connections, and idle ones are closed in favour of new requests.
    for path in ["/status", "/sdk/flags/large1"] {
        for _ in 0..10 {
            let answer = within("a short request", Call::get(path).key(SDK_KEY).to(gateway.address)).await;
            assert_eq!(answer.status, 200, "{path}");
        }
    }
    let status = status(&gateway).await;
    assert!(count(&status["connections"]["closed"], "made-room") > 0, "{status}");
    assert_eq!(ended(&status, "unresponsive"), 0, "{status}");
    drop((stuck, refused));
}

#[tokio::test]
async fn a_client_that_vanishes_is_detected_by_the_kernel() {
    let gateway = Setup::with(some_data()).start().await;
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    let mut idle = Connection::open(gateway.address).await;
    assert_eq!(Call::get("/status").on(&mut idle).await.status, 200);
    let timers: Vec<_> = within("everything to be acknowledged", async {
        loop {
            let rows = kernel_rows(&gateway);
            if rows.len() == 2 && rows.iter().all(|(queued, timer)| *queued == 0 && !timer.starts_with("01")) {
                return rows.into_iter().map(|(_, timer)| timer).collect();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(timers.iter().all(|it| it.starts_with("02:")), "a keep-alive timer runs: {timers:?}");
}
