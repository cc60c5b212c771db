//! Connections between two requests: how long they are kept open, and that closing them loses nothing.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::Instant;
use yardarm_testkit::{Call, Connection, SseClient, StreamItem, WAIT_TIMEOUT, within};

use crate::flags::some_data;
use crate::running::{Running, SDK_KEY, Setup};

/// Returns the number of connections that the gateway closed for a reason.
async fn closed(gateway: &Running, reason: &str) -> u64 {
    let status = gateway.operator_gets("/api/status").await.json();
    let closed = status["connections"]["closed"].as_array().expect("a list").clone();
    closed.iter().find(|it| it[0] == reason).and_then(|it| it[1].as_u64()).expect("a reason")
}

async fn open(gateway: &Running) -> Value {
    gateway.operator_gets("/api/status").await.json()["connections"]["open"].clone()
}

fn post(index: usize) -> Call {
    Call::post("/bulk", format!(r#"[{{"kind":"identify","creationDate":{index}}}]"#)).key(SDK_KEY)
}

#[tokio::test]
async fn ten_seconds_of_silence_close_nothing() {
    let gateway = Setup::with(some_data()).events().start().await;
    let posts = (0..40).map(async |index: usize| {
        let mut connection = Connection::open(gateway.address).await;
        assert_eq!(post(index).on(&mut connection).await.status, 202);
        tokio::time::sleep(Duration::from_millis(9_900 + 20 * index as u64)).await;
        connection.try_send(post(index).bytes()).await.expect("an open connection");
        connection.answer("POST").await.map(|it| it.status)
    });
    assert_eq!(join_all(posts).await, vec![Some(202); 40]);
}

#[tokio::test]
async fn silence_closes_a_connection_and_a_request_that_came_before_is_answered() {
    let gateway = Setup::with(some_data()).events().set("server.idle_timeout", "1s").start().await;
    let posts = (0..40).map(async |index: usize| {
        let mut connection = Connection::open(gateway.address).await;
        assert_eq!(post(index).on(&mut connection).await.status, 202);
        tokio::time::sleep(Duration::from_millis(900 + 5 * index as u64)).await;
        // The client's knowledge before it sends: whether the connection is still open.
        if connection.has_ended().await {
            return None;
        }
        let _ = connection.try_send(post(index).bytes()).await;
        Some(connection.answer("POST").await.is_some())
    });
    let answered = join_all(posts).await;
    assert!(answered.iter().flatten().count() >= 10, "some were sent in time: {answered:?}");
    // A request may still cross the end of its connection; that window is as long as the machine delays the client
    // between its check and its request.
    let lost = answered.iter().flatten().filter(|it| !**it).count();
    assert!(lost * 5 <= answered.iter().flatten().count(), "{answered:?}");
    assert!(closed(&gateway, "idle").await > 0);

    let quiet = Connection::open(gateway.address).await;
    let started = Instant::now();
    assert_eq!(quiet.closes_within(WAIT_TIMEOUT).await.as_deref(), Some(&b""[..]), "an end, not an answer");
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_head_that_has_begun_is_not_silence() {
    let gateway = Setup::with(some_data()).set("server.idle_timeout", "1s").start().await;
    let mut connection = Connection::open(gateway.address).await;
    assert_eq!(Call::get("/status").on(&mut connection).await.status, 200);
    tokio::time::sleep(Duration::from_millis(700)).await;
    connection.sends("GET /status HTTP/1.1\r\n").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    connection.sends("Host: a\r\n\r\n").await;
    assert_eq!(connection.answer("GET").await.map(|it| it.status), Some(200));
}

#[tokio::test]
async fn a_slow_answer_is_not_silence() {
    let gateway = Setup::with(some_data()).events().set("server.idle_timeout", "300ms").start().await;
    let mut connection = Connection::open(gateway.address).await;
    let head = format!("POST /bulk HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nContent-Length: 2\r\n\r\n");
    connection.sends(head).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    connection.sends("[]").await;
    assert_eq!(connection.answer("POST").await.map(|it| it.status), Some(202));
}

#[tokio::test]
async fn a_connection_is_usable_after_a_stream_and_closed_when_idle() {
    let setup = Setup::with(some_data()).set("launchdarkly.max_client_connection_time", "300ms");
    let gateway = setup.set("server.idle_timeout", "1s").start().await;
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    assert_eq!(stream.next().await, StreamItem::End);
    let mut connection = stream.into_client().into_connection();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(Call::get("/status").on(&mut connection).await.status, 200);
    let call = Call::get("/all").key(SDK_KEY);
    let mut again = SseClient::open_on(connection, &call).await;
    assert_eq!(again.head().status, 200);
    while again.next().await != StreamItem::End {}
    assert_eq!(again.into_connection().closes_within(WAIT_TIMEOUT).await.as_deref(), Some(&b""[..]));
    assert_eq!(closed(&gateway, "idle").await, 1);
    assert_eq!(open(&gateway).await, 0);
}

#[tokio::test]
async fn a_stopping_gateway_answers_received_requests() {
    let gateway = Setup::with(some_data()).events().start().await;
    let mut connections = Vec::new();
    for _ in 0..40 {
        let mut connection = Connection::open(gateway.address).await;
        assert_eq!(post(0).on(&mut connection).await.status, 202);
        connections.push(connection);
    }
    let posts = join_all(connections.into_iter().enumerate().map(async |(index, mut connection)| {
        tokio::time::sleep(Duration::from_millis(2 * index as u64)).await;
        if connection.has_ended().await {
            return true;
        }
        let _ = connection.try_send(post(index).bytes()).await;
        connection.answer("POST").await.is_some()
    }));
    let stops = async {
        tokio::time::sleep(Duration::from_millis(40)).await;
        gateway.stop().await;
    };
    let (answered, ()) = within("the end", futures_util::future::join(Box::pin(posts), Box::pin(stops))).await;
    assert!(answered.iter().filter(|it| !**it).count() <= 8, "{answered:?}");
}
