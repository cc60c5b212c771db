//! Authenticates callers, for the environment that they request. No other code reads tokens of SDKs.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use yardarm_core::hooks::{Plan, RequestFacts};
use yardarm_core::registry::RouteTag;
use yardarm_core::{EnvironmentLabel, Secret};
use yardarm_vendor::admission::{self, Admitted, RequestParts};

use super::rejection::Rejection;
use super::routes::RouteId;
use super::sdk_release::sdk_release;
use super::state::Downstream;
use crate::environments::HarnessEnvironment;
use crate::identity::tokens::{Claims, TokenKey};

/// What plugins receive about a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteInfo {
    pub(super) id: RouteId,
    /// Template of the path.
    pub(super) path: &'static str,
    /// The kind of SDK, for requests that do not name it.
    pub(super) sdk: &'static str,
}

impl RouteInfo {
    /// Returns what spans and metrics know of a request of `caller`.
    pub(super) fn tag(self, caller: &Caller, headers: &HeaderMap) -> RouteTag {
        let environment = Some(caller.environment.label.clone());
        RouteTag { route: self.id.as_str(), path: self.path, environment, sdk: sdk_release(headers) }
    }
}

/// A caller that was admitted.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) environment: Arc<HarnessEnvironment>,
    pub(super) admitted: Admitted,
}

/// The claims of the token; `None` if no token is required.
#[derive(Clone)]
pub(super) struct TokenClaims(pub(super) Option<Claims>);

/// The layer in front of every route with an environment in its path.
pub(super) async fn admit(
    State(downstream): State<Arc<Downstream>>,
    path: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(info) = request.extensions().get::<RouteInfo>().copied() else {
        // This is a mistake in the route table.
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let id = path.iter().find(|(name, _)| *name == "environment").map_or("", |(_, id)| id).to_owned();
    let admitted = match claims(&downstream, request.headers()) {
        Err(rejection) => Err(rejection),
        Ok(accepted) => {
            let (claims, token) = accepted.unzip();
            environment(&downstream, claims.as_ref(), &id).map(|it| it.map(|it| (it, token.map(Secret::new))))
        }
    };
    let (environment, token) = match admitted {
        Ok(Some(admitted)) => admitted,
        // Where no token is required, callers may request environments that do not exist.
        Ok(None) => return next.run(request).await,
        Err(rejection) => return rejection.into_response(),
    };
    let credential = token.or_else(|| bearers(request.headers()).next().map(Secret::new));
    let parts = RequestParts { method: request.method(), headers: request.headers(), extensions: request.extensions() };
    let facts = facts(environment.label.clone(), info, &parts, credential);
    let caller = match authorize(downstream.hooks.pin(), environment, facts).await {
        Ok(caller) => caller,
        Err(rejection) => return rejection.into_response(),
    };
    let tag = info.tag(&caller, request.headers());
    request.extensions_mut().insert(caller.clone());
    let mut response = next.run(request).await;
    caller.admitted.add_headers(response.headers_mut());
    response.extensions_mut().insert(tag);
    response
}

/// The layer in front of routes that require a token and have no environment in their path.
pub(super) async fn require_token(
    State(downstream): State<Arc<Downstream>>,
    mut request: Request,
    next: Next,
) -> Response {
    match claims(&downstream, request.headers()) {
        Ok(accepted) => {
            let claims = accepted.map(|it| it.0);
            request.extensions_mut().insert(TokenClaims(claims));
            next.run(request).await
        }
        Err(rejection) => rejection.into_response(),
    }
}

/// Has the request plugins of an environment decide about a caller.
///
/// # Errors
/// When a plugin denies the request, or fails.
pub(super) async fn authorize(
    plan: Arc<dyn Plan>,
    environment: Arc<HarnessEnvironment>,
    facts: RequestFacts,
) -> Result<Caller, Rejection> {
    let admitted = admission::admit(plan, facts).await?;
    Ok(Caller { environment, admitted })
}

/// Returns the facts about a request.
pub(super) fn facts(
    environment: EnvironmentLabel,
    info: RouteInfo,
    parts: &RequestParts<'_>,
    credential: Option<Secret>,
) -> RequestFacts {
    let sdk = kind_of_sdk(parts.headers).unwrap_or(info.sdk);
    admission::facts(environment, info.id.as_str(), sdk, parts, credential)
}

/// Returns the claims of the token, and the token; `None` if none is required. Proxies may add an `Authorization` of their own,
/// so the first valid one of several tokens is used.
fn claims<'h>(downstream: &Downstream, headers: &'h HeaderMap) -> Result<Option<(Claims, &'h str)>, Rejection> {
    if downstream.config.bypass_auth {
        return Ok(None);
    }
    let mut rejection = Rejection::NoToken;
    for token in bearers(headers) {
        match claims_of(downstream, token) {
            Ok(claims) => return Ok(Some((claims, token))),
            Err(Rejection::NotReady) => rejection = Rejection::NotReady,
            Err(_) => (),
        }
    }
    Err(rejection)
}

/// Returns the claims of one token.
fn claims_of(downstream: &Downstream, token: &str) -> Result<Claims, Rejection> {
    let environments = &downstream.environments;
    let signing = |id: &str| environments.by_id(id)?.signing.clone();
    let Some((claims, key)) = downstream.tokens.read(token, signing) else {
        // After a restart the token may be valid, which cannot be decided before its environment is known.
        let claimed = downstream.tokens.claimed_environment(token);
        let may_be_valid = claimed.is_some_and(|id| environments.may_come(&id));
        return Err(if may_be_valid { Rejection::NotReady } else { Rejection::NoToken });
    };
    // Tokens of a withdrawn key are not accepted.
    let is_known = match key {
        TokenKey::Named(key) => environments.accepts(&key, &claims.environment),
        TokenKey::Any => environments.by_id(&claims.environment).is_some(),
    };
    if is_known {
        Ok(claims)
    } else if environments.may_come(&claims.environment) {
        Err(Rejection::NotReady)
    } else {
        Err(Rejection::NoToken)
    }
}

/// Returns the environment of a path; `None` if it does not exist.
fn environment(
    downstream: &Downstream,
    claims: Option<&Claims>,
    id: &str,
) -> Result<Option<Arc<HarnessEnvironment>>, Rejection> {
    if claims.is_some_and(|it| it.environment != id) {
        return Err(Rejection::OtherEnvironment);
    }
    Ok(downstream.environments.by_id(id))
}

/// Values of `Authorization` that are read at most, as in the vendor's relay.
const MAX_TOKENS: usize = 20;

fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(AUTHORIZATION).iter().take(MAX_TOKENS);
    values.filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    })
}

/// Reads the kind from values such as `Javascript 1.32.0 Client` or `NodeJS 1.8.12 Server`.
fn kind_of_sdk(headers: &HeaderMap) -> Option<&'static str> {
    let info = headers.get("harness-sdk-info")?.to_str().ok()?;
    match info.rsplit(' ').next()? {
        "Client" => Some("client"),
        "Server" => Some("server"),
        _ => None,
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        // Where no token is required, an unknown environment has empty lists.
        parts.extensions.remove::<Self>().ok_or_else(|| {
            let path = parts.uri.path();
            let is_list = ["feature-configs", "target-segments", "evaluations"].iter().any(|it| path.ends_with(it));
            match (is_list, parts.method == Method::POST) {
                (true, _) => super::rejection::json_body("[]\n"),
                (_, true) => super::rejection::json_body("null\n"),
                _ => Rejection::NotFound("no such environment".to_owned()).into_response(),
            }
        })
    }
}
