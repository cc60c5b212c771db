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
use http::header::{CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use yardarm_core::hooks::{AdmittedRequest, Plan, RequestFacts, Resolution};
use yardarm_core::registry::RouteTag;
use yardarm_core::{EnvironmentLabel, SdkRelease, Secret};
use yardarm_vendor::admission::{self, Refusal, RequestParts};

use super::Downstream;
use super::compat_metrics::{CountedRequest, Labels, RequestMethod};
use super::cors::Cors;
use super::query::{first_query_value, percent_decoded};
use super::rejection::{Rejection, Unrecognised};
use super::routes::{Audience, Credential, Route};
use super::sdk_release::{sdk_release, user_agent};
use crate::config::EnvironmentConfig;
use crate::environments::{LdEnvironment, Lookup, Phase};
use crate::identity;
use crate::identity::{SdkKind, VENDOR};

/// Content type of streams.
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// The row of a route with a credential.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteInfo {
    pub(super) route: &'static Route,
    pub(super) audience: Audience,
}

impl RouteInfo {
    /// The row for one request: on some routes the credential decides about the kind of SDK (V006).
    fn of(self, request: &Request) -> Self {
        if self.audience.credential != Credential::HeaderOrQuery {
            return self;
        }
        let is_mobile = client_credential(request).is_some_and(|it| it.starts_with(MOBILE_PREFIX));
        let kind = if is_mobile { SdkKind::Mobile } else { SdkKind::Browser };
        Self { audience: Audience { kind, ..self.audience }, ..self }
    }

    /// Whether `request` is a preflight, which has no headers of the SDK, on a route whose path names no environment.
    fn needs_no_credential(&self, request: &Request) -> bool {
        self.audience.credential == Credential::HeaderOrQuery && request.method() == Method::OPTIONS
    }

    /// Names this route in the extensions of a response, with the environment and the SDK of its caller.
    fn tag(self, response: &mut Response, environment: Option<EnvironmentLabel>, sdk: Option<SdkRelease>) {
        let (route, path) = (self.route.id.as_str(), self.route.path.as_str());
        response.extensions_mut().insert(RouteTag { route, path, environment, sdk });
    }

    fn add_cors_without_environment(&self, response: &mut Response, origin: Option<&HeaderValue>) {
        if let Some(cors) = self.audience.cors {
            cors.add_without_environment(response.headers_mut(), origin);
        }
    }
}

/// An authenticated caller.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) environment: Arc<LdEnvironment>,
    /// Settings of the environment at the time of the request.
    pub(super) config: Arc<EnvironmentConfig>,
    pub(super) kind: SdkKind,
    /// Where the route has its credential.
    pub(super) place: Credential,
    /// The plan that admitted the caller; the rest of the request uses the same one.
    pub(super) plan: Arc<dyn Plan>,
    pub(super) request: AdmittedRequest,
}

/// Beginning of every mobile key.
const MOBILE_PREFIX: &str = "mob-";
const X_LD_ENVID: HeaderName = HeaderName::from_static("x-ld-envid");

