//! The header of the PROXY protocol, versions 1 and 2, by which a balancer sends the address of its client.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header of version 1, including its line end, in bytes.
const MAX_V1: usize = 107;
/// Longest header of version 2 that is read, in bytes. Addresses take at most 216; the rest is extensions, which are
/// skipped.
const MAX_V2: usize = 4096;
/// Bytes of version 2 up to and including its length field.
const V2_FIXED: usize = 16;

/// An error of a connection that must begin with a header.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the connection failed or ended before the header was complete: {0}")]
    Connection(#[from] std::io::Error),
    #[error("the connection does not begin with a header of the PROXY protocol")]
    Missing,
    #[error("the header is malformed")]
    Malformed,
    #[error("the header is longer than {MAX_V2} bytes")]
    TooLong,
}

/// Reads the header at the start of a connection.
///
/// Returns the address of the client, `None` for connections of the balancer itself and for unknown addresses, and the
/// bytes after the header that were read together with it.
pub(super) async fn read(
    connection: &mut (impl AsyncRead + Unpin),
) -> Result<(Option<SocketAddr>, Bytes), HeaderError> {
    let mut bytes = BytesMut::with_capacity(256);
    loop {
        if let Some((source, length)) = parse(&bytes)? {
            bytes.advance(length);
            return Ok((source, bytes.freeze()));
        }
        if connection.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Returns the source and the length of a header; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, HeaderError> {
    if starts_alike(bytes, v2::PROTOCOL_PREFIX) {
        return parse_v2(bytes);
    }
    if !starts_alike(bytes, v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(HeaderError::Missing);
    }
    let searched = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = searched.windows(2).position(|it| it == b"\r\n") else {
        return if bytes.len() >= MAX_V1 { Err(HeaderError::Malformed) } else { Ok(None) };
    };
    let header = v1::Header::try_from(&bytes[..end + 2]).map_err(|_| HeaderError::Malformed)?;
    let source = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(it) => Some((IpAddr::from(it.source_address), it.source_port).into()),
        v1::Addresses::Tcp6(it) => Some((IpAddr::from(it.source_address), it.source_port).into()),
    };
    Ok(Some((source, end + 2)))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, HeaderError> {
    if bytes.len() < V2_FIXED {
        return Ok(None);
    }
    let length = V2_FIXED + usize::from(u16::from_be_bytes([bytes[V2_FIXED - 2], bytes[V2_FIXED - 1]]));
    if length > MAX_V2 {
        return Err(HeaderError::TooLong);
    }
    if bytes.len() < length {
        return Ok(None);
    }
    let header = v2::Header::try_from(&bytes[..length]).map_err(|_| HeaderError::Malformed)?;
    let source = match (header.command, &header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(it)) => Some((IpAddr::from(it.source_address), it.source_port).into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(it)) => Some((IpAddr::from(it.source_address), it.source_port).into()),
        // Health checks of the balancer, and address families other than IP.
        _ => None,
    };
    Ok(Some((source, length)))
}

/// Returns whether one of the two is a prefix of the other.
fn starts_alike(bytes: &[u8], prefix: &[u8]) -> bool {
    let common = bytes.len().min(prefix.len());
    bytes[..common] == prefix[..common]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends the header byte by byte, followed by `GET`, as the smallest segments would.
    async fn reads(header: &[u8]) -> Result<Option<String>, HeaderError> {
        let text = [header, b"GET"].concat();
        let (mut far, mut near) = tokio::io::duplex(1);
        let sends = async { tokio::io::AsyncWriteExt::write_all(&mut far, &text).await };
        let reads = async {
            let (source, mut behind) = read(&mut near).await.map(|(source, behind)| (source, behind.to_vec()))?;
            while behind.len() < 3 {
                behind.push(near.read_u8().await?);
            }
            assert_eq!(behind, b"GET");
            Ok(source.map(|it| it.to_string()))
        };
        tokio::select! {
            read = reads => read,
            Err(error) = sends => Err(error.into()),
        }
    }

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, payload].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_in_segments_of_any_size() {
        let inet = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0x1f, 0x5e];
        let inet6 = [&[0x20, 1, 0xd, 0xb8], &[0; 11][..], &[7], &[0; 16], &[0x12, 0x67, 0x1f, 0x5e]].concat();
        let extended = [&inet[..], &[4, 0, 3, 1, 2, 3]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 8030\r\n".to_vec(), Some("192.0.2.7:4711")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8030\r\n".to_vec(), Some("[2001:db8::7]:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &inet), Some("192.0.2.7:4711")),
            (v2(0x21, 0x11, &extended), Some("192.0.2.7:4711")),
            (v2(0x21, 0x21, &inet6), Some("[2001:db8::7]:4711")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &inet), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
        ] {
            let read = reads(&header).await.unwrap_or_else(|error| panic!("{error}: {}", header.escape_ascii()));
            assert_eq!(read.as_deref(), expected, "{}", header.escape_ascii());
        }
    }

    #[tokio::test]
    async fn anything_else_is_rejected() {
        for header in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            b"PROXX TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(),
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x51, &[0; 12]),
            v2(0x21, 0x11, &[0; 5000]),
        ] {
            assert!(reads(&header).await.is_err(), "{}", header.escape_ascii());
        }
        let mut cut = &b"PROXY TCP4 192.0.2.7 10.0"[..];
        assert!(matches!(read(&mut cut).await, Err(HeaderError::Connection(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_read(start in 0..3_usize, tail: Vec<u8>) {
            let prefix = [&b""[..], b"PROXY ", v2::PROTOCOL_PREFIX][start];
            let bytes = [prefix, &tail].concat();
            if let Ok(Some((_, length))) = parse(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }
}
