//! The hook `request-auth`: may this request or stream proceed, and under which identity?

use std::fmt;
use std::net::IpAddr;

use crate::bindings::request_auth as generated;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, Result};

/// Decides on requests and streams, after the host's own credential check: a plugin can restrict access, but not extend
/// it.
pub trait RequestAuth: Plugin {
    /// Decides on one request or stream.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies; by default the caller receives a 503 and retries, never a refusal.
    fn authenticate(&self, facts: &RequestFacts) -> Result<Decision>;
}

/// Facts about a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestFacts {
    /// The vendor whose environment this is: `launchdarkly` or `harness`.
    pub vendor: String,
    /// Configured name of the environment.
    pub environment: String,
    /// Identifier of the route, such as `server.stream.all`.
    pub route: String,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: String,
    /// HTTP method.
    pub method: String,
    /// Headers as name (lower case) and value; only those granted by name (`header:<name>`).
    pub headers: Vec<(String, Vec<u8>)>,
    /// Fingerprint of the credential, useless outside the gateway's process; the credential itself with the grant
    /// `credential:raw`.
    pub credential: Option<String>,
    /// Address of the client, with the grant `client-address`.
    pub client: Option<String>,
    /// Reserved for later releases of the host.
    pub extra: Vec<(String, String)>,
}

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The request may proceed, unless a later plugin of the chain denies it.
    Allow(Identity),
    /// The request is denied; later plugins are not called.
    Deny(Denial),
    /// No decision. If every plugin of the chain abstains, the request is denied.
    Abstain,
}

/// The identity of a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// A name for logs and later hooks.
    pub principal: String,
    /// Further properties.
    pub tags: Vec<(String, String)>,
}

/// Why a request is denied: a class, for which the host sends the response that the vendor's SDKs expect.
///
/// Most SDKs never retry after the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The caller is not authenticated.
    Unauthorized,
    /// The caller lacks permission.
    Forbidden,
    /// The caller should retry after this many seconds.
    RateLimited(u32),
    /// The caller should retry later.
    Unavailable,
}

impl RequestFacts {
    /// Returns the value of a header as text; `None` if it is absent, not granted or not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header_bytes(name)?).ok()
    }

    /// Returns the value of a header as bytes.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Returns the client's address; an IPv4-mapped IPv6 address is returned as IPv4.
    #[must_use]
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client.as_deref()?.parse().ok().map(|address: IpAddr| address.to_canonical())
    }

    /// Adds a header, for tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }
}

impl Decision {
    /// Lets the request proceed as `principal`.
    pub fn allow(principal: impl Into<String>) -> Self {
        Self::Allow(Identity { principal: principal.into(), tags: Vec::new() })
    }

    /// Denies the request.
    #[must_use]
    pub fn deny(denial: Denial) -> Self {
        Self::Deny(denial)
    }

    /// Adds a tag to the identity; does nothing to other decisions.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        if let Self::Allow(identity) = &mut self {
            identity.tags.push((name.into(), value.to_string()));
        }
        self
    }
}

impl<P: RequestAuth + Exported> generated::Guest for Adapter<P> {
    fn authenticate(
        facts: generated::RequestFacts,
    ) -> Result<generated::Decision, crate::bindings::host::types::PluginError> {
        let facts = RequestFacts::from(facts);
        call_plugin(|plugin: &P| plugin.authenticate(&facts)).map(generated::Decision::from)
    }
}

impl From<generated::RequestFacts> for RequestFacts {
    fn from(facts: generated::RequestFacts) -> Self {
        Self {
            vendor: facts.vendor,
            environment: facts.environment,
            route: facts.route,
            sdk: facts.sdk,
            method: facts.method,
            headers: facts.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            credential: facts.credential,
            client: facts.client,
            extra: facts.extra,
        }
    }
}

impl From<Decision> for generated::Decision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow(Identity { principal, tags }) => Self::Allow(generated::Identity { principal, tags }),
            Decision::Deny(denial) => Self::Deny(match denial {
                Denial::Unauthorized => generated::Denial::Unauthorized,
                Denial::Forbidden => generated::Denial::Forbidden,
                Denial::RateLimited(seconds) => generated::Denial::RateLimited(seconds),
                Denial::Unavailable => generated::Denial::Unavailable,
            }),
            Decision::Abstain => Self::Abstain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_name() {
        let facts = RequestFacts::default().with_header("X-Token", "abc").with_header("x-odd", [0xff]);
        assert_eq!(facts.header("x-token"), Some("abc"));
        assert_eq!(facts.header("X-TOKEN"), Some("abc"));
        assert_eq!(facts.header("x-odd"), None);
        assert_eq!(facts.header_bytes("x-odd"), Some(&[0xff][..]));
        assert_eq!(facts.header("x-other"), None);
    }

    #[test]
    fn the_address_is_canonical() {
        for (text, expected) in
            [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::1")]
        {
            let facts = RequestFacts { client: Some(text.to_owned()), ..RequestFacts::default() };
            assert_eq!(facts.client_ip(), expected.parse().ok(), "{text}");
        }
        assert_eq!(RequestFacts::default().client_ip(), None);
    }

    #[test]
    fn only_an_identity_has_tags() {
        assert_eq!(Decision::Abstain.tag("a", 1), Decision::Abstain);
        let Decision::Allow(identity) = Decision::allow("me").tag("a", 1).tag("b", "x") else { panic!() };
        assert_eq!(identity.tags, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x".to_owned())]);
    }
}
