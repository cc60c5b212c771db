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
use yardarm_core::hooks::{AdmittedRequest, Plan, RequestFacts, Resolution};
use yardarm_core::registry::RouteTag;
use yardarm_core::{EnvironmentLabel, Secret};
use yardarm_vendor::admission::{self, Refusal, RequestParts};

use super::Downstream;
use super::compat_metrics::{Labels, RequestMethod};
use super::query::{first_query_value, percent_decoded};
use super::rejection::{Rejection, Unrecognised};
use super::routes::{Audience, Credential, Route};
use crate::config::EnvironmentConfig;
use crate::environments::{LdEnvironment, Lookup, Phase};
use crate::identity;
use crate::identity::{SdkKind, VENDOR};

/// The row of a route with a credential.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteInfo {
    pub(super) route: &'static Route,
    pub(super) audience: Audience,
}

/// An authenticated caller.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) environment: Arc<LdEnvironment>,
    /// Settings of the environment at the time of the request.
    pub(super) config: Arc<EnvironmentConfig>,
    pub(super) kind: SdkKind,
    /// The plan that admitted the caller; the rest of the request uses the same one.
    pub(super) plan: Arc<dyn Plan>,
    pub(super) request: AdmittedRequest,
}

const X_LD_ENVID: HeaderName = HeaderName::from_static("x-ld-envid");

/// Headers that browsers may always send (launchdarkly/ld-relay `internal/browser/cors.go`).
const ALLOWED_HEADERS: &str = "Cache-Control,Content-Type,Content-Length,Accept-Encoding,X-LaunchDarkly-User-Agent,X-LaunchDarkly-Payload-ID,X-LaunchDarkly-Wrapper,X-LaunchDarkly-Event-Schema,X-LaunchDarkly-Tags";