/// The layer in front of every authenticated route.
pub(super) async fn admit(State(downstream): State<Arc<Downstream>>, mut request: Request, next: Next) -> Response {
    let Some(info) = request.extensions().get::<RouteInfo>().map(|it| it.of(&request)) else {
        // Only an error in the route table leads here.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // An empty one counts as absent, as in Go.
    let origin = request.headers().get(ORIGIN).filter(|it| !it.is_empty()).cloned();
    let plan = downstream.hooks.pin();
    let chosen = match resolve(&*plan, info, &request).await {
        Ok(chosen) => chosen,
        Err(refusal) => return rejected(Rejection::from(refusal).into(), info, origin.as_ref()),
    };
    let (environment, credential) = match find(&downstream, info, &request, chosen.as_ref()) {
        Ok(found) => found,
        Err(_) if info.needs_no_credential(&request) => {
            let mut response = next.run(request).await;
            info.add_cors_without_environment(&mut response, origin.as_ref());
            return response;
        }
        Err(refused) => {
            if matches!(refused.rejection, Rejection::UnknownCredential) {
                let presented = || credential(info, &request).unwrap_or_default();
                admission::log_unknown_credential(info.route.id.as_str(), presented);
            }
            return rejected(refused, info, origin.as_ref());
        }
    };
    let config = environment.config();
    let counted = count(&downstream, info, &environment, &config, &request);
    let (start, sdk) = (Instant::now(), sdk_release(&request));
    let mut response = if request.method() == Method::OPTIONS {
        next.run(request).await
    } else {
        let is_delegated = chosen.is_some_and(|it| it.is_delegated);
        let facts = RequestFacts { is_delegated, ..facts(environment.label.clone(), credential, info, &request) };
        match admission::admit(plan, facts).await {
            Err(refusal) => Rejection::from(refusal).into_response(info.audience.credential),
            Ok(admitted) => {
                let caller = Caller {
                    environment: Arc::clone(&environment),
                    config: Arc::clone(&config),
                    kind: info.audience.kind,
                    place: info.audience.credential,
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
    if let Some(cors) = info.audience.cors {
        cors.add(response.headers_mut(), &config, origin.as_ref());
    }
    name_environment(&mut response, &config);
    let is_stream = response.headers().get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(EVENT_STREAM));
    if let (Some(counted), Some(compat_metrics), false) = (&counted, &downstream.compat_metrics, is_stream) {
        compat_metrics.duration(counted, start.elapsed());
    }
    info.tag(&mut response, Some(environment.label.clone()), sdk);
    response
}

/// Counts the request under the names of LaunchDarkly's relay. Returns what its duration is recorded by.
fn count(
    downstream: &Downstream,
    info: RouteInfo,
    environment: &LdEnvironment,
    config: &EnvironmentConfig,
    request: &Request,
) -> Option<CountedRequest> {
    let compat_metrics = downstream.compat_metrics.as_ref()?;
    let method = method(request);
    let labels = |route| Labels {
        env: config.display_name(&environment.filter),
        platform: platform(info.audience.kind),
        user_agent: user_agent(|name| request.headers().get(name).map(HeaderValue::as_bytes)),
        route,
    };
    if info.route.id.is_poll() {
        compat_metrics.poll(labels(None));
    }
    let path = info.route.counted_path()?;
    Some(compat_metrics.request(labels(Some((RequestMethod::from(&method), path)))))
}

/// Names of kinds of callers in these metrics.
pub(super) fn platform(kind: SdkKind) -> &'static str {
    match kind {
        SdkKind::Server => "server",
        SdkKind::Mobile => "mobile",
        SdkKind::Browser => "browser",
    }
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
        Credential::HeaderOrQuery => client_credential(request).ok_or(Rejection::NoCredential),
    }
}

/// The credential in the header, or in the query (V005).
fn client_credential(request: &Request) -> Option<String> {
    let from_query = || first_query_value(request.uri().query(), "auth").filter(|it| !it.is_empty());
    identity::from_headers(request.headers()).or_else(from_query)
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
    let filter = first_query_value(request.uri().query(), "filter").unwrap_or_default();
    find_in(downstream, info, request, chosen, &filter)
}

/// Finds the variant of an environment that has a filter, or the unfiltered one.
fn find_in(
    downstream: &Downstream,
    info: RouteInfo,
    request: &Request,
    chosen: Option<&Resolution>,
    filter: &str,
) -> Result<(Arc<LdEnvironment>, Option<Secret>), Refused> {
    let kind = info.audience.kind;
    let credential = credential(info, request);
    let environments = &downstream.environments;
    let lookup = match (chosen, &credential) {
        (Some(chosen), _) if chosen.is_delegated => environments.find_named(&chosen.environment, filter),
        (_, Ok(credential)) => environments.find(kind, credential, filter),
        (_, Err(_)) => return Err(Rejection::NoCredential.into()),
    };
    let environment = match lookup {
        Lookup::Found(environment) => match chosen {
            Some(chosen) if environment.label != identity::label(&chosen.environment, filter) => {
                return Err(Rejection::UnknownCredential.into());
            }
            _ => environment,
        },
        // The protocol has no filters, but SDKs send what is configured (V028).
        Lookup::UnknownFilter if info.route.needs_fdv2 && !filter.is_empty() => {
            return find_in(downstream, info, request, chosen, "");
        }
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

fn rejected(refused: Refused, info: RouteInfo, origin: Option<&HeaderValue>) -> Response {
    let mut response = refused.rejection.into_response(info.audience.credential);
    match (refused.environment, info.audience.cors) {
        (Some(environment), Some(cors @ Cors::Everywhere(_))) => {
            name_environment(&mut response, &environment.config());
            cors.add(response.headers_mut(), &environment.config(), origin);
        }
        (environment, _) => {
            if let Some(environment) = environment {
                name_environment(&mut response, &environment.config());
            }
            info.add_cors_without_environment(&mut response, origin);
        }
    }
    info.tag(&mut response, None, None);
    response
}

/// Names a route without a credential in the extensions of a response.
pub(super) fn tagged(mut response: Response, route: &'static Route) -> Response {
    let (route, path) = (route.id.as_str(), route.path.as_str());
    response.extensions_mut().insert(RouteTag { route, path, environment: None, sdk: None });
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
