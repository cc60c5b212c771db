//! Requests to the admin listener of a running gateway.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use yardarm_core::Secret;

/// Longest response that is read, in bytes: `/api/plugins` has the last errors of each of a thousand plugins.
const MAX_ANSWER: u64 = 64 << 20;

/// Where an admin listener is reached: host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdminAddress(String);

/// A response.
#[derive(Debug)]
pub(super) struct AdminAnswer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl AdminAddress {
    /// Parses an argument: `HOST:PORT`, which may begin with `http://`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let parsed = authority.parse::<http::uri::Authority>().ok().filter(|it| !it.as_str().contains('@'));
        match parsed.filter(|it| it.port_u16().is_some()) {
            Some(authority) => Ok(Self(authority.to_string())),
            None => Err("must be a host with a port, such as `127.0.0.1:8040`; it speaks plain HTTP".to_owned()),
        }
    }

    /// Sends one request, by hand, because a probe needs no HTTP client with certificates and pools.
    pub(super) async fn send(
        &self,
        method: &Method,
        path: &str,
        token: Option<&Secret>,
        limit: Duration,
    ) -> io::Result<AdminAnswer> {
        let answer = tokio::time::timeout(limit, self.exchange(method, path, token)).await;
        answer.unwrap_or_else(|_| Err(io::Error::other(format!("none within {} s", limit.as_secs()))))
    }

    async fn exchange(&self, method: &Method, path: &str, token: Option<&Secret>) -> io::Result<AdminAnswer> {
        let mut stream = TcpStream::connect(&self.0).await?;
        let authorization = token.map(|it| format!("Authorization: Bearer {}\r\n", it.expose())).unwrap_or_default();
        let length = if *method == Method::GET { "" } else { "Content-Length: 0\r\n" };
        let request = format!("{method} {path} HTTP/1.0\r\nHost: {self}\r\n{authorization}{length}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split_whitespace().nth(1).and_then(|it| it.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("this is not HTTP"))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        Ok(AdminAnswer { status, body })
    }
}

/// A listener on all addresses is reached by the loopback address.
impl From<SocketAddr> for AdminAddress {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(it) if it.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(it) if it.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            other => other,
        };
        Self(SocketAddr::new(ip, address.port()).to_string())
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port() {
        for (text, address) in [
            ("127.0.0.1:8040", "127.0.0.1:8040"),
            ("http://127.0.0.1:8040/", "127.0.0.1:8040"),
            ("[::1]:8040", "[::1]:8040"),
            ("gateway.ops.svc:8040", "gateway.ops.svc:8040"),
        ] {
            assert_eq!(AdminAddress::parse(text).unwrap().to_string(), address);
        }
        for text in ["127.0.0.1", "https://127.0.0.1:8040", "user@host:1", "host:1/path", "host:1\r\nx: y", ""] {
            assert!(AdminAddress::parse(text).is_err(), "{text:?}");
        }
        let any = AdminAddress::from(SocketAddr::from(([0, 0, 0, 0], 8040)));
        assert_eq!(any.to_string(), "127.0.0.1:8040");
    }
}
