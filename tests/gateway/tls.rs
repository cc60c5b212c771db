//! TLS on the listener for SDKs: HTTP/1.1 and HTTP/2 on one port, and nothing in plain text.

use std::path::Path;

use futures_util::StreamExt;
use reqwest::{Certificate, Client, ClientBuilder, Version, tls};
use tempfile::TempDir;
use yardarm_testkit::{Call, within};

use crate::certificate;
use crate::flags::{flag, some_data};
use crate::running::{Running, SDK_KEY, Setup};

/// A gateway with a certificate for `localhost`, and the root certificate that a client needs.
pub(super) struct Secured {
    pub(super) gateway: Running,
    authority: Certificate,
    _dir: TempDir,
}

fn setup(dir: &Path) -> Setup {
    let path = |name: &str| dir.join(name).to_str().expect("a path of text").to_owned();
    Setup::with(some_data()).set("server.tls.cert", path("cert.pem")).set("server.tls.key", path("key.pem"))
}

impl Secured {
    pub(super) async fn start(adjust: impl FnOnce(Setup) -> Setup) -> Self {
        let dir = TempDir::new().expect("a folder");
        let authority = certificate::FIRST.write(dir.path());
        Self { gateway: adjust(setup(dir.path())).start().await, authority, _dir: dir }
    }

    pub(super) fn client(&self, adjust: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let builder = Client::builder().add_root_certificate(self.authority.clone());
        adjust(builder.resolve("localhost", self.gateway.address)).build().expect("a client")
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.gateway.address.port())
    }
}

#[tokio::test]
async fn both_versions_of_http_are_served_and_streams_end_as_they_should() {
    let secured = Secured::start(|it| it).await;
    for (version, client) in
        [(Version::HTTP_11, secured.client(ClientBuilder::http1_only)), (Version::HTTP_2, secured.client(|it| it))]
    {
        let status = client.get(secured.url("/status")).send().await.expect("an answer");
        assert_eq!((status.version(), status.status().as_u16()), (version, 200), "HTTP/1.1 and HTTP/2 by ALPN");
    }
    let mut streams = Vec::new();
    for client in [secured.client(ClientBuilder::http1_only), secured.client(|it| it)] {
        let stream = client.get(secured.url("/all")).header("authorization", SDK_KEY).send().await.expect("a stream");
        assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
        let has_connection = stream.headers().contains_key("connection");
        assert_eq!(has_connection, stream.version() == Version::HTTP_11, "L052: no `Connection` under HTTP/2");
        streams.push((Box::pin(stream.bytes_stream()), String::new()));
    }
    for (bytes, received) in &mut streams {
        receives(bytes, received, "event: put\n").await;
    }
    secured.gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    for (bytes, received) in &mut streams {
        receives(bytes, received, "event: patch\n").await;
    }
    let end = async {
        for (bytes, _) in &mut streams {
            while let Some(chunk) = within("the end", bytes.next()).await {
                chunk.expect("a normal end, not a broken connection");
            }
        }
    };
    futures_util::future::join(secured.gateway.stop(), end).await;
}

pub(super) async fn receives(
    bytes: &mut (impl futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin),
    received: &mut String,
    text: &str,
) {
    within(text, async {
        while !received.contains(text) {
            let chunk = bytes.next().await.expect("the stream goes on").expect("the stream goes on");
            received.push_str(&String::from_utf8_lossy(&chunk));
        }
    })
    .await;
}