/// The layer in front of every authenticated route.
pub(super) async fn admit(State(downstream): State<Arc<Downstream>>, mut request: Request, next: Next) -> Response {
    let Some(info) = request.extensions().get::<RouteInfo>().copied() else {
        // Only an error in the route table leads here.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let plan = downstream.hooks.pin();
    let chosen = match resolve(&*plan, info, &request).await {
        Ok(chosen) => chosen,
        Err(refusal) => return rejected(Rejection::from(refusal).into(), info),
    };
    let (environment, credential) = match find(&downstream, info, &request, chosen.as_ref()) {
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
        let is_delegated = chosen.is_some_and(|it| it.is_delegated);
        let facts = RequestFacts { is_delegated, ..facts(environment.label.clone(), credential, info, &request) };
        match admission::admit(plan, facts).await {
            Err(refusal) => Rejection::from(refusal).into_response(info.audience.kind),
            Ok(admitted) => {
                let caller = Caller {
                    environment: Arc::clone(&environment),
                    config: Arc::clone(&config),
                    kind: info.audience.kind,
                    plan: Arc::clone(&admitted.plan),
                    request: admitted.request.clone(),
                };
                request.extensions_mut().insert(caller);
                let mut response = next.run(request).await;
                admitted.add_headers(response.headers_mut());
                response
            }
        }
    };
    if let Some(methods) = info.audience.cors {
        add_cors(response.headers_mut(), methods, &config, origin.as_ref());
    }
    name_environment(&mut response, &config);
    response
        .extensions_mut()
        .insert(RouteTag { route: info.route.id.as_str(), environment: Some(environment.label.clone()) });
    response
}

/// Counts the request under the names of LaunchDarkly's relay.
fn count(
    downstream: &Downstream,
    info: RouteInfo,
    environment: &LdEnvironment,
    config: &EnvironmentConfig,
    request: &Request,
) {
    let Some(compat_metrics) = &downstream.compat_metrics else { return };
    let method = method(request);
    let labels = |route| Labels {
        env: config.display_name(&environment.filter),
        platform: platform(info.audience.kind),
        user_agent: user_agent(|name| request.headers().get(name).map(HeaderValue::as_bytes)),
        route,
    };
    if let Some(path) = info.route.counted_path() {
        compat_metrics.request(labels(Some((RequestMethod::from(&method), path))));
    }
    if info.route.id.is_poll() {
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

/// Calls the plugins that choose the environment of a request.
fn resolve<'p>(
    plan: &'p dyn Plan,
    info: RouteInfo,
    request: &Request,
) -> impl Future<Output = Result<Option<Resolution>, Refusal>> + Send + use<'p> {
    // A preflight of a browser has neither a credential nor an effect.
    let is_preflight = request.method() == Method::OPTIONS;
    let credential = || credential(info, request).ok().map(Secret::new);
    let resolution =
        (!is_preflight).then(|| admission::resolve(plan, VENDOR, &|label| facts(label, credential(), info, request)));
    async move {
        match resolution {
            Some(resolution) => resolution.await,
            None => Ok(None),
        }
    }
}

/// Returns the credential of a request, in the place where this route has it.
fn credential(info: RouteInfo, request: &Request) -> Result<String, Rejection> {
    match info.audience.credential {
        Credential::EnvironmentId => {
            Ok(percent_decoded(info.route.environment_id(request.uri().path()).unwrap_or_default()))
        }
        Credential::Authorization => identity::from_headers(request.headers()).ok_or(Rejection::NoCredential),
    }
}

/// Finds the environment of a request, and its credential, which is `None` if `chosen` needs none and there is none.
///
/// The first check that fails answers (L022 to L051).
///
/// If upstream rejects the key of an environment without data, the answer is 503, because the state ends as soon as
/// upstream accepts the key. LaunchDarkly's relay answers like this since 8.22, but opens streams, which stay silent; here
/// they are a 503 too, so that SDKs report that they have no data. Before 8.22 it answered 401 and 404, after which SDKs
/// stop for good.
fn find(
    downstream: &Downstream,
    info: RouteInfo,
    request: &Request,
    chosen: Option<&Resolution>,
) -> Result<(Arc<LdEnvironment>, Option<Secret>), Refused> {
    let kind = info.audience.kind;
    let credential = credential(info, request);
    let filter = first_query_value(request.uri().query(), "filter").unwrap_or_default();
    let environments = &downstream.environments;
    let lookup = match (chosen, &credential) {
        (Some(chosen), _) if chosen.is_delegated => environments.find_named(&chosen.environment, &filter),
        (_, Ok(credential)) => environments.find(kind, credential, &filter),
        (_, Err(_)) => return Err(Rejection::NoCredential.into()),
    };
    let environment = match lookup {
        Lookup::Found(environment) => match chosen {
            Some(chosen) if environment.label != identity::label(&chosen.environment, &filter) => {
                return Err(Rejection::UnknownCredential.into());
            }
            _ => environment,
        },
        Lookup::UnknownFilter => return Err(Rejection::UnknownFilter.into()),
        Lookup::UnknownCredential if let Some(chosen) = chosen.filter(|it| it.is_delegated) => {
            return Err(Rejection::from(admission::no_such_environment(chosen)).into());
        }
        Lookup::UnknownCredential => return Err(Rejection::UnknownCredential.into()),
        Lookup::Unlisted => return Err(Rejection::Unlisted.into()),
    };
    let rejection = match environment.phase() {
        Phase::Empty | Phase::Ready => return Ok((environment, credential.ok().map(Secret::new))),
        Phase::Rejected => Rejection::RejectedUpstream,
        Phase::Starting => Rejection::Starting,
    };
    Err(Refused { rejection, environment: Some(environment) })
}

fn facts(
    environment: EnvironmentLabel,
    credential: Option<Secret>,
    info: RouteInfo,
    request: &Request,
) -> RequestFacts {
    let parts = RequestParts { method: &method(request), headers: request.headers(), extensions: request.extensions() };
    let (route, sdk) = (info.route.id.as_str(), info.audience.kind.as_str());
    admission::facts(environment, route, sdk, &parts, credential)
}

/// The method as the SDK sent it: the router sees `REPORT` as `PUT`.
fn method(request: &Request) -> Method {
    let method = request.method();
    if method == Method::PUT { Method::from_bytes(b"REPORT").unwrap_or(Method::GET) } else { method.clone() }
}

/// Address of the peer, as recorded by the listener.
pub(super) fn peer(extensions: &http::Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|it| it.0.ip())
}

fn rejected(refused: Refused, info: RouteInfo) -> Response {
    let mut response = refused.rejection.into_response(info.audience.kind);
    if let Some(environment) = refused.environment {
        name_environment(&mut response, &environment.config());
    }
    if let Some(methods) = info.audience.cors {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    }
    response.extensions_mut().insert(RouteTag { route: info.route.id.as_str(), environment: None });
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
fn add_cors(headers: &mut HeaderMap, methods: &'static str, config: &EnvironmentConfig, origin: Option<&HeaderValue>) {
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
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
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
