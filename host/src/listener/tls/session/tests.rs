use std::io::{Read, Write};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;

const CERTIFICATE: &[u8] = include_bytes!("../../../../../tests/certificates/first.cert.pem");
const KEY: &[u8] = include_bytes!("../../../../../tests/certificates/first.key.pem");

/// A session and its client, connected by memory.
struct Pair {
    session: TlsSession,
    client: ClientConnection,
    /// Most bytes that either side passes on at once.
    step: usize,
    /// Data that the client has received.
    arrived: Vec<u8>,
}

impl Pair {
    /// Performs a handshake whose bytes arrive in pieces of `step`.
    fn connected(version: &'static SupportedProtocolVersion, step: usize) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]);
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let server = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut pair = Self { session: TlsSession::new(Arc::new(server)).unwrap(), client, step, arrived: Vec::new() };
        while pair.session.is_handshaking() || pair.client.is_handshaking() {
            pair.exchange();
        }
        pair.exchange();
        pair
    }

    /// Passes on what both sides have to send.
    fn exchange(&mut self) {
        let mut sent = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut sent).unwrap();
        }
        for piece in sent.chunks_mut(self.step) {
            self.session.receive(piece).unwrap();
        }
        let mut answers = Vec::new();
        self.session.flush(|bytes| take(&mut answers, bytes, self.step)).unwrap();
        self.reads(&answers);
    }

    fn reads(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            self.client.read_tls(&mut records).unwrap();
            self.client.process_new_packets().unwrap();
            let mut data = vec![0; 64 << 10];
            let length = self.client.reader().read(&mut data).unwrap_or(0);
            self.arrived.extend_from_slice(&data[..length]);
        }
    }

    fn data(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.arrived)
    }
}

fn take(taken: &mut Vec<u8>, bytes: &[u8], most: usize) -> Result<usize> {
    let count = bytes.len().min(most);
    taken.extend_from_slice(&bytes[..count]);
    Ok(count)
}

#[test]
fn data_passes_in_both_directions_in_pieces_of_any_size() {
    for version in [&TLS12, &TLS13] {
        for step in [1, 7, 1000, 1 << 20] {
            let mut pair = Pair::connected(version, step);
            for length in [1, 100, MAX_PIECE, 3 * MAX_PIECE + 5] {
                let data: Vec<u8> = (0..length).map(|it| (it % 251) as u8).collect();
                let (mut written, mut records) = (0, Vec::new());
                while written < length {
                    let count = pair.session.write(&data[written..], |bytes| take(&mut records, bytes, step)).unwrap();
                    assert!(count <= MAX_PIECE);
                    written += count;
                }
                pair.session.flush(|bytes| take(&mut records, bytes, step)).unwrap();
                pair.reads(&records);
                assert_eq!(pair.data(), data);

                pair.client.writer().write_all(&data[..length.min(20_000)]).unwrap();
                pair.exchange();
                assert_eq!(pair.session.received(), &data[..length.min(20_000)]);
                pair.session.consume(1);
                pair.session.put_back(&data[..1]);
                assert_eq!(pair.session.received(), &data[..length.min(20_000)]);
                pair.session.consume(length.min(20_000));
            }
        }
    }
}

#[test]
fn a_full_socket_keeps_one_piece_and_loses_nothing() {
    let mut pair = Pair::connected(&TLS13, 1 << 20);
    let data = vec![b'x'; 3 * MAX_PIECE];
    let mut records = Vec::new();
    let full = |_: &[u8]| Err(ErrorKind::WouldBlock.into());
    // The socket accepts some bytes, and nothing more.
    let mut room = 100;
    let count = pair.session.write(&data, |bytes| {
        let count = bytes.len().min(std::mem::take(&mut room));
        if count == 0 { full(bytes) } else { take(&mut records, bytes, count) }
    });
    assert_eq!(count.unwrap(), MAX_PIECE);
    assert!(pair.session.unsent.len() < MAX_PIECE + MAX_OVERHEAD && pair.session.has_unsent());
    for _ in 0..3 {
        assert_eq!(pair.session.write(&data[MAX_PIECE..], full).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(pair.session.write(&data[MAX_PIECE..], |bytes| take(&mut records, bytes, 9)).unwrap(), MAX_PIECE);
    pair.reads(&records);
    assert_eq!(pair.data().len(), 2 * MAX_PIECE);
    assert_eq!(pair.session.unsent.capacity(), 0, "freed");
}

#[test]
fn an_interrupted_write_loses_nothing() {
    let mut pair = Pair::connected(&TLS13, 1 << 20);
    let (mut records, mut calls) = (Vec::new(), 0);
    let mut send = |bytes: &[u8]| {
        calls += 1;
        if calls % 2 == 1 { Err(ErrorKind::Interrupted.into()) } else { take(&mut records, bytes, 50) }
    };
    assert_eq!(pair.session.write(&[b'x'; 200], &mut send).unwrap(), 200);
    while let Err(error) = pair.session.flush(&mut send) {
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
    pair.reads(&records);
    assert_eq!(pair.data(), [b'x'; 200]);
}

#[test]
fn the_client_may_ask_for_new_keys_at_any_time() {
    let mut pair = Pair::connected(&TLS13, 3);
    for round in 0..5_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round]).unwrap();
        pair.exchange();
        assert_eq!(pair.session.received(), [round]);
        pair.session.consume(1);
        let mut records = Vec::new();
        assert_eq!(pair.session.write(&[round; 9], |bytes| take(&mut records, bytes, 3)).unwrap(), 9);
        pair.reads(&records);
        assert_eq!(pair.data(), [round; 9]);
    }
}

#[test]
fn both_sides_announce_their_end() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::connected(version, 1 << 20);
        assert!(!pair.session.has_peer_closed());
        pair.client.send_close_notify();
        pair.exchange();
        assert!(pair.session.has_peer_closed());
        assert!(pair.session.close() && !pair.session.close(), "once");
        let mut records = Vec::new();
        pair.session.flush(|bytes| take(&mut records, bytes, 1)).unwrap();
        pair.client.read_tls(&mut &records[..]).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        assert!(pair.session.write(b"x", |bytes| Ok(bytes.len())).is_err(), "nothing after the end");
    }
}

#[test]
fn wrong_bytes_are_answered_by_an_alert() {
    let mut pair = Pair::connected(&TLS13, 1 << 20);
    assert!(pair.session.receive(&mut [[23, 3, 3, 0, 40].as_slice(), &[7; 40]].concat()).is_err());
    let mut records = Vec::new();
    pair.session.flush(|bytes| take(&mut records, bytes, 1)).unwrap();
    pair.client.read_tls(&mut &records[..]).unwrap();
    assert!(matches!(pair.client.process_new_packets(), Err(rustls::Error::AlertReceived(_))));
    assert!(pair.session.receive(&mut [1]).is_err(), "and the session stays broken");
}

proptest::proptest! {
    #[test]
    fn any_bytes_can_be_received(pieces: Vec<Vec<u8>>, step in 1..40_usize) {
        let mut pair = Pair::connected(&TLS13, step);
        for mut piece in pieces {
            // Errors are expected; panics and growth are not.
            let _ = pair.session.receive(&mut piece);
            proptest::prop_assert!(pair.session.incomplete.len() <= MAX_INCOMPLETE);
            let _ = pair.session.write(b"x", |bytes| Ok(bytes.len()));
        }
    }
}