#[tokio::test]
async fn old_versions_and_plain_text_are_refused() {
    // U157
    let secured = Secured::start(|it| it.set("server.tls.min_version", "1.3")).await;
    let old = secured.client(|it| it.max_tls_version(tls::Version::TLS_1_2));
    assert!(old.get(secured.url("/status")).send().await.is_err(), "1.2 where 1.3 is the oldest");
    let new = secured.client(|it| it.min_tls_version(tls::Version::TLS_1_3));
    assert_eq!(new.get(secured.url("/status")).send().await.expect("an answer").status().as_u16(), 200);
    let plain = Client::new().get(format!("http://{}/status", secured.gateway.address));
    assert!(plain.send().await.is_err(), "no plain listener beside it");
    // The admin listener is not affected.
    assert_eq!(secured.gateway.operator_gets("/live").await.status, 200);
    assert_eq!(Call::get("/live").to(secured.gateway.admin).await.status, 200);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let dir = TempDir::new().expect("a folder");
    certificate::FIRST.write(dir.path());
    let other = TempDir::new().expect("a folder");
    certificate::SECOND.write(other.path());
    let path = |dir: &TempDir, name: &str| dir.path().join(name).to_str().expect("a path of text").to_owned();
    for (cert, key, expected) in [
        (path(&dir, "none.pem"), path(&dir, "key.pem"), "`server.tls.cert`"),
        (path(&dir, "cert.pem"), path(&dir, "cert.pem"), "`server.tls.key`"),
        (path(&dir, "cert.pem"), path(&other, "key.pem"), "cannot be used together"),
    ] {
        let setup = setup(dir.path()).set("server.tls.cert", cert).set("server.tls.key", key);
        let file = setup.write("http://127.0.0.1:9", dir.path());
        let config = yardarm::config::load(Some(&file), &yardarm::config::Overrides::default()).expect("valid").config;
        let error = yardarm::Gateway::start(config).await.err().map(|it| format!("{it:#}")).unwrap_or_default();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_signal() {
    let secured = Secured::start(|it| it).await;
    let dir = secured._dir.path();
    let connects = async |authority: &Certificate| {
        let builder = Client::builder().add_root_certificate(authority.clone()).http1_only();
        let client = builder.resolve("localhost", secured.gateway.address).build().expect("a client");
        client.get(secured.url("/status")).send().await.is_ok_and(|it| it.status() == 200)
    };
    let report = async || secured.gateway.operator_gets("/api/status").await.json()["certificate"].clone();
    let old = secured.client(ClientBuilder::http1_only);
    let stream = old.get(secured.url("/all")).header("authorization", SDK_KEY).send().await.expect("a stream");
    let (mut stream, mut received) = (Box::pin(stream.bytes_stream()), String::new());
    receives(&mut stream, &mut received, "event: put\n").await;
    let first = report().await;
    assert_eq!(first["error"], serde_json::Value::Null);
    // 2126-11-06T18:28:29Z
    assert_eq!(first["expires_ms"], 4_949_663_309_000_u64, "{first}");
    let metrics = secured.gateway.operator_gets("/metrics").await.text().to_owned();
    assert!(metrics.contains("\nyardarm_certificate_expires_seconds 4949663309\n"), "{metrics}");

    // A key that does not match the certificate changes only the report.
    let good_key = std::fs::read(dir.join("key.pem")).expect("a key");
    let other = TempDir::new().expect("a folder");
    certificate::SECOND.write(other.path());
    std::fs::copy(other.path().join("key.pem"), dir.join("key.pem")).expect("a file");
    within("the report", async {
        while report().await["error"].is_null() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(connects(&secured.authority).await, "the certificate before is still served");
    let metrics = secured.gateway.operator_gets("/metrics").await.text().to_owned();
    assert!(metrics.contains("\nyardarm_certificate_rejected 1\n"), "{metrics}");
    std::fs::write(dir.join("key.pem"), good_key).expect("a file");
    within("the report", async {
        while !report().await["error"].is_null() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;

    // A new pair, with each file replaced by a rename, as renewal tools do.
    let renewed = certificate::SECOND.write(other.path());
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(other.path().join(name), dir.join("part")).expect("a file");
        std::fs::rename(dir.join("part"), dir.join(name)).expect("a file");
    }
    within("the new certificate", async {
        while !connects(&renewed).await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(!connects(&secured.authority).await, "new handshakes have the new one only");
    assert!(report().await["loaded_ms"].as_u64() > first["loaded_ms"].as_u64());
    secured.gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    receives(&mut stream, &mut received, "event: patch\n").await;
}

/// Connects, sends bytes in plain text, then others over TLS with HTTP/1.1; returns everything received until the end.
async fn exchange(secured: &Secured, preamble: &str, pieces: &[(u64, &str)]) -> String {
    use rustls_pki_types::pem::PemObject;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    let mut roots = RootCertStore::empty();
    let authority = rustls_pki_types::CertificateDer::from_pem_file(secured._dir.path().join("cert.pem"));
    roots.add(authority.expect("a certificate")).expect("a certificate");
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let mut socket = tokio::net::TcpStream::connect(secured.gateway.address).await.expect("a connection");
    socket.write_all(preamble.as_bytes()).await.expect("room");
    let name = "localhost".try_into().expect("a name");
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let Ok(mut stream) = connector.connect(name, socket).await else { return "no handshake".to_owned() };
    for (pause, piece) in pieces {
        tokio::time::sleep(std::time::Duration::from_millis(*pause)).await;
        let _ = stream.write_all(piece.as_bytes()).await;
    }
    let mut received = Vec::new();
    // An end without `close_notify` is an end too.
    let _ = within("the end", stream.read_to_end(&mut received)).await;
    String::from_utf8(received).expect("text")
}

#[tokio::test]
async fn bodies_are_never_parsed_as_requests_over_tls_either() {
    let secured = Secured::start(|it| it.set("launchdarkly.max_client_connection_time", "500ms")).await;
    let smuggled = "GET /status HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = |headers: &str| format!("GET /all HTTP/1.1\r\nHost: a\r\nAuthorization: {SDK_KEY}\r\n{headers}\r\n");
    let with_length = head(&format!("Content-Length: {}\r\n", smuggled.len()));
    let last = "GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for pause in [0, 100, 900] {
        // The last request is answered only if the body was read and the connection continued.
        let text = exchange(&secured, "", &[(0, &with_length), (pause, smuggled), (900, last)]).await;
        let count = text.matches("HTTP/1.1 ").count();
        assert!(text.contains("event: put") && count <= 2, "{pause}: {text}");
        let second = text.rsplit("HTTP/1.1 ").next().unwrap_or_default();
        assert!(count == 1 || second.to_ascii_lowercase().contains("connection: close"), "{pause}: {text}");
        let text = exchange(&secured, "", &[(0, &head("")), (pause, last)]).await;
        assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "a request behind a stream, {pause}: {text}");
    }
    for headers in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let text = exchange(&secured, "", &[(0, &(head(headers) + "0\r\n\r\n" + smuggled))]).await;
        assert!(text.starts_with("HTTP/1.1 400") && text.matches("HTTP/1.1 ").count() == 1, "{headers}: {text}");
    }
}

#[tokio::test]
async fn a_header_of_the_proxy_protocol_comes_before_the_handshake() {
    let proxies = serde_json::json!(["127.0.0.1"]);
    let setup = |it: Setup| it.set("server.trusted_proxies", proxies).set("server.proxy_protocol", true);
    let secured = Secured::start(setup).await;
    let last = "GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let text = exchange(&secured, "PROXY TCP4 192.0.2.7 127.0.0.1 4711 8030\r\n", &[(0, last)]).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert_eq!(exchange(&secured, "", &[(0, last)]).await, "no handshake");
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_every_protocol() {
    let secured = Secured::start(|it| it.set("server.idle_timeout", "1s")).await;
    let open = async || secured.gateway.operator_gets("/api/status").await.json()["connections"]["open"].clone();
    for client in [secured.client(ClientBuilder::http1_only), secured.client(|it| it)] {
        for _ in 0..2 {
            assert_eq!(client.get(secured.url("/status")).send().await.expect("an answer").status(), 200);
            assert_eq!(open().await, 1);
            within("the end of a quiet connection", async {
                while open().await != 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
        }
    }
}

#[tokio::test]
#[cfg(debug_assertions)]
async fn a_renewed_certificate_is_served_after_a_panic_of_its_task() {
    let secured = Secured::start(|it| it).await;
    let known = secured.gateway.panics().await;
    assert!(known.contains_key("certificate files"), "counted from the start: {known:?}");
    // The waiting task, and then the reading one.
    secured.gateway.panics_in("certificate files").await;
    secured.gateway.panics_in("certificate files").await;
    let renewed = certificate::SECOND.write(secured._dir.path());
    let client =
        || Client::builder().add_root_certificate(renewed.clone()).resolve("localhost", secured.gateway.address);
    within("the new certificate", async {
        while client().build().expect("a client").get(secured.url("/status")).send().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    secured.gateway.stop().await;
}
