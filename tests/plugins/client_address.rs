//! The client's address, as received by plugins with the grant `client-address`: of direct connections, behind HTTP
//! load balancers, and behind those that use the PROXY protocol.

use serde_json::json;
use yardarm_testkit::{Call, Connection, WAIT_TIMEOUT};

use super::{Plugged, put, sample};
use crate::flags::some_data;
use crate::running::{SDK_KEY, Setup};

/// Admits callers from one network.
const GATE: &str = r#"
    [plugin]
    name = "request-gate"
    grants = ["client-address"]
    [plugin.config]
    sdks = ["client", "mobile", "server"]
    allow_cidrs = ["192.0.2.0/24", "2001:db8::/32"]
    [[bind]]
    hook = "request-auth"
"#;

async fn plugged(settings: &[(&str, serde_json::Value)]) -> Plugged {
    let setup = settings.iter().fold(Setup::with(some_data()), |setup, (key, value)| setup.set(key, value.clone()));
    let plugged = Plugged::start(setup, |folder| {
        put(folder, "request-gate.toml", GATE);
        put(folder, "request-gate.wasm", sample("request-gate"));
    })
    .await;
    plugged.wait_until_active("request-gate").await;
    plugged
}

async fn status(plugged: &Plugged, headers: &[(&str, &str)]) -> u16 {
    let call = Call::get("/sdk/flags").key(SDK_KEY);
    let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
    plugged.gateway.answers(&call).await.status
}

#[tokio::test]
async fn headers_of_trusted_proxies_are_used() {
    let plugged = plugged(&[("server.trusted_proxies", json!(["127.0.0.0/8", "10.0.0.0/8"]))]).await;
    for (headers, expected) in [
        (&[][..], 403),
        (&[("X-Forwarded-For", "192.0.2.7")], 200),
        (&[("X-Forwarded-For", "203.0.113.1")], 403),
        (&[("X-Forwarded-For", "192.0.2.7, 203.0.113.1")], 403),
        (&[("X-Forwarded-For", "203.0.113.1, 192.0.2.7, 10.1.1.1")], 200),
        (&[("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-For", "192.0.2.7:4711")], 200),
        (&[("X-Forwarded-For", "unknown")], 503),
        (&[("Forwarded", "for=192.0.2.7;proto=https")], 200),
        (&[("Forwarded", "for=\"[2001:db8::7]:4711\"")], 200),
        (&[("Forwarded", "for=192.0.2.7, for=203.0.113.1")], 403),
        (&[("Forwarded", "for=_hidden")], 503),
        (&[("Forwarded", "for=192.0.2.7"), ("X-Forwarded-For", "203.0.113.1")], 403),
    ] {
        assert_eq!(status(&plugged, headers).await, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn headers_of_other_peers_are_ignored() {
    for settings in [&[][..], &[("server.trusted_proxies", json!(["10.0.0.0/8"]))]] {
        let plugged = plugged(settings).await;
        for header in [("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.7")] {
            assert_eq!(status(&plugged, &[header]).await, 403, "{settings:?} {header:?}");
        }
    }
}

/// Sends a preamble and two requests; returns the statuses of the responses until the connection ends.
async fn behind(plugged: &Plugged, preamble: &[u8], more: &str) -> Vec<u16> {
    let mut connection = Connection::open(plugged.gateway.address).await;
    let request = |connection: &str| {
        format!(
            "GET /sdk/flags HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\n{more}Connection: {connection}\r\n\r\n"
        )
    };
    let text = [preamble, request("keep-alive").as_bytes(), request("close").as_bytes()].concat();
    let _ = connection.try_send(text).await;
    let bytes = connection.closes_within(WAIT_TIMEOUT).await.expect("an end");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split("HTTP/1.1 ").skip(1).filter_map(|it| it.get(..3)?.parse().ok()).collect()
}

fn v2(command: u8, source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, 0x11, 0, 12 + 5]);
    header.extend(source);
    header.extend([127, 0, 0, 1, 0x12, 0x67, 0x1f, 0x5e]);
    // An extension, which is skipped.
    header.extend([0x04, 0, 2, 0, 0]);
    header
}

#[tokio::test]
async fn the_proxy_protocol_provides_the_client_address() {
    let trusted = json!(["127.0.0.1", "10.0.0.0/8"]);
    let settings = [("server.trusted_proxies", trusted), ("server.proxy_protocol", json!(true))];
    let plugged = plugged(&settings).await;
    let v1 = |source: &str| format!("PROXY TCP4 {source} 127.0.0.1 4711 8030\r\n").into_bytes();
    for (name, preamble, headers, expected) in [
        ("v1", v1("192.0.2.7"), "", &[200, 200][..]),
        ("v1 from elsewhere", v1("203.0.113.1"), "", &[403, 403]),
        ("v1 of version 6", b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), "", &[200, 200]),
        ("v1 unknown", b"PROXY UNKNOWN\r\n".to_vec(), "", &[403, 403]),
        ("v2", v2(0x21, [192, 0, 2, 7]), "", &[200, 200]),
        ("v2 from elsewhere", v2(0x21, [203, 0, 113, 1]), "", &[403, 403]),
        ("v2 for itself", v2(0x20, [192, 0, 2, 7]), "", &[403, 403]),
        ("a spoofed header", v1("203.0.113.1"), "X-Forwarded-For: 192.0.2.7\r\n", &[403, 403]),
        ("a second proxy", v1("10.1.1.1"), "X-Forwarded-For: 192.0.2.7\r\n", &[200, 200]),
        ("none", Vec::new(), "", &[]),
        ("malformed", b"PROXY TCP4 192.0.2.7\r\n".to_vec(), "", &[]),
        ("endless", [b"PROXY TCP4 ".to_vec(), vec![b'1'; 500]].concat(), "", &[]),
    ] {
        assert_eq!(behind(&plugged, &preamble, headers).await, expected, "{name}");
    }
    let status = plugged.gateway.operator_gets("/api/status").await.json();
    let closed = status["connections"]["closed"].as_array().expect("a list").clone();
    assert!(closed.contains(&json!(["proxy-header", 3])), "{closed:?}");
    // Operators connect directly.
    assert_eq!(plugged.gateway.operator_gets("/live").await.status, 200);
}
