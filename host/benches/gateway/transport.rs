//! A socket with or without TLS, for both the clients of this program and the floor.

use std::io::{ErrorKind, Read, Result, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mio::net::TcpStream;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// Certificate and key for `localhost`, the ones of the tests.
pub(crate) const CERTIFICATE: &str = include_str!("../../../tests/certificates/first.cert.pem");
pub(crate) const KEY: &str = include_str!("../../../tests/certificates/first.key.pem");

/// A non-blocking connection.
pub(crate) struct Transport {
    pub(crate) socket: TcpStream,
    tls: Option<Box<rustls::Connection>>,
}

/// Returns the configuration of clients that trust [`CERTIFICATE`] and negotiate `protocol`.
pub(crate) fn client_config(protocol: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Returns the configuration of a server with [`CERTIFICATE`].
pub(crate) fn server_config() -> anyhow::Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes())?];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config =
        builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_slice(KEY.as_bytes())?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Transport {
    pub(crate) fn plain(socket: TcpStream) -> Self {
        Self { socket, tls: None }
    }

    /// Creates the client's side of a connection to `localhost`.
    pub(crate) fn client(socket: TcpStream, config: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let name = "localhost".try_into().context("a name")?;
        let connection = ClientConnection::new(Arc::clone(config), name)?;
        Ok(Self { socket, tls: Some(Box::new(connection.into())) })
    }

    /// Creates the server's side of a connection.
    pub(crate) fn server(socket: TcpStream, config: &Arc<ServerConfig>) -> anyhow::Result<Self> {
        let mut connection = ServerConnection::new(Arc::clone(config))?;
        connection.set_buffer_limit(None);
        Ok(Self { socket, tls: Some(Box::new(connection.into())) })
    }

    /// Reads until the socket has no more bytes or the buffer is full; 0 is the end of the connection.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        let mut filled = 0;
        while filled < buffer.len() {
            match tls.reader().read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => match tls.read_tls(&mut self.socket) {
                    Ok(0) => break,
                    Ok(_) => {
                        tls.process_new_packets()
                            .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
                        flush(tls, &mut self.socket)?;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Writes bytes; with TLS, they are all taken, and [`Self::flush`] writes what the socket does not take.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        tls.writer().write_all(bytes)?;
        flush(tls, &mut self.socket)?;
        Ok(bytes.len())
    }

    /// Writes what was taken before.
    pub(crate) fn flush(&mut self) -> Result<()> {
        match &mut self.tls {
            Some(tls) => flush(tls, &mut self.socket),
            None => Ok(()),
        }
    }

    /// Closes the connection by a reset, so that ten thousand ports are not reserved for a minute.
    pub(crate) fn reset(&self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

fn flush(tls: &mut rustls::Connection, socket: &mut TcpStream) -> Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => (),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
