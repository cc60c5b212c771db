//! Outbound requests of plugins: to granted destinations only, without redirects, proxies and ambient credentials, and
//! bounded in time, size and number.

mod addresses;
mod headers;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use ipnet::IpNet;
use parking_lot::Mutex;
use reqwest::{Client, Url};
use tokio::sync::{OnceCell, Semaphore};
use yardarm_core::supervisor;
use yardarm_core::trace::{self, TraceContext};

use self::addresses::{AddressRefused, GuardedResolver};
use crate::vocabulary::{Grants, clean};

/// Maximum time of a request.
pub(crate) const LONGEST_REQUEST: Duration = Duration::from_secs(2);
/// Maximum size of the body of a request, and of a response.
const LARGEST_BODY: usize = 1 << 20;
/// Maximum number of requests in progress of one version of a plugin.
const MOST_REQUESTS: usize = 8;
/// How long a connection is kept for the next request.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HttpError {
    Invalid(String),
    Denied(String),
    /// Too many requests are in progress.
    Busy,
    Timeout,
    TooLarge,
    Connection(String),
}

/// A request as a plugin wrote it.
#[derive(Debug, Default)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) timeout: Option<Duration>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Bytes,
}

/// The client of all plugins, with its connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpClient(Arc<Shared>);

struct Shared {
    private_networks: Vec<IpNet>,
    /// Created with the first request, because most gateways have no such plugin.
    client: OnceCell<Client>,
}

/// Where the requests of a plugin go.
pub(crate) struct HttpAccess {
    target: Target,
    slots: Semaphore,
    /// Whether only requests are sent that change nothing (RFC 9110, section 9.2.1).
    is_safe_only: bool,
}

enum Target {
    Network(HttpClient),
    /// Responses by URL, for cases, and the requests so far.
    Fixed(Vec<(String, HttpResponse)>, Mutex<Vec<SentRequest>>),
}

/// A request of a case.
pub(crate) struct SentRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl HttpClient {
    pub(super) fn new(private_networks: Vec<IpNet>) -> Self {
        Self(Arc::new(Shared { private_networks, client: OnceCell::new() }))
    }

    async fn client(&self) -> Result<&Client, HttpError> {
        let resolver = Arc::new(GuardedResolver::new(self.0.private_networks.clone()));
        let build = move || {
            Client::builder()
                .dns_resolver(resolver)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .pool_idle_timeout(IDLE_CONNECTION)
                .connect_timeout(LONGEST_REQUEST)
                .user_agent(concat!("yardarm/", env!("CARGO_PKG_VERSION")))
                .build()
        };
        // The root certificates of the system are read from files.
        let create = || async {
            let built = supervisor::blocking("plugin HTTP client", build).await;
            built.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        };
        self.0.client.get_or_try_init(create).await.map_err(HttpError::Connection)
    }

    async fn send(&self, request: Checked, timeout: Duration) -> Result<HttpResponse, HttpError> {
        let Checked { method, url, mut headers, body } = request;
        if let Some(context) = trace::current()
            && !headers.contains_key(TraceContext::HEADER)
            && let Ok(parent) = context.parent_header().parse()
        {
            headers.insert(TraceContext::HEADER, parent);
        }
        let mut builder = self.client().await?.request(method, url).headers(headers).timeout(timeout);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let mut response = builder.send().await.map_err(|error| HttpError::of(&error))?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| HttpError::of(&error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Ok(HttpResponse { status: response.status().as_u16(), headers: headers.collect(), body: body.freeze() })
    }
}

/// A request that may be sent.
struct Checked {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl HttpAccess {
    /// Sends requests with this client.
    pub(super) fn new(client: HttpClient) -> Self {
        Self { target: Target::Network(client), slots: Semaphore::new(MOST_REQUESTS), is_safe_only: false }
    }

    /// Refuses requests that may change something.
    pub(super) fn for_shadow(self) -> Self {
        Self { is_safe_only: true, ..self }
    }

    /// Has no response to any request.
    pub(super) fn none() -> Self {
        Self::fixed(Vec::new())
    }

    /// Sends nothing, and has these responses by URL.
    pub(crate) fn fixed(responses: Vec<(String, HttpResponse)>) -> Self {
        let target = Target::Fixed(responses, Mutex::default());
        Self { target, slots: Semaphore::new(MOST_REQUESTS), is_safe_only: false }
    }

    /// Returns the requests of a case since the last time.
    pub(crate) fn take_sent(&self) -> Vec<SentRequest> {
        match &self.target {
            Target::Network(_) => Vec::new(),
            Target::Fixed(_, sent) => std::mem::take(&mut *sent.lock()),
        }
    }

    /// Sends a request.
    pub(crate) async fn send(&self, grants: &Grants, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let timeout = request.timeout.map_or(LONGEST_REQUEST, |timeout| timeout.min(LONGEST_REQUEST));
        let request = check(grants, request)?;
        if self.is_safe_only && !request.method.is_safe() {
            return Err(HttpError::Denied("a version in shadow sends only requests that change nothing".to_owned()));
        }
        let Ok(_slot) = self.slots.try_acquire() else { return Err(HttpError::Busy) };
        match &self.target {
            // The timeout of the client begins anew with the body.
            Target::Network(client) => {
                tokio::time::timeout(timeout, client.send(request, timeout)).await.unwrap_or(Err(HttpError::Timeout))
            }
            Target::Fixed(responses, sent) => {
                let found = responses.iter().find(|(url, _)| Url::parse(url).is_ok_and(|url| url == request.url));
                let none = || HttpError::Connection("the case has no response for this URL".to_owned());
                let answer = found.map(|(_, response)| response.clone()).ok_or_else(none);
                let Checked { method, url, headers, body } = request;
                sent.lock().push(SentRequest { method, url, headers, body: body.unwrap_or_default() });
                answer
            }
        }
    }
}

fn check(grants: &Grants, request: HttpRequest) -> Result<Checked, HttpError> {
    let HttpRequest { method, url, headers, body, .. } = request;
    let invalid = |text: String| HttpError::Invalid(clean(&text));
    let parsed = Url::parse(&url).map_err(|error| invalid(format!("the URL is not valid: {error}")))?;
    if !grants.http_out(&parsed) {
        return Err(HttpError::Denied(clean(&format!("no grant `http-out:` covers `{}`", without_query(&parsed)))));
    }
    if parsed.fragment().is_some() {
        return Err(invalid("the URL has a fragment".to_owned()));
    }
    let method = Method::from_bytes(method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
    let method = method.ok_or_else(|| invalid("the method is not valid".to_owned()))?;
    if body.as_ref().is_some_and(|body| body.len() > LARGEST_BODY) {
        return Err(HttpError::TooLarge);
    }
    Ok(Checked { method, url: parsed, headers: headers::check(headers).map_err(invalid)?, body })
}

/// Returns a URL for a message, without what may be a secret.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = (url.set_username(""), url.set_password(None));
    url.to_string()
}

impl HttpError {
    fn of(error: &reqwest::Error) -> Self {
        let mut source: Option<&(dyn Error + 'static)> = Some(error);
        let mut text = "the request failed".to_owned();
        while let Some(error) = source {
            if let Some(refused) = error.downcast_ref::<AddressRefused>() {
                return Self::Denied(refused.to_string());
            }
            text = error.to_string();
            source = error.source();
        }
        // The last error says what happened; the first one contains the URL.
        if error.is_timeout() { Self::Timeout } else { Self::Connection(clean(&text)) }
    }
}

#[cfg(test)]
mod tests;
