//! The address of the client of a request, where trusted proxies stand in between.
//!
//! A header about the client is trusted only if the peer is a trusted proxy, and only as far as the chain of trusted
//! proxies reaches: from the right, the first address that is not a trusted proxy's is the client's. Everything to the
//! left of it was written by the client itself.

mod forwarded;

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Which proxies are trusted, and how they forward the client's address.
#[derive(Debug, Clone, Default)]
pub struct ProxyRules {
    /// Networks of trusted proxies.
    pub trusted: Vec<IpNet>,
    /// Whether connections of trusted proxies begin with a header of the PROXY protocol.
    pub requires_header: bool,
}

impl ProxyRules {
    /// Returns whether an address is that of a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Returns the client's address for a request from `peer`; `None` when a trusted proxy does not know it.
    ///
    /// `X-Forwarded-For` wins over `Forwarded` (RFC 7239), because proxies that maintain only the former forward the
    /// latter as the client wrote it.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Some(peer);
        }
        if headers.contains_key(X_FORWARDED_FOR) {
            let values = headers.get_all(X_FORWARDED_FOR).iter();
            let nodes: Vec<_> = values.flat_map(|value| value.as_bytes().split(|it| *it == b',')).collect();
            return self.walk(peer, nodes.into_iter().rev().map(|node| address(node.trim_ascii())));
        }
        let values: Vec<_> = headers.get_all(FORWARDED).iter().map(HeaderValue::as_bytes).collect();
        let nodes: Vec<_> = values.into_iter().flat_map(forwarded::nodes).collect();
        self.walk(peer, nodes.into_iter().rev())
    }

    /// Walks from the nearest hop to the farthest, as far as trust reaches.
    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let mut client = peer;
        for hop in hops {
            client = hop?;
            if !self.trusts(client) {
                break;
            }
        }
        Some(client)
    }
}

/// Parses an address with an optional port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`. Returns `None` for anything else, such as `unknown` and obfuscated identifiers.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?;
    let address = if let Some(rest) = node.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        address.parse::<std::net::Ipv6Addr>().ok()?.into()
    } else {
        match node.split_once(':') {
            Some((address, port)) if is_port(port) => address.parse::<std::net::Ipv4Addr>().ok()?.into(),
            _ => node.parse::<IpAddr>().ok()?,
        }
    };
    Some(address.to_canonical())
}

/// Returns whether the text is a port, or an obfuscated port (RFC 7239).
fn is_port(text: &str) -> bool {
    text.strip_prefix('_').map_or_else(
        || text.bytes().all(|it| it.is_ascii_digit()) && text.parse::<u16>().is_ok(),
        |name| !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it)),
    )
}

#[cfg(test)]
mod tests;
