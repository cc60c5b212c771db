//! The request that a hook is called for.

use std::net::IpAddr;

use crate::Identity;
use crate::bindings::host::request as generated;

/// Facts about a request. What a plugin does not read costs nothing.
///
/// A method that needs a grant returns nothing without it, and the gateway logs the missing grant once.
/// [`testing::TestRequest`](crate::testing::TestRequest) is a request for tests.
pub trait Request {
    /// Returns the vendor whose environment this is: `launchdarkly` or `harness`.
    fn vendor(&self) -> String;

    /// Returns the configured name of the environment.
    fn environment(&self) -> String;

    /// Returns the identifier of the route, such as `server.stream.all`.
    fn route(&self) -> String;

    /// Returns the kind of caller: `server`, `mobile` or `client`.
    fn sdk(&self) -> String;

    /// Returns the HTTP method.
    fn method(&self) -> String;

    /// Returns the number of the request, as in the gateway's log; `None` in hooks that must be pure.
    fn id(&self) -> Option<String>;

    /// Returns the path as received. Grant `path`.
    fn path(&self) -> Option<String>;

    /// Returns the query as received, without `?`. Grant `query`.
    fn query(&self) -> Option<String>;

    /// Returns all values of a header; the name in lower case. Grant `header:<name>`.
    fn header_values(&self, name: &str) -> Vec<Vec<u8>>;

    /// Returns all granted headers, names in lower case.
    fn headers(&self) -> Vec<(String, Vec<u8>)>;

    /// Returns the credential of the caller, if the route has one.
    fn credential(&self) -> Option<Credential>;

    /// Returns the address of the client, as far as peer and trusted proxies vouch for it. Grant `client-address`.
    fn client_address(&self) -> Option<String>;

    /// Returns the address of the other end of the connection. Grant `client-address`.
    fn peer_address(&self) -> Option<String>;

    /// Returns the addresses in `X-Forwarded-For`. Grant `client-address`.
    fn forwarded_for(&self) -> Vec<String>;

    /// Returns whether the connection is encrypted.
    fn tls(&self) -> bool;

    /// Returns the identity that `request-auth` plugins gave to the caller. Grant `identity`.
    fn identity(&self) -> Option<Identity>;

    /// Returns the first value of a header as text; `None` if it is absent, not granted or not UTF-8.
    fn header(&self, name: &str) -> Option<String> {
        let value = self.header_values(&name.to_ascii_lowercase()).into_iter().next()?;
        String::from_utf8(value).ok()
    }

    /// Returns the client's address; an IPv4-mapped IPv6 address is returned as IPv4.
    fn client_ip(&self) -> Option<IpAddr> {
        self.client_address()?.parse().ok().map(|address: IpAddr| address.to_canonical())
    }
}

/// The credential of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A keyed digest: stable within one process of the gateway, useless outside.
    Fingerprint(String),
    /// The credential itself, with the grant `credential:raw`.
    Raw(String),
}

impl Request for generated::Request {
    fn vendor(&self) -> String {
        Self::vendor(self)
    }

    fn environment(&self) -> String {
        Self::environment(self)
    }

    fn route(&self) -> String {
        Self::route(self)
    }

    fn sdk(&self) -> String {
        Self::sdk(self)
    }

    fn method(&self) -> String {
        Self::method(self)
    }

    fn id(&self) -> Option<String> {
        Self::id(self)
    }

    fn path(&self) -> Option<String> {
        Self::path(self)
    }

    fn query(&self) -> Option<String> {
        Self::query(self)
    }

    fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        Self::header(self, name)
    }

    fn headers(&self) -> Vec<(String, Vec<u8>)> {
        Self::headers(self).into_iter().map(|header| (header.name, header.value)).collect()
    }

    fn credential(&self) -> Option<Credential> {
        Self::credential(self).map(|credential| match credential {
            generated::Credential::Fingerprint(text) => Credential::Fingerprint(text),
            generated::Credential::Raw(text) => Credential::Raw(text),
        })
    }

    fn client_address(&self) -> Option<String> {
        Self::client_address(self)
    }

    fn peer_address(&self) -> Option<String> {
        Self::peer_address(self)
    }

    fn forwarded_for(&self) -> Vec<String> {
        Self::forwarded_for(self)
    }

    fn tls(&self) -> bool {
        Self::tls(self)
    }

    fn identity(&self) -> Option<Identity> {
        Self::identity(self).map(|it| Identity { principal: it.principal, tags: it.tags })
    }
}
