//! Failures of the upstream connection: whatever breaks, SDKs receive whole events or none.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, RawUpstream, Step};

use crate::flags::{data, flag, put};
use crate::running::{SDK_KEY, Setup};

/// A port that the test holds without listening, so that connections are refused as long as it is held.
pub(crate) struct ClosedPort(socket2::Socket);

pub(crate) fn closed_port() -> ClosedPort {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free loopback port");
    ClosedPort(socket)
}

impl ClosedPort {
    pub(crate) fn url(&self) -> String {
        let address = self.0.local_addr().expect("a bound socket").as_socket().expect("an address of IP");
        format!("http://{address}")
    }
}

fn event(data: &Value) -> String {
    format!("event: put\nretry: 10\ndata: {}\n\n", put(data.clone()))
}

fn version(version: i64) -> Value {
    data([flag("plain", version)], [])
}

#[tokio::test]
async fn broken_streams_are_opened_again_and_nothing_broken_is_forwarded() {
    let next = event(&version(666));
    let half = &next[..next.len() / 2];
    let faults: Vec<(&str, Vec<Step>)> = vec![
        ("closed between events", vec![]),
        ("the last chunk", vec![Step::bytes("0\r\n\r\n")]),
        ("closed within an event", vec![Step::chunk(half)]),
        ("the last chunk within an event", vec![Step::chunk(half), Step::bytes("0\r\n\r\n")]),
        ("closed before the blank line", vec![Step::chunk(&next[..next.len() - 1])]),
        ("half a chunk", vec![Step::bytes(format!("{:x}\r\n{half}", next.len()))]),
        ("half a size line", vec![Step::bytes("f")]),
        ("a size line that is none", vec![Step::bytes("x\r\n")]),
        ("a chunk without its end", vec![Step::bytes(format!("{:x}\r\n{half}garbage", half.len()))]),
        ("a reset within an event", vec![Step::chunk(half), Step::Reset]),
        // Whether the connection continues after these is tested in `stream_bytes.rs` and below.
        ("bytes that are no text", vec![Step::bytes(&b"6\r\ndata: \r\n4\r\n\xff\xfe\xff\n\r\n1\r\n\n\r\n"[..])]),
        ("nul bytes", vec![Step::bytes(&b"5\r\n\0\0\0\n\n\r\n"[..])]),
        ("an enormous size line", vec![Step::bytes("fffffffffffffffff\r\n")]),
    ];
    // Every connection begins with a valid `put` of its own version, so that SDKs can distinguish them.
    let upstream = RawUpstream::start().await;
    let mut count = 0;
    for (_, fault) in &faults {
        count += 1;
        upstream.plays([Step::stream(event(&version(count)))].into_iter().chain(fault.clone()));
    }
    let answers = [
        "garbage\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Ty",
        "",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 3\r\n\r\n:\n\n",
    ];
    for answer in answers {
        upstream.plays([Step::bytes(answer)]);
    }
    upstream.plays([Step::stream(event(&version(1000))), Step::Hold]);

    let setup = Setup::new()
        .set("launchdarkly.stream_uri", upstream.url())
        .set("launchdarkly.max_reconnect_delay", "50ms")
        .without_waiting();
    let gateway = setup.set("launchdarkly.init_timeout", "10ms").start().await;
    let mut sdk = gateway.opens_when_ready("/all", SDK_KEY).await;
    let mut last = 0;
    // Connections may have ended before the SDK connected. From then on it receives the data of each of them, in order,
    // and nothing else.
    loop {
        let received = sdk.receives_event("put").await;
        let number = received["data"]["flags"]["plain"]["version"].as_i64().expect("a version");
        assert_eq!(received, put(version(number)));
        assert!(number == 1000 || last == 0 || number == last + 1, "{number} after {last}");
        if number == 1000 {
            assert!(last == 0 || last == count, "{number} after {last}");
            break;
        }
        last = number;
        let polled = gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await.json();
        assert!(polled["version"].as_i64() >= Some(number), "last good data is served: {polled}");
    }
    assert_eq!(upstream.heads().len(), faults.len() + answers.len() + 1);
    // The state follows the data.
    let is_valid = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
    gateway.status_where("a valid connection", is_valid).await;
}

#[tokio::test]
async fn meaningless_bytes_do_not_end_the_connection() {
    for bytes in [&b"data: \xff\xfe\xff\n\n"[..], b": \xff\n", b"\0\0\0\n\n", b"\xff", b"\xc3\n", b"\r\r\n\r"] {
        let upstream = RawUpstream::start().await;
        // The last bytes may be the beginning of a line, which must not be merged with the next event.
        let next = format!("\n\n{}", event(&version(2)));
        upstream.plays([Step::stream(event(&version(1))), Step::chunk(bytes), Step::chunk(&next), Step::Hold]);
        let gateway = Setup::new().set("launchdarkly.stream_uri", upstream.url()).start().await;
        let is_served = async {
            let call = Call::get("/sdk/flags/plain").key(SDK_KEY);
            while gateway.answers(&call).await.json()["version"] != 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        yardarm_testkit::within(&format!("the event behind {bytes:?}"), is_served).await;
        assert_eq!(upstream.heads().len(), 1, "{bytes:?}: the same connection");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_event_in_many_small_pieces_is_one_event() {
    let upstream = RawUpstream::start().await;
    let text = event(&data([flag("plain", 1), flag("umlaut-äöü-🏴‍☠️", 2)], []));
    let mut steps = vec![Step::stream(": hello\n\n")];
    // Split between bytes, including within a character.
    for piece in text.as_bytes().chunks(7) {
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        steps.push(Step::bytes(chunk));
    }
    steps.push(Step::Hold);
    upstream.plays(steps);
    let gateway = Setup::new()
        .set("launchdarkly.stream_uri", upstream.url())
        .set("launchdarkly.max_reconnect_delay", "50ms")
        .start()
        .await;
    let expected = put(data([flag("plain", 1), flag("umlaut-äöü-🏴‍☠️", 2)], []));
    gateway.opens("/all", SDK_KEY).await.receives("put", expected).await;
}

#[tokio::test]
async fn a_broken_first_connection_leaves_the_environment_empty() {
    let upstream = RawUpstream::start().await;
    for _ in 0..3 {
        upstream.plays([Step::stream("event: put\nretry: 10\ndata: {\"path\""), Step::Reset]);
    }
    let setup = Setup::new()
        .set("launchdarkly.stream_uri", upstream.url())
        .set("launchdarkly.max_reconnect_delay", "50ms")
        .set("launchdarkly.init_timeout", "50ms");
    let gateway = setup.start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    gateway
        .answers_as("nothing to serve", Call::get("/sdk/flags").key(SDK_KEY), crate::expected::not_initialized())
        .await;
    upstream.plays([Step::stream(event(&version(1))), Step::Hold]);
    upstream.plays([Step::stream(event(&version(1))), Step::Hold]);
    sdk.receives("put", put(version(1))).await;
    let kind = gateway.status().await["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
    assert!([json!("NETWORK_ERROR"), json!("ERROR_RESPONSE")].contains(&kind), "{kind}");
}
