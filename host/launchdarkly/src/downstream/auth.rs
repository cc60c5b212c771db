//! Who is calling, for which environment, and may they? The only code that reads `Authorization`.
//!
//! The check is a layer of every route but `/status`, so no handler can be reached without it. A handler takes a
//! [`Caller`] and finds the environment in it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use yardarm_core::Secret;
use yardarm_core::hooks::{Admission, HeaderBlock, Plan, RequestFacts};
use yardarm_core::registry::RouteTag;

use super::Downstream;
use super::rejection::Rejection;
use crate::config::EnvironmentConfig;
use crate::credential;
use crate::environments::{LdEnvironment, Lookup, Phase, SdkKind};
use crate::usage::{Labels, RequestMethod};

/// One row of the route table.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteInfo {
    /// Identifier for plugins and metrics.
    pub(super) id: &'static str,
    /// Template of the path.
    pub(super) path: &'static str,
    pub(super) audience: Audience,
}

/// Who a route is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Audience {
    pub(super) kind: SdkKind,
    /// Methods that browsers are told about.
    pub(super) methods: &'static str,
}

/// A caller that was let in.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) environment: Arc<LdEnvironment>,
    /// Settings of the environment when the request came.
    pub(super) config: Arc<EnvironmentConfig>,
    pub(super) kind: SdkKind,
    pub(super) route: &'static str,
    /// The plan that let the caller in; the rest of the request uses the same one.
    pub(super) plan: Arc<dyn Plan>,
    pub(super) facts: RequestFacts,
}

/// Headers that browsers may send in any case (launchdarkly/ld-relay `internal/browser/cors.go`).
const ALLOWED_HEADERS: &str = "Cache-Control,Content-Type,Content-Length,Accept-Encoding,X-LaunchDarkly-User-Agent,X-LaunchDarkly-Payload-ID,X-LaunchDarkly-Wrapper,X-LaunchDarkly-Event-Schema,X-LaunchDarkly-Tags";

/// The layer in front of every authenticated route.
pub(super) async fn admit(State(downstream): State<Downstream>, mut request: Request, next: Next) -> Response {
    let Some(info) = request.extensions().get::<RouteInfo>().copied() else {
        // Only a mistake in the route table leads here.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (environment, credential) = match find(&downstream, info, &request) {
        Ok(found) => found,
        Err(rejection) => return rejected(rejection, info),
    };
    let config = environment.config();
    count(&downstream, info, &environment, &config, &request);
    // An empty one is none, as in Go.
    let origin = request.headers().get(ORIGIN).filter(|it| !it.is_empty()).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        next.run(request).await
    } else {
        let plan = downstream.hooks.pin();
        let facts = facts(&environment, credential, info, &request);
        match ask_plugins(&*plan, &facts).await {
            Err(rejection) => rejection.into_response(info.audience.kind),
            Ok(()) => {
                let caller = Caller {
                    environment: Arc::clone(&environment),
                    config: Arc::clone(&config),
                    kind: info.audience.kind,
                    route: info.id,
                    plan,
                    facts,
                };
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
        }
    };
    if info.audience.kind == SdkKind::Browser {
        add_cors(response.headers_mut(), info, &config, origin.as_ref());
    }
    response.extensions_mut().insert(RouteTag { route: info.id, environment: Some(environment.label.clone()) });
    response
}

/// Counts the request for LaunchDarkly's dashboards, which know everything but `/mping`.
fn count(
    downstream: &Downstream,
    info: RouteInfo,
    environment: &LdEnvironment,
    config: &EnvironmentConfig,
    request: &Request,
) {
    let Some(usage) = &downstream.usage else { return };
    let method = if request.method() == Method::PUT { report_method() } else { request.method().clone() };
    let labels = |route| Labels {
        env: config.display_name(&environment.filter),
        platform: platform(info.audience.kind),
        user_agent: user_agent(|name| request.headers().get(name).map(HeaderValue::as_bytes)),
        route,
    };
    if info.path != "/mping" {
        let path = if info.path == "/a/{file}" { "/a/{envId}.gif" } else { info.path };
        usage.request(labels(Some((RequestMethod::from(&method), path))));
    }
    if info.id.starts_with("server.poll") {
        usage.poll(labels(None));
    }
}

