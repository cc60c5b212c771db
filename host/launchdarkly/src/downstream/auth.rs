//! Authentication: the credential and the environment of a caller, and request plugins. The only code that reads
//! `Authorization`.
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
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use yardarm_core::Secret;
use yardarm_core::hooks::{Admission, ClientAddress, HeaderBlock, Plan, RequestFacts};
use yardarm_core::registry::RouteTag;

use super::Downstream;
use super::compat_metrics::{Labels, RequestMethod};
use super::query::{first_query_value, percent_decoded};
use super::rejection::{Rejection, Unrecognised};
use crate::config::EnvironmentConfig;
use crate::environments::{LdEnvironment, Lookup, Phase};
use crate::identity;
use crate::identity::SdkKind;

/// One row of the route table.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteInfo {
    /// Identifier for plugins and metrics.
    pub(super) id: &'static str,
    /// Template of the path.
    pub(super) path: &'static str,
    pub(super) audience: Audience,
}

/// The callers of a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Audience {
    pub(super) kind: SdkKind,
    /// Methods in CORS headers.
    pub(super) methods: &'static str,
}

/// An authenticated caller.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) environment: Arc<LdEnvironment>,
    /// Settings of the environment at the time of the request.
    pub(super) config: Arc<EnvironmentConfig>,
    pub(super) kind: SdkKind,
    pub(super) route: &'static str,
    /// The plan that admitted the caller; the rest of the request uses the same one.
    pub(super) plan: Arc<dyn Plan>,
    pub(super) facts: RequestFacts,
}

const X_LD_ENVID: HeaderName = HeaderName::from_static("x-ld-envid");

/// Headers that browsers may always send (launchdarkly/ld-relay `internal/browser/cors.go`).
const ALLOWED_HEADERS: &str = "Cache-Control,Content-Type,Content-Length,Accept-Encoding,X-LaunchDarkly-User-Agent,X-LaunchDarkly-Payload-ID,X-LaunchDarkly-Wrapper,X-LaunchDarkly-Event-Schema,X-LaunchDarkly-Tags";

/// The layer in front of every authenticated route.
pub(super) async fn admit(State(downstream): State<Downstream>, mut request: Request, next: Next) -> Response {
    let Some(info) = request.extensions().get::<RouteInfo>().copied() else {
        // Only an error in the route table leads here.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (environment, credential) = match find(&downstream, info, &request) {
        Ok(found) => found,
        Err(refused) => return rejected(refused, info),
    };
    let config = environment.config();
    count(&downstream, info, &environment, &config, &request);
    // An empty one counts as absent, as in Go.
    let origin = request.headers().get(ORIGIN).filter(|it| !it.is_empty()).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        next.run(request).await
    } else {
        let plan = downstream.hooks.pin();
        let facts = facts(&environment, credential, info, &request);
        match call_request_plugins(&*plan, &facts).await {
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
    name_environment(&mut response, &config);
    response.extensions_mut().insert(RouteTag { route: info.id, environment: Some(environment.label.clone()) });
    response
}

/// Counts the request under the names of LaunchDarkly's relay, which does not count `/mping`.
fn count(
    downstream: &Downstream,
    info: RouteInfo,
    environment: &LdEnvironment,
    config: &EnvironmentConfig,
    request: &Request,
) {
    let Some(compat_metrics) = &downstream.compat_metrics else { return };
    let method = if request.method() == Method::PUT { report_method() } else { request.method().clone() };
    let labels = |route| Labels {
        env: config.display_name(&environment.filter),
        platform: platform(info.audience.kind),
        user_agent: user_agent(|name| request.headers().get(name).map(HeaderValue::as_bytes)),
        route,
    };
    if info.path != "/mping" {
        let path = if info.path == "/a/{file}" { "/a/{envId}.gif" } else { info.path };
        compat_metrics.request(labels(Some((RequestMethod::from(&method), path))));
    }
    if info.id.starts_with("server.poll") {
        compat_metrics.poll(labels(None));
    }
}

/// Names of kinds of callers in these metrics.
pub(super) fn platform(kind: SdkKind) -> &'static str {
    match kind {
        SdkKind::Server => "server",
        SdkKind::Mobile => "mobile",
        SdkKind::Browser => "browser",
    }
}

