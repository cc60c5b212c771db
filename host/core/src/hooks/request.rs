//! The request hook: may this request or stream proceed, and under which identity?

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::{CallLog, HookFailure, HookFuture};
use crate::label::EnvironmentLabel;
use crate::retry_after;
use crate::secret::Secret;

/// Facts about a request. Which of them a plugin may read is decided by its grants.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    /// Identifies the request in logs.
    pub id: RequestId,
    /// The environment that the credential belongs to.
    pub environment: EnvironmentLabel,
    /// Identifier of the route, such as `server.stream.all`.
    pub route: &'static str,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path, query and all request headers.
    pub head: RequestHead,
    /// The credential of the caller.
    pub credential: Option<Secret>,
    /// Address of the client (see [`RequestOrigin`]).
    pub client: Option<IpAddr>,
    /// Address of the other end of the connection.
    pub peer: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// Whether the request needs a request plugin that allows it, because it has no credential of the environment that a
    /// resolver has chosen.
    pub is_delegated: bool,
    /// Where calls of plugins are logged, if an operator wants the request explained.
    pub call_log: Option<Arc<CallLog>>,
}

/// An admitted request: its facts, and the caller as request plugins know it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AdmittedRequest {
    /// Facts about the request.
    pub facts: Arc<RequestFacts>,
    /// The caller, if a plugin has named it.
    pub identity: Option<Arc<Identity>>,
}

/// Number of a request, unique among processes with high probability. Its text has 8 hexadecimal digits of the process, a
/// hyphen, and a sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

/// Where a request came from, as the listener saw it. Stored in the extensions of a request.
#[derive(Debug, Clone)]
pub struct RequestOrigin {
    /// Number of the request.
    pub id: RequestId,
    /// Address of the client, as far as the peer and the trusted proxies vouch for it; `None` when a trusted proxy does not
    /// know it.
    pub client: Option<IpAddr>,
    /// Address of the other end of the connection.
    pub peer: IpAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// The target as received, before paths are normalised.
    pub target: Uri,
    /// Where calls of plugins are logged, if an operator wants the request explained.
    pub call_log: Option<Arc<CallLog>>,
}

impl RequestFacts {
    /// Creates the facts of a request of which no more is known.
    #[must_use]
    pub fn new(environment: EnvironmentLabel, route: &'static str, sdk: &'static str) -> Self {
        Self {
            id: RequestId::next(),
            environment,
            route,
            sdk,
            method: Method::GET,
            head: RequestHead::default(),
            credential: None,
            client: None,
            peer: None,
            is_tls: false,
            is_delegated: false,
            call_log: None,
        }
    }
}

impl From<RequestFacts> for AdmittedRequest {
    /// Creates a request whose caller no plugin has named.
    fn from(facts: RequestFacts) -> Self {
        Self { facts: Arc::new(facts), identity: None }
    }
}

impl RequestId {
    /// Returns the next number.
    #[must_use]
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static PROCESS: LazyLock<u32> = LazyLock::new(rand::random);
        write!(f, "{:08x}-{:x}", *PROCESS, self.0)
    }
}

impl RequestOrigin {
    /// Returns the origin that the listener stored in a request's extensions.
    #[must_use]
    pub fn of(extensions: &http::Extensions) -> Option<&Self> {
        extensions.get()
    }
}

/// Calls the chain of request plugins of one environment.
pub trait RequestAuth: Send + Sync {
    /// Returns a number that changes if and only if a plugin of the chain, its configuration or its position changes;
    /// open streams are then authorized again.
    fn identity(&self) -> u64;

    /// Decides on one request. The result already follows the failure policies of the bindings.
    fn authenticate<'a>(&'a self, facts: &'a Arc<RequestFacts>) -> HookFuture<'a, Result<Admission, HookFailure>>;
}

/// The decision of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The request may proceed.
    Allowed {
        /// The identity that the last plugin returned, if any did.
        identity: Option<Arc<Identity>>,
        /// Headers to add to the response, validated by the host.
        response_headers: Vec<(HeaderName, HeaderValue)>,
    },
    /// The request is denied.
    Denied(Denial),
}

/// The identity of the caller, as plugins see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Name of the caller.
    pub principal: String,
    /// Names and values for later hooks.
    pub tags: Vec<(String, String)>,
}

/// A request was denied by a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Name of the plugin.
    pub plugin: Arc<str>,
    /// Class of the denial, which each vendor maps to its own status.
    pub class: DenialClass,
    /// Why, for the log.
    pub reason: Option<String>,
    /// Seconds after which a retry makes sense, if the plugin sets them.
    pub retry_after: Option<u32>,
    /// Headers to add to the response, validated by the host.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The class of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialClass {
    /// The caller is not authenticated.
    Unauthorized,
    /// The caller is known and lacks permission.
    Forbidden,
    /// Too many requests.
    RateLimited,
    /// Temporarily unavailable, for a reason that is not the caller's.
    Unavailable,
}