/// Kinds of callers as these metrics call them.
pub(super) fn platform(kind: SdkKind) -> &'static str {
    match kind {
        SdkKind::Server => "server",
        SdkKind::Mobile => "mobile",
        SdkKind::Browser => "browser",
    }
}

/// What a caller says it is; browsers cannot change `User-Agent`, so they have a header of their own.
pub(super) fn user_agent<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> String {
    let value = header("x-launchdarkly-user-agent").or_else(|| header("user-agent")).unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

/// `OPTIONS` on a browser route: the layer has done everything.
pub(super) async fn preflight() -> StatusCode {
    StatusCode::OK
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Missing only if a route was added without the layer.
        parts.extensions.remove::<Self>().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Section 1.4 of the compatibility page: the first check that fails answers.
fn find(
    downstream: &Downstream,
    info: RouteInfo,
    request: &Request,
) -> Result<(Arc<LdEnvironment>, Secret), Rejection> {
    let kind = info.audience.kind;
    let credential = match kind {
        SdkKind::Browser => environment_id(request.uri().path(), info),
        SdkKind::Server | SdkKind::Mobile => {
            credential::from_headers(request.headers()).ok_or(Rejection::NoCredential)?
        }
    };
    let filter = first_query_value(request.uri().query(), "filter").unwrap_or_default();
    let environment = match downstream.environments.find(kind, &credential, &filter) {
        Lookup::Found(environment) => environment,
        Lookup::UnknownFilter => return Err(Rejection::UnknownFilter),
        Lookup::UnknownCredential => return Err(Rejection::UnknownCredential),
        Lookup::Unlisted => return Err(Rejection::Unlisted),
    };
    match environment.phase() {
        Phase::Rejected => Err(Rejection::UnknownCredential),
        Phase::Starting => Err(Rejection::Starting),
        Phase::Empty | Phase::Ready => Ok((environment, Secret::new(credential))),
    }
}

/// The variable in the path. Routes put it at different places, so it is found by what stands before it.
fn environment_id(path: &str, info: RouteInfo) -> String {
    let prefixes = ["/sdk/evalx/", "/sdk/goals/", "/events/bulk/", "/events/diagnostic/", "/ping/", "/eval/", "/a/"];
    let rest = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or_default();
    let segment = rest.split('/').next().unwrap_or_default();
    let id = percent_decoded(segment);
    if info.id == "client.pixel" { id.strip_suffix(".gif").unwrap_or_default().to_owned() } else { id }
}

fn facts(environment: &LdEnvironment, credential: Secret, info: RouteInfo, request: &Request) -> RequestFacts {
    RequestFacts {
        environment: environment.label.clone(),
        route: info.id,
        sdk: info.audience.kind.as_str(),
        method: if request.method() == Method::PUT { report_method() } else { request.method().clone() },
        headers: HeaderBlock::new(request.headers()),
        credential: Some(credential),
        client: peer(request.extensions()),
    }
}

/// What `REPORT` was before the router saw it.
fn report_method() -> Method {
    Method::from_bytes(b"REPORT").unwrap_or(Method::GET)
}

/// Address of the peer, as the listener noted it.
pub(super) fn peer(extensions: &http::Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip())
}

async fn ask_plugins(plan: &dyn Plan, facts: &RequestFacts) -> Result<(), Rejection> {
    let hooks = plan.environment(&facts.environment);
    let Some(chain) = &hooks.request_auth else { return Ok(()) };
    match chain.authenticate(facts).await {
        Ok(Admission::Allowed(_)) => Ok(()),
        Ok(Admission::Denied { plugin, denial }) => Err(Rejection::Denied { plugin, denial }),
        Err(failure) => Err(Rejection::PluginFailed(failure)),
    }
}

fn rejected(rejection: Rejection, info: RouteInfo) -> Response {
    let mut response = rejection.into_response(info.audience.kind);
    if info.audience.kind == SdkKind::Browser {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(info.audience.methods));
    }
    response.extensions_mut().insert(RouteTag { route: info.id, environment: None });
    response
}