/// The user agent of a caller; browsers cannot change `User-Agent`, so they have a header of their own.
pub(super) fn user_agent<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> String {
    let value = header("x-launchdarkly-user-agent").or_else(|| header("user-agent")).unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

/// `OPTIONS` on a browser route: the layer has set the headers.
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

/// A request that was rejected before any handler.
struct Refused {
    rejection: Rejection,
    /// The environment of the credential, if it has one.
    environment: Option<Arc<LdEnvironment>>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, environment: None }
    }
}

/// The first check that fails answers (L022 to L051).
///
/// If upstream rejects the key of an environment without data, the answer is 503, because the state ends as soon as
/// upstream accepts the key. LaunchDarkly's relay answers like this since 8.22, but opens streams, which stay silent; here
/// they are a 503 too, so that SDKs report that they have no data. Before 8.22 it answered 401 and 404, after which SDKs
/// stop for good.
fn find(downstream: &Downstream, info: RouteInfo, request: &Request) -> Result<(Arc<LdEnvironment>, Secret), Refused> {
    let kind = info.audience.kind;
    let credential = match kind {
        SdkKind::Browser => environment_id(request.uri().path(), info),
        SdkKind::Server | SdkKind::Mobile => {
            identity::from_headers(request.headers()).ok_or(Rejection::NoCredential)?
        }
    };
    let filter = first_query_value(request.uri().query(), "filter").unwrap_or_default();
    let environment = match downstream.environments.find(kind, &credential, &filter) {
        Lookup::Found(environment) => environment,
        Lookup::UnknownFilter => return Err(Rejection::UnknownFilter.into()),
        Lookup::UnknownCredential => return Err(Rejection::UnknownCredential.into()),
        Lookup::Unlisted => return Err(Rejection::Unlisted.into()),
    };
    let rejection = match environment.phase() {
        Phase::Empty | Phase::Ready => return Ok((environment, Secret::new(credential))),
        Phase::Rejected => Rejection::RejectedUpstream,
        Phase::Starting => Rejection::Starting,
    };
    Err(Refused { rejection, environment: Some(environment) })
}

/// The variable in the path. Its position differs between routes, so it is found by the text before it.
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
        client: ClientAddress::of(request.extensions()),
    }
}

/// The method `REPORT`, which the router sees as `PUT`.
fn report_method() -> Method {
    Method::from_bytes(b"REPORT").unwrap_or(Method::GET)
}

/// Address of the peer, as recorded by the listener.
pub(super) fn peer(extensions: &http::Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip())
}

async fn call_request_plugins(plan: &dyn Plan, facts: &RequestFacts) -> Result<(), Rejection> {
    let hooks = plan.environment(&facts.environment);
    let Some(chain) = &hooks.request_auth else { return Ok(()) };
    match chain.authenticate(facts).await {
        Ok(Admission::Allowed(_)) => Ok(()),
        Ok(Admission::Denied { plugin, denial }) => Err(Rejection::Denied { plugin, denial }),
        Err(failure) => Err(Rejection::PluginFailed(failure)),
    }
}

fn rejected(refused: Refused, info: RouteInfo) -> Response {
    let mut response = refused.rejection.into_response(info.audience.kind);
    if let Some(environment) = refused.environment {
        name_environment(&mut response, &environment.config());
    }
    if info.audience.kind == SdkKind::Browser {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(info.audience.methods));
    }
    response.extensions_mut().insert(RouteTag { route: info.id, environment: None });
    response
}

/// Adds the ID of the environment of the credential, which SDKs pass to hooks. LaunchDarkly's relay sets it on every
/// answer after the credential has matched, also on errors.
fn name_environment(response: &mut Response, config: &EnvironmentConfig) {
    if response.extensions().get::<Unrecognised>().is_some() {
        return;
    }
    if let Some(id) = config.credentials.env_id()
        && let Ok(id) = HeaderValue::from_str(id.as_str())
    {
        response.headers_mut().insert(X_LD_ENVID, id);
    }
}

/// The six CORS headers (L162 to L166).
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
    // Streams have set `*` already, which the reference keeps.
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
        && let Some(allowed) = allowed
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    }
}
