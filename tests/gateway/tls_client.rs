//! A client over TLS that tests control record by record.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto, version};
use yardarm_testkit::{Call, within};

use crate::certificate;
use crate::running::SDK_KEY;

pub(super) const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A connection to a gateway with the first test certificate.
pub(super) struct TlsClient {
    stream: TlsStream<TcpStream>,
    received: Vec<u8>,
}

impl TlsClient {
    pub(super) async fn open(address: SocketAddr, version: &'static SupportedProtocolVersion) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        Self::handshake(socket, version).await
    }

    /// Opens a connection whose receive buffer is small, so that a client that does not read blocks its writer soon.
    pub(super) async fn open_narrow(address: SocketAddr, receive_buffer: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(receive_buffer).expect("a size");
        let socket = socket.connect(address).await.expect("a connection");
        Self::handshake(socket, &version::TLS13).await
    }

    async fn handshake(socket: TcpStream, version: &'static SupportedProtocolVersion) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(certificate::FIRST.certificate.as_bytes());
        roots.add(certificate.expect("a certificate")).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).expect("a version");
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let name = "localhost".try_into().expect("a name");
        let connects = tokio_rustls::TlsConnector::from(config).connect(name, socket);
        Self { stream: within("the handshake", connects).await.expect("a handshake"), received: Vec::new() }
    }

    /// Requests `/all`; returns the head of the response.
    pub(super) async fn opens_stream(&mut self) -> String {
        self.requests(&Call::get("/all").key(SDK_KEY)).await
    }

    /// Sends a request; returns the head of the response.
    pub(super) async fn requests(&mut self, call: &Call) -> String {
        self.sends(call).await;
        self.until(b"\r\n\r\n").await
    }

    pub(super) async fn sends(&mut self, call: &Call) {
        self.stream.write_all(&call.bytes()).await.expect("an open connection");
        self.stream.flush().await.expect("an open connection");
    }

    /// Returns the next chunk; `None` at the end of the body.
    pub(super) async fn chunk(&mut self) -> Option<String> {
        let line = self.until(b"\r\n").await;
        let length = usize::from_str_radix(line.trim_end(), 16).expect("the size of a chunk");
        while self.received.len() < length + 2 {
            self.reads_more().await;
        }
        let chunk: Vec<u8> = self.received.drain(..length + 2).take(length).collect();
        (length > 0).then(|| String::from_utf8(chunk).expect("text"))
    }

    /// Returns name and data of the next event; heartbeats are skipped.
    pub(super) async fn event(&mut self) -> (String, Value) {
        loop {
            let chunk = self.chunk().await.expect("the stream goes on");
            if let Some((name, data)) = chunk.strip_prefix("event: ").and_then(|it| it.split_once("\ndata: ")) {
                return (name.to_owned(), serde_json::from_str(data.trim_end()).expect("data in JSON"));
            }
        }
    }

    /// Reads to the end of the connection. An error is the reason why it did not end as TLS requires.
    pub(super) async fn reads_to_end(&mut self) -> std::io::Result<String> {
        let mut rest = std::mem::take(&mut self.received);
        within("the end of the connection", self.stream.read_to_end(&mut rest)).await?;
        Ok(String::from_utf8(rest).expect("text"))
    }

    /// Announces the end of what this client sends, without closing the socket.
    pub(super) async fn closes_notify(&mut self) {
        self.stream.get_mut().1.send_close_notify();
        self.stream.flush().await.expect("an open connection");
    }

    /// Closes the sending side of the socket, without an announcement.
    pub(super) async fn closes_socket(&mut self) {
        self.stream.get_mut().0.shutdown().await.expect("an open connection");
    }

    /// Changes the keys of both directions, as TLS 1.3 allows at any time.
    pub(super) async fn updates_keys(&mut self) {
        self.stream.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        self.stream.flush().await.expect("an open connection");
    }

    /// Sends bytes that are not encrypted.
    pub(super) async fn sends_raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().0.write_all(bytes).await.expect("an open connection");
    }

    /// Returns what has been received up to `end`, and that.
    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|it| it == end) {
                return String::from_utf8(self.received.drain(..at + end.len()).collect()).expect("text");
            }
            self.reads_more().await;
        }
    }

    async fn reads_more(&mut self) {
        let count = within("more data", self.stream.read_buf(&mut self.received)).await.expect("an open connection");
        assert!(count > 0, "the connection ended");
    }
}