/// Section 9 of the compatibility page.
fn add_cors(headers: &mut HeaderMap, info: RouteInfo, config: &EnvironmentConfig, origin: Option<&HeaderValue>) {
    let allowed = match (config.allowed_origins.first(), origin) {
        (None, None) => Some(HeaderValue::from_static("*")),
        (None, Some(origin)) => Some(origin.clone()),
        (Some(first), origin) => {
            let is_listed =
                |origin: &&HeaderValue| config.allowed_origins.iter().any(|it| it.as_bytes() == origin.as_bytes());
            origin.filter(is_listed).cloned().or_else(|| HeaderValue::from_str(first).ok())
        }
    };
    let mut allowed_headers = ALLOWED_HEADERS.to_owned();
    for header in &config.allowed_headers {
        allowed_headers.push(',');
        allowed_headers.push_str(header);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("false"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(info.audience.methods));
    if let Ok(allowed_headers) = HeaderValue::from_str(&allowed_headers) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers);
    }
    // Streams have answered `*` already, which the reference keeps.
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
        && let Some(allowed) = allowed
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    }
}

/// The first value of a query parameter, decoded. Pairs that cannot be decoded do not count, as in Go.
pub(super) fn first_query_value(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').filter(|pair| !pair.contains(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded_strictly(key)? == name).then(|| decoded_strictly(value)).flatten()
    })
}

/// All values of a query parameter, decoded, but only if the query as a whole can be decoded.
pub(super) fn query_values(query: Option<&str>, name: &str) -> Result<Vec<String>, ()> {
    let mut values = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|it| !it.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded_strictly(key).ok_or(())? == name {
            values.push(decoded_strictly(value).ok_or(())?);
        }
    }
    Ok(values)
}

fn decoded_strictly(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'%' => {
                let mut byte = [0];
                hex::decode_to_slice(bytes.get(index + 1..index + 3)?, &mut byte).ok()?;
                decoded.extend(byte);
                index += 2;
            }
            b'+' => decoded.push(b' '),
            other => decoded.push(*other),
        }
        index += 1;
    }
    // Bytes that are no text are not text that was not sent: a filter of that name is an unknown one.
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

/// A path segment, decoded; a plus is a plus there.
pub(super) fn percent_decoded(segment: &str) -> String {
    decoded_strictly(&segment.replace('+', "%2B")).unwrap_or_else(|| segment.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_decodable_value_counts() {
        for (query, value) in [
            (None, None),
            (Some("filter=a&filter=b"), Some("a")),
            (Some("x=1&filter=a%20b"), Some("a b")),
            (Some("filter=a+b"), Some("a b")),
            (Some("filter=%zz"), None),
            (Some("filter=%+f"), None),
            (Some("filter=%ff"), Some("\u{fffd}")),
            (Some("%66ilter=a&filter=b"), Some("a")),
            (Some("&&filter=&filter=b"), Some("")),
            (Some("filter=a=b"), Some("a=b")),
            (Some("filter=%zz&filter=c"), Some("c")),
            (Some("filter=a;b"), None),
            (Some("filter"), Some("")),
            (Some("filters=a"), None),
        ] {
            assert_eq!(first_query_value(query, "filter").as_deref(), value, "{query:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            first_query_value(Some(&text), "filter");
            percent_decoded(&text);
        }
    }
}
