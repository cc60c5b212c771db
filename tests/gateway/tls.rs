//! TLS on the listener of SDKs: HTTP/1.1 and HTTP/2 on one port, and nothing in plain text.

use std::path::Path;

use futures_util::StreamExt;
use reqwest::{Certificate, Client, ClientBuilder, Version, tls};
use tempfile::TempDir;
use yardarm_testkit::{Call, within};

use crate::flags::{flag, some_data};
use crate::running::{Running, SDK_KEY, Setup};

/// A gateway with a certificate for `localhost`, and what a client needs to trust it.
struct Secured {
    gateway: Running,
    authority: Certificate,
    _dir: TempDir,
}

fn write_certificate(dir: &Path) -> Certificate {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(dir.join("cert.pem"), pair.cert.pem()).expect("a file");
    std::fs::write(dir.join("key.pem"), pair.signing_key.serialize_pem()).expect("a file");
    Certificate::from_pem(pair.cert.pem().as_bytes()).expect("a certificate")
}

fn setup(dir: &Path) -> Setup {
    let path = |name: &str| dir.join(name).to_str().expect("a path of text").to_owned();
    Setup::with(some_data()).set("server.tls.cert", path("cert.pem")).set("server.tls.key", path("key.pem"))
}

impl Secured {
    async fn start(adjust: impl FnOnce(Setup) -> Setup) -> Self {
        let dir = TempDir::new().expect("a folder");
        let authority = write_certificate(dir.path());
        Self { gateway: adjust(setup(dir.path())).start().await, authority, _dir: dir }
    }

    fn client(&self, adjust: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let builder = Client::builder().add_root_certificate(self.authority.clone());
        adjust(builder.resolve("localhost", self.gateway.address)).build().expect("a client")
    }

    fn url(&self, path: &str) -> String {
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
        assert_eq!((status.version(), status.status().as_u16()), (version, 200), "section 1.1");
    }
    let mut streams = Vec::new();
    for client in [secured.client(ClientBuilder::http1_only), secured.client(|it| it)] {
        let stream = client.get(secured.url("/all")).header("authorization", SDK_KEY).send().await.expect("a stream");
        assert_eq!(stream.headers()["content-type"], "text/event-stream; charset=utf-8");
        let has_connection = stream.headers().contains_key("connection");
        assert_eq!(has_connection, stream.version() == Version::HTTP_11, "section 3.1: never under HTTP/2");
        streams.push((Box::pin(stream.bytes_stream()), String::new()));
    }
    for (bytes, heard) in &mut streams {
        hears(bytes, heard, "event: put\n").await;
    }
    secured.gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    for (bytes, heard) in &mut streams {
        hears(bytes, heard, "event: patch\n").await;
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

async fn hears(
    bytes: &mut (impl futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin),
    heard: &mut String,
    text: &str,
) {
    within(text, async {
        while !heard.contains(text) {
            let chunk = bytes.next().await.expect("the stream goes on").expect("the stream goes on");
            heard.push_str(&String::from_utf8_lossy(&chunk));
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
    assert!(plain.send().await.is_err(), "section 1.1: no plain listener beside it");
    // Operators are not concerned.
    assert_eq!(secured.gateway.operator_gets("/live").await.status, 200);
    assert_eq!(Call::get("/live").to(secured.gateway.admin).await.status, 200);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let dir = TempDir::new().expect("a folder");
    write_certificate(dir.path());
    let other = TempDir::new().expect("a folder");
    write_certificate(other.path());
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
