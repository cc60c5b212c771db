//! Guarantees under concurrency.

use std::time::Duration;

use serde_json::json;
use yardarm_testkit::{Call, Connection, SseClient, StreamItem};

use crate::flags::{data, flag, put, some_data};
use crate::running::{MOBILE_KEY, SDK_KEY, Setup};
use crate::sdk::Sdk;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_is_lost_between_the_first_put_and_the_first_patch() {
    // An update that races with the first `put` may be sent although that `put` contains it. It is never missed.
    const LAST: i64 = 400;
    let gateway = Setup::with(data([flag("plain", 1)], [])).start().await;
    let changes = async {
        for version in 2..=LAST {
            gateway.upstream.patches(SDK_KEY, &flag("plain", version));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let listeners = (0..40).map(|index| {
        let gateway = &gateway;
        async move {
            // Spread over the changes, so that each coincides with another moment.
            tokio::time::sleep(Duration::from_millis(index * 10)).await;
            let mut sdk = gateway.opens("/all", SDK_KEY).await;
            let first = sdk.receives_event("put").await;
            let mut version = first["data"]["flags"]["plain"]["version"].as_i64().expect("a version");
            while version < LAST {
                let received = sdk.receives_event("patch").await["data"]["version"].as_i64().expect("a version");
                assert!(received <= version + 1, "{received} after {version}");
                version = version.max(received);
            }
        }
    });
    futures_util::future::join(changes, futures_util::future::join_all(listeners)).await;
}

#[tokio::test]
async fn data_sent_on_a_stream_connection_is_ignored() {
    let gateway = Setup::with(some_data()).start().await;
    let call = Call::get("/all").key(SDK_KEY);
    let mut connection = Connection::open(gateway.address).await;
    let mut both = call.bytes();
    both.extend(Call::get("/status").bytes());
    connection.sends(both).await;
    // The second request was written together with the first, which no SDK does. The stream must work all the same.
    let mut client = SseClient::read(connection, &call).await;
    assert!(matches!(client.next().await, StreamItem::Event { name, .. } if name == "put"));
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    assert!(matches!(client.next().await, StreamItem::Event { name, .. } if name == "patch"));
}

#[tokio::test]
async fn a_stream_closes_its_connection_at_the_end_when_the_client_requests_it() {
    let gateway = Setup::with(some_data()).set("launchdarkly.max_client_connection_time", "300ms").start().await;
    let call = Call::get("/all").key(SDK_KEY).header("Connection", "close");
    let mut sdk = Sdk::new(SseClient::open(gateway.address, &call).await, &call);
    sdk.receives("put", put(some_data())).await;
    sdk.receives_end().await;
    let rest = sdk.into_client().into_connection().closes_within(yardarm_testkit::WAIT_TIMEOUT).await;
    assert_eq!(rest.as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn a_slow_ping_stream_receives_the_last_change() {
    // Decision R5: pings that were not sent yet may be merged.
    let gateway = Setup::with(some_data()).start().await;
    let call = Call::get("/mping").key(MOBILE_KEY);
    let narrow = Connection::open_narrow(gateway.address, 2048).await;
    let mut slow = Sdk::new(SseClient::open_on(narrow, &call).await, &call);
    let mut quick = gateway.opens("/all", SDK_KEY).await;
    quick.receives("put", put(some_data())).await;
    for version in 4..1604 {
        gateway.upstream.patches(SDK_KEY, &flag("plain", version));
        if version % 100 == 0 {
            while quick.receives_event("patch").await["data"]["version"] != json!(version) {}
        }
    }
    gateway.upstream.deletes(SDK_KEY, "/flags/plain", 9999);
    while !matches!(quick.next().await, StreamItem::Event { name, .. } if name == "delete") {}
    // At least one ping is available, and a poll after it returns the last change.
    slow.receives_ping().await;
    let polled = gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await;
    assert_eq!(polled.status, 404);
}

#[tokio::test]
async fn a_request_with_expect_continue_is_answered_100() {
    let gateway = Setup::with(some_data()).events().start().await;
    let mut connection = Connection::open(gateway.address).await;
    let head = format!(
        "POST /bulk HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\nX-LaunchDarkly-Event-Schema: 4\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    );
    connection.sends(head).await;
    assert_eq!(connection.interim().await, 100);
    connection.sends("[1]").await;
    assert_eq!(connection.answer("POST").await.map(|it| it.status), Some(202));
}
