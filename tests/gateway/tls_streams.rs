//! Streams over TLS, which leave the HTTP library like those in plain text.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, within};

use super::tls::Secured;
use super::tls_client::{TlsClient, VERSIONS};
use crate::certificate;
use crate::flags::{data, flag, flag_with, put, some_data};
use crate::program::Program;
use crate::running::{Running, SDK_KEY, Setup};

async fn status(gateway: &Running) -> Value {
    gateway.operator_gets("/api/status").await.json()
}

/// Waits until the number of streams that fan-out threads write is `count`.
async fn fanout_streams(gateway: &Running, count: usize) {
    within("streams of the fan-out", async {
        while status(gateway).await["fanout"]["streams"] != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn open_connections(gateway: &Running, count: usize) {
    within("open connections", async {
        while status(gateway).await["connections"]["open"] != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Opens a stream and waits until a fan-out thread has it.
async fn open(secured: &Secured, streams_before: usize) -> TlsClient {
    let mut client = TlsClient::open(secured.gateway.address, VERSIONS[1]).await;
    assert!(client.opens_stream().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(client.event().await, ("put".to_owned(), put(some_data())));
    fanout_streams(&secured.gateway, streams_before + 1).await;
    client
}

async fn patches(secured: &Secured, client: &mut TlsClient, version: i64) {
    secured.gateway.upstream.patches(SDK_KEY, &flag("plain", version));
    let expected = json!({"path": "/flags/plain", "data": flag("plain", version)});
    assert_eq!(client.event().await, ("patch".to_owned(), expected));
}

#[tokio::test]
async fn a_stream_of_either_version_is_written_by_a_fan_out_thread() {
    let secured = Secured::start(|it| it.set("launchdarkly.heartbeat_interval", "200ms")).await;
    let mut clients = Vec::new();
    for version in VERSIONS {
        let mut client = TlsClient::open(secured.gateway.address, version).await;
        let head = client.opens_stream().await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("transfer-encoding: chunked"), "{head}");
        assert_eq!(client.event().await, ("put".to_owned(), put(some_data())));
        clients.push(client);
    }
    fanout_streams(&secured.gateway, clients.len()).await;
    for version in 4..7 {
        secured.gateway.upstream.patches(SDK_KEY, &flag("plain", version));
        for client in &mut clients {
            let expected = json!({"path": "/flags/plain", "data": flag("plain", version)});
            assert_eq!(client.event().await, ("patch".to_owned(), expected));
        }
    }
    for client in &mut clients {
        for _ in 0..2 {
            assert_eq!(client.chunk().await.as_deref(), Some(":\n"), "a heartbeat");
        }
    }
}

#[tokio::test]
async fn a_large_put_arrives_complete() {
    let filler = "f".repeat(3 << 20);
    let large = data([flag_with("large", 1, json!({"filler": filler}))], []);
    let secured = Secured::start(|it| it.data(SDK_KEY, large.clone())).await;
    for version in VERSIONS {
        let mut client = TlsClient::open(secured.gateway.address, version).await;
        client.opens_stream().await;
        assert_eq!(client.event().await, ("put".to_owned(), put(large.clone())));
    }
}

#[tokio::test]
async fn a_connection_serves_requests_after_its_stream() {
    let setup = |it: Setup| it.set("launchdarkly.max_client_connection_time", "300ms");
    let secured = Secured::start(setup).await;
    for version in VERSIONS {
        let mut client = TlsClient::open(secured.gateway.address, version).await;
        for round in 0..3 {
            assert!(client.opens_stream().await.starts_with("HTTP/1.1 200 "));
            assert_eq!(client.event().await.0, "put");
            fanout_streams(&secured.gateway, 1).await;
            assert_eq!(status(&secured.gateway).await["connections"]["open"], 1, "the same connection");
            if round == 2 {
                // Sent during the stream, requests are answered after it.
                client.sends(&Call::get("/all").key(SDK_KEY)).await;
                client.sends(&Call::get("/status").http_1_0()).await;
            }
            while client.chunk().await.is_some() {}
        }
        let rest = client.reads_to_end().await.expect("an announced end");
        assert!(rest.starts_with("HTTP/1.1 200 ") && rest.contains("event: put"), "{rest}");
        assert!(rest.contains("\r\n0\r\n\r\nHTTP/1.0 200 "), "the answer after the second stream: {rest}");
        drop(client);
        open_connections(&secured.gateway, 0).await;
    }
}

#[tokio::test]
async fn a_client_that_closes_ends_its_stream() {
    let secured = Secured::start(|it| it).await;
    let mut other = open(&secured, 0).await;
    for version in VERSIONS {
        for says_so in [true, false] {
            let mut client = TlsClient::open(secured.gateway.address, version).await;
            client.opens_stream().await;
            assert_eq!(client.event().await.0, "put");
            fanout_streams(&secured.gateway, 2).await;
            if says_so {
                client.closes_notify().await;
                assert_eq!(client.reads_to_end().await.expect("an announced end"), "");
            } else {
                client.closes_socket().await;
            }
            fanout_streams(&secured.gateway, 1).await;
            open_connections(&secured.gateway, 1).await;
        }
    }
    patches(&secured, &mut other, 4).await;
}

#[tokio::test]
async fn a_record_that_is_wrong_ends_its_stream_with_an_alert() {
    let secured = Secured::start(|it| it).await;
    let mut other = open(&secured, 0).await;
    for (what, record) in [
        // Application data that was not encrypted with the keys of the connection.
        ("other keys", [&[23, 3, 3, 0, 40][..], &[7; 40]].concat()),
        ("plain text", b"GET /status HTTP/1.1\r\n\r\n".to_vec()),
        ("too long", vec![23, 3, 3, 255, 255, 1]),
    ] {
        let mut client = open(&secured, 1).await;
        client.sends_raw(&record).await;
        let end = client.reads_to_end().await.expect_err(what);
        assert!(end.to_string().contains("received fatal alert"), "{what}: {end}");
        fanout_streams(&secured.gateway, 1).await;
    }
    patches(&secured, &mut other, 4).await;
}

#[tokio::test]
async fn a_record_in_pieces_and_new_keys_do_not_disturb_a_stream() {
    let secured = Secured::start(|it| it).await;
    let mut client = open(&secured, 0).await;
    for version in 4..8 {
        client.updates_keys().await;
        patches(&secured, &mut client, version).await;
    }
    // The beginning of a record that never ends.
    client.sends_raw(&[23, 3, 3, 4, 0, 1, 2]).await;
    for version in 8..10 {
        patches(&secured, &mut client, version).await;
    }
    assert_eq!(status(&secured.gateway).await["fanout"]["streams"], 1);
}

#[tokio::test]
async fn a_stopping_gateway_announces_the_end() {
    let secured = Secured::start(|it| it).await;
    let mut client = open(&secured, 0).await;
    let (rest, ()) = futures_util::future::join(client.reads_to_end(), secured.gateway.stop()).await;
    assert_eq!(rest.expect("an announced end"), "0\r\n\r\n");
}

#[tokio::test]
async fn a_reader_that_is_slow_receives_the_newest_data_and_delays_no_other() {
    const CHANGES: i64 = 600;
    let secured = Secured::start(|it| it.set("server.send_buffer", "64KiB")).await;
    let mut slow = TlsClient::open_narrow(secured.gateway.address, 8192).await;
    slow.opens_stream().await;
    assert_eq!(slow.event().await.0, "put");
    let mut quick = open(&secured, 1).await;
    let filler = "f".repeat(48 << 10);
    for version in 4..4 + CHANGES {
        secured.gateway.upstream.patches(SDK_KEY, &flag_with("plain", version, json!({"filler": filler})));
        // The next change is made when the quick one has this one.
        let (name, change) = quick.event().await;
        assert_eq!((name.as_str(), &change["data"]["version"]), ("patch", &json!(version)));
    }
    assert_eq!(status(&secured.gateway).await["fanout"]["blocked"], 1, "the slow one is known");
    let (mut version, mut received) = (3, 0);
    while version < 4 + CHANGES - 1 {
        let (name, change) = slow.event().await;
        let flags = if name == "put" { &change["data"]["flags"]["plain"] } else { &change["data"] };
        let next = flags["version"].as_i64().expect("a version");
        assert!(next > version, "{next} after {version}");
        (version, received) = (next, received + 1);
    }
    assert!(received < CHANGES / 2, "{received} events for {CHANGES} changes");
    patches(&secured, &mut slow, 4 + CHANGES).await;
    assert_eq!(quick.event().await.0, "patch");
}

#[tokio::test]
async fn a_reader_that_stopped_is_disconnected() {
    let large = data([flag_with("large", 1, json!({"filler": "f".repeat(8 << 20)}))], []);
    let secured = Secured::start(|it| it.data(SDK_KEY, large).set("server.write_timeout", "1s")).await;
    let mut stuck = TlsClient::open_narrow(secured.gateway.address, 8192).await;
    stuck.opens_stream().await;
    within("the end of the stream", async {
        while !status(&secured.gateway).await["streams"][0]["ended"].to_string().contains(r#"["unresponsive",1]"#) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    open_connections(&secured.gateway, 0).await;
}

/// Starts the program with a certificate.
async fn program(upstream_data: Value) -> (Program, FakeLaunchDarkly, TempDir) {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().expect("a temporary folder");
    certificate::FIRST.write(dir.path());
    let setup = Setup::with(upstream_data).set("log.format", "json").set("log.level", "warn,yardarm=info");
    let mut setup = setup.set("server.tls.cert", "cert.pem").set("server.tls.key", "key.pem");
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::start(dir.path()).await;
    within("`/ready`", program.wait_until_ready()).await;
    (program, cloud, dir)
}

async fn resident_bytes(program: &Program) -> i64 {
    program.operator_gets("/api/status").await.json()["resources"]["resident_bytes"].as_i64().expect("a number")
}

/// Opens streams at most 50 at a time, and waits until fan-out threads have them all.
async fn open_many(program: &Program, count: usize, clients: &mut Vec<TlsClient>) {
    let end = clients.len() + count;
    while clients.len() < end {
        let opens = async || {
            let mut client = TlsClient::open(program.address, VERSIONS[1]).await;
            client.opens_stream().await;
            assert_eq!(client.event().await.0, "put");
            client
        };
        clients.extend(futures_util::future::join_all((0..50).map(|_| opens())).await);
    }
    within("streams with the fan-out", async {
        while program.operator_gets("/api/status").await.json()["fanout"]["streams"] != clients.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_stream_takes_little_memory() {
    const COUNT: usize = 1500;
    // The buffers of a TLS library with buffers have as much.
    const LIMIT: i64 = 10 << 10;
    let (program, _cloud, _dir) = program(some_data()).await;
    let mut clients = Vec::new();
    // The first streams allocate what all share: threads, buffers, reserves of the allocator.
    open_many(&program, 300, &mut clients).await;
    let before = resident_bytes(&program).await;
    open_many(&program, COUNT, &mut clients).await;
    let each = (resident_bytes(&program).await - before) / i64::try_from(COUNT).expect("a small number");
    assert!(each < LIMIT, "{each} bytes of memory for each idle stream");
}

#[tokio::test]
async fn a_reader_that_stopped_holds_one_record() {
    const COUNT: usize = 200;
    const LIMIT: i64 = 40 << 10;
    let large = data([flag_with("large", 1, json!({"filler": "f".repeat(8 << 20)}))], []);
    let (program, _cloud, _dir) = program(large).await;
    let mut clients = Vec::new();
    let mut before = 0;
    for index in 0..COUNT + 20 {
        // The first ones allocate what all share.
        if index == 20 {
            before = resident_bytes(&program).await;
        }
        let mut client = TlsClient::open_narrow(program.address, 8192).await;
        client.opens_stream().await;
        clients.push(client);
        within("a blocked stream", async {
            while program.operator_gets("/api/status").await.json()["fanout"]["blocked"] != clients.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    let each = (resident_bytes(&program).await - before) / i64::try_from(COUNT).expect("a small number");
    assert!(each < LIMIT, "{each} bytes of memory for each stream that is not read");
}
