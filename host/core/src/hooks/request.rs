//! The request hook: may this request or stream proceed, and under which identity?

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};

use super::{HookFailure, HookFuture};
use crate::label::EnvironmentLabel;
use crate::retry_after;
use crate::secret::Secret;

/// Facts about a request. Which of them a plugin may read is decided by its grants.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    /// The environment that the credential belongs to.
    pub environment: EnvironmentLabel,
    /// Identifier of the route, such as `server.stream.all`.
    pub route: &'static str,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: &'static str,
    /// HTTP method.
    pub method: Method,
    /// All request headers.
    pub headers: HeaderBlock,
    /// The credential of the caller.
    pub credential: Option<Secret>,
    /// Address of the client (see [`ClientAddress`]).
    pub client: Option<IpAddr>,
}

/// Address of a request's client, as far as the peer and the trusted proxies vouch for it; `None` when a trusted proxy
/// does not know it. Stored in the extensions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub Option<IpAddr>);

impl ClientAddress {
    /// Returns the address that the listener stored in a request's extensions.
    #[must_use]
    pub fn of(extensions: &http::Extensions) -> Option<IpAddr> {
        extensions.get::<Self>().and_then(|it| it.0)
    }
}

/// Calls the chain of request plugins of one environment.
pub trait RequestAuth: Send + Sync {
    /// Returns a number that changes if and only if a plugin of the chain, its configuration or its position changes;
    /// open streams are then authorized again.
    fn identity(&self) -> u64;

    /// Decides on one request. The result already follows the failure policies of the bindings.
    fn authenticate<'a>(&'a self, facts: &'a RequestFacts) -> HookFuture<'a, Result<Admission, HookFailure>>;
}

/// The decision of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The request may proceed; the identity is that of the last plugin that returned one.
    Allowed(Option<Arc<Identity>>),
    /// The request is denied by this plugin.
    Denied {
        /// Name of the plugin.
        plugin: Arc<str>,
        /// Class of the denial, which each vendor maps to its own status.
        denial: Denial,
    },
}

/// The identity of the caller, as plugins see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Name of the caller.
    pub principal: String,
    /// Arbitrary pairs for later hooks.
    pub tags: Vec<(String, String)>,
}

/// Why a plugin denied a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The caller is not authenticated.
    Unauthorized,
    /// The caller is known and lacks permission.
    Forbidden,
    /// Too many requests; the minimum number of seconds until a retry makes sense.
    RateLimited(u32),
    /// Temporarily unavailable, for a reason that is not the caller's.
    Unavailable,
}

impl Denial {
    /// Returns the number of seconds after which a retry makes sense, if the denial has one.
    #[must_use]
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Self::RateLimited(seconds) => Some(retry_after::at_least(seconds)),
            Self::Unavailable => Some(retry_after::soon()),
            Self::Unauthorized | Self::Forbidden => None,
        }
    }
}

/// All headers of a request in one allocation, because an open stream keeps them as long as it lives.
///
/// Names are lower case. Layout: for each header two little-endian `u32` lengths, the name, the value.
#[derive(Clone, Default)]
pub struct HeaderBlock(Arc<[u8]>);

impl HeaderBlock {
    /// Copies the headers of a request.
    #[must_use]
    pub fn new(headers: &HeaderMap) -> Self {
        let size = headers.iter().map(|(name, value)| 8 + name.as_str().len() + value.len()).sum();
        let mut block = Vec::with_capacity(size);
        for (name, value) in headers {
            for length in [name.as_str().len(), value.len()] {
                // HTTP servers bound header sizes far below 4 GiB.
                block.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
            }
            block.extend_from_slice(name.as_str().as_bytes());
            block.extend_from_slice(value.as_bytes());
        }
        Self(block.into())
    }

    /// Returns names and values in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (name_length, tail) = rest.split_first_chunk::<4>()?;
            let (value_length, tail) = tail.split_first_chunk::<4>()?;
            let (name, tail) = tail.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
            let (value, tail) = tail.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
            rest = tail;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// Returns the first value of a header; `name` must be lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }
}

/// Header values may be secrets, so only their number is shown.
impl std::fmt::Debug for HeaderBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeaderBlock({} headers)", self.iter().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_block_returns_the_headers_it_was_built_from() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        headers.append("x-b", http::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let block = HeaderBlock::new(&headers);
        assert_eq!(block.iter().count(), 3);
        assert_eq!(block.get("x-a"), Some(&b"1"[..]));
        assert_eq!(block.get("x-b"), Some(&b"\xff\xfe"[..]));
        assert_eq!(block.get("x-c"), None);
        assert_eq!(format!("{block:?}"), "HeaderBlock(3 headers)");
    }
}