impl Denial {
    /// Creates a denial without details.
    #[must_use]
    pub fn new(plugin: Arc<str>, class: DenialClass) -> Self {
        Self { plugin, class, reason: None, retry_after: None, response_headers: Vec::new() }
    }

    /// Returns the number of seconds after which a retry makes sense, if the class has one.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self.class {
            DenialClass::RateLimited | DenialClass::Unavailable => {
                Some(self.retry_after.map_or_else(retry_after::soon, retry_after::at_least))
            }
            DenialClass::Unauthorized | DenialClass::Forbidden => None,
        }
    }
}

/// Target and headers of a request in one allocation, because an open stream keeps them as long as it lives.
///
/// Names are lower case. Layout: for each entry two little-endian `u32` lengths, the name, the value. The path is an entry
/// with the name `:path`, the query one with `:query`, which no header can have.
#[derive(Clone, Default)]
pub struct RequestHead(Arc<[u8]>);

const PATH: &str = ":path";
const QUERY: &str = ":query";

impl RequestHead {
    /// Copies target and headers of a request. A target with a host, as in HTTP/2, replaces the header `host`.
    #[must_use]
    pub fn new(target: &Uri, headers: &HeaderMap) -> Self {
        let authority = target.authority().map(Authority::as_str);
        let authority = authority.map(|it| it.rsplit_once('@').map_or(it, |(_, host)| host).as_bytes());
        let entries = || {
            let path = std::iter::once((PATH, target.path().as_bytes()));
            let query = target.query().map(|query| (QUERY, query.as_bytes()));
            let host = authority.map(|host| (HOST.as_str(), host));
            let headers = headers.iter().filter(|(name, _)| authority.is_none() || **name != HOST);
            path.chain(query).chain(host).chain(headers.map(|(name, value)| (name.as_str(), value.as_bytes())))
        };
        let size = entries().map(|(name, value)| 8 + name.len() + value.len()).sum();
        let mut block = Vec::with_capacity(size);
        for (name, value) in entries() {
            for length in [name.len(), value.len()] {
                // HTTP servers bound header sizes far below 4 GiB.
                block.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
            }
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(value);
        }
        Self(block.into())
    }

    /// Returns the path as received.
    #[must_use]
    pub fn path(&self) -> &str {
        self.get(PATH).and_then(|path| std::str::from_utf8(path).ok()).unwrap_or_default()
    }

    /// Returns the query as received, without `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.get(QUERY).and_then(|query| std::str::from_utf8(query).ok())
    }

    /// Returns names and values of headers in order of arrival.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries().filter(|(name, _)| !name.starts_with(':'))
    }

    /// Returns the values of a header in order of arrival; `name` must be lower case.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers().filter(move |(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// Returns the first value of a header; `name` must be lower case.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.get(name).filter(|_| !name.starts_with(':'))
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        self.entries().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
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
}

/// Header values may be secrets, so only their number is shown.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHead({} headers)", self.headers().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_the_target_is_a_header() {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("other"))]);
        for (target, headers, expected) in [
            ("https://acme.example:8443/all", &HeaderMap::new(), "acme.example:8443"),
            ("http://me@acme.example/all", &headers, "acme.example"),
            ("/all", &headers, "other"),
        ] {
            let head = RequestHead::new(&Uri::from_static(target), headers);
            assert_eq!(head.header("host").collect::<Vec<_>>(), [expected.as_bytes()], "{target}");
            assert_eq!(head.path(), "/all");
        }
    }

    #[test]
    fn a_head_returns_what_it_was_built_from() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        headers.append("x-b", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let head = RequestHead::new(&Uri::from_static("/sdk/evalx?h=1&x=%20"), &headers);
        assert_eq!((head.path(), head.query()), ("/sdk/evalx", Some("h=1&x=%20")));
        assert_eq!(head.headers().count(), 3);
        assert_eq!(head.header("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.first("x-b"), Some(&b"\xff\xfe"[..]));
        assert_eq!(head.header("x-c").next(), None);
        assert_eq!((head.first(":path"), head.header(":path").next()), (None, None), "not a header");
        assert_eq!(format!("{head:?}"), "RequestHead(3 headers)");
        assert_eq!(RequestHead::new(&Uri::from_static("/"), &headers).query(), None);
    }

    #[test]
    fn numbers_of_requests_differ() {
        let (first, second) = (RequestId::next(), RequestId::next());
        assert_ne!(first.to_string(), second.to_string());
        assert_eq!(first.to_string().split('-').next(), second.to_string().split('-').next());
    }
}
