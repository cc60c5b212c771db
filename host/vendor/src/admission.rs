//! Admission of a caller whose credential was found: request plugins, and what the rest of the request needs.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use tracing::Span;
use tracing::field::{Empty, display};
use yardarm_core::hooks::{
    Admission, AdmittedRequest, Denial, DenialClass, HookFailure, Plan, RequestAuth, RequestFacts, RequestHead,
    RequestId, RequestOrigin, Resolution,
};
use yardarm_core::trace::{self, SpanKind};
use yardarm_core::{EnvironmentLabel, Secret, retry_after};

use crate::upstream::LogThrottle;

/// Log lines about requests that a plugin failed to decide on.
static FAILURES: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// Log lines about credentials that no environment has.
static UNKNOWN: LogThrottle = LogThrottle::new(Duration::from_secs(10));
/// Characters at the end of a credential that are logged, and the length from which on they are.
const SHOWN: usize = 4;
const MIN_SHOWN: usize = 16;

/// A caller that was admitted.
#[derive(Clone)]
pub struct Admitted {
    /// The plan that admitted the caller; the rest of the request uses the same one.
    pub plan: Arc<dyn Plan>,
    /// The request, with the identity that plugins gave to the caller.
    pub request: AdmittedRequest,
    /// Headers that plugins add to the response.
    response_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The parts of a request that facts are made of.
pub struct RequestParts<'a> {
    /// The method, as the SDK sent it.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The extensions, in which the listener stored the origin of the request.
    pub extensions: &'a Extensions,
}

/// Why a caller was not admitted by plugins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A plugin denied the request.
    #[error("refused by plugin `{}`", .0.plugin)]
    Denied(Denial),
    /// A required plugin could not decide.
    #[error(transparent)]
    Failed(#[from] HookFailure),
}

/// Returns the span of a request, which is empty until [`facts`] knows the caller.
///
/// It is at the highest level, so that no filter of the log takes the caller away from its lines.
#[must_use]
pub fn request_span(extensions: &Extensions) -> Span {
    let origin = RequestOrigin::of(extensions);
    let (id, client) = (origin.map(|it| display(it.id)), origin.and_then(|it| it.client).map(display));
    tracing::error_span!(
        parent: None,
        "request",
        id,
        client,
        environment = Empty,
        route = Empty,
        sdk = Empty,
        principal = Empty,
        plugins = Empty
    )
}

/// Logs that a caller presented a credential that no environment has, with its end; at most one line per ten seconds.
pub fn log_unknown_credential(route: &'static str, credential: impl FnOnce() -> String) {
    if let Some(suppressed) = UNKNOWN.next_line() {
        let credential = credential();
        let end = credential.char_indices().rev().nth(SHOWN - 1).map_or(0, |(index, _)| index);
        let credential = if credential.len() < MIN_SHOWN { "*".to_owned() } else { format!("*{}", &credential[end..]) };
        tracing::info!(route, credential, suppressed, "request with an unknown credential refused");
    }
}

/// Returns the facts about a request of an environment's caller, and adds them to the span of the request.
#[must_use]
pub fn facts(
    environment: EnvironmentLabel,
    route: &'static str,
    sdk: &'static str,
    parts: &RequestParts<'_>,
    credential: Option<Secret>,
) -> RequestFacts {
    let span = Span::current();
    span.record("environment", display(&environment)).record("route", route).record("sdk", sdk);
    let origin = RequestOrigin::of(parts.extensions);
    let nowhere = Uri::default();
    RequestFacts {
        id: origin.map_or_else(RequestId::next, |it| it.id),
        environment,
        route,
        sdk,
        method: parts.method.clone(),
        head: RequestHead::new(origin.map_or(&nowhere, |it| &it.target), parts.headers),
        credential,
        client: origin.and_then(|it| it.client),
        peer: origin.map(|it| it.peer),
        is_tls: origin.is_some_and(|it| it.is_tls),
        is_delegated: false,
        call_log: origin.and_then(|it| it.call_log.clone()),
    }
}

/// Calls the resolvers of a vendor; `facts` are those of the request before its environment is known.
///
/// # Errors
/// When a required plugin cannot decide.
pub fn resolve<'p>(
    plan: &'p dyn Plan,
    vendor: &'static str,
    facts: &dyn Fn(EnvironmentLabel) -> RequestFacts,
) -> impl Future<Output = Result<Option<Resolution>, Refusal>> + Send + use<'p> {
    let call = plan.route_resolver(vendor).map(|it| (it, Arc::new(facts(EnvironmentLabel::new(vendor, "")))));
    async move {
        let Some((resolver, facts)) = call else { return Ok(None) };
        Ok(resolver.resolve(&facts).await?)
    }
}

/// Calls the request plugins of an environment. `plan` serves the request to its end.
///
/// # Errors
/// When a plugin denies the request, or a required one cannot decide.
pub async fn admit(plan: Arc<dyn Plan>, facts: RequestFacts) -> Result<Admitted, Refusal> {
    let chains = plan.environment(&facts.environment);
    let facts = Arc::new(facts);
    let (identity, response_headers) = match &chains.request_auth {
        None if facts.is_delegated => {
            return Err(Refusal::Denied(Denial::new("none".into(), DenialClass::Unavailable)));
        }
        None => (None, Vec::new()),
        Some(chain) => match authenticate(&**chain, &facts).await {
            Ok(Admission::Allowed { identity, response_headers }) => {
                Span::current().record("plugins", "allowed");
                (identity, response_headers)
            }
            Ok(Admission::Denied(denial)) => {
                Span::current().record("plugins", format_args!("denied by {}", denial.plugin));
                return Err(Refusal::Denied(denial));
            }
            Err(failure) => {
                Span::current().record("plugins", format_args!("{} failed", failure.plugin));
                return Err(failure.into());
            }
        },
    };
    if let Some(identity) = &identity {
        Span::current().record("principal", &*identity.principal);
    }
    Ok(Admitted { plan, request: AdmittedRequest { facts, identity }, response_headers })
}

/// Calls a chain of request plugins, with a span of its own.
async fn authenticate(chain: &dyn RequestAuth, facts: &Arc<RequestFacts>) -> Result<Admission, HookFailure> {
    let mut span = trace::child("relay.auth", SpanKind::Internal);
    let decision = trace::within(span.as_ref(), chain.authenticate(facts)).await;
    if let Some(span) = &mut span {
        span.set(
            "decision",
            match &decision {
                Ok(Admission::Allowed { .. }) => "allowed",
                Ok(Admission::Denied(_)) => "denied",
                Err(_) => "failed",
            },
        );
    }
    decision
}

/// Returns the refusal of a request for which plugins have chosen an environment that does not exist.
#[must_use]
pub fn no_such_environment(chosen: &Resolution) -> Refusal {
    let Resolution { plugin, environment, .. } = chosen;
    tracing::debug!(%plugin, %environment, "a plugin has chosen an environment that does not exist");
    Refusal::Failed(HookFailure { plugin: Arc::clone(plugin), class: "output-invalid" })
}

impl Admitted {
    /// Adds the headers that plugins want in the response.
    pub fn add_headers(&self, response: &mut HeaderMap) {
        extend(response, &self.response_headers);
    }
}

fn extend(response: &mut HeaderMap, added: &[(HeaderName, HeaderValue)]) {
    for (name, value) in added {
        response.append(name, value.clone());
    }
}

impl Refusal {
    /// Returns the status for callers whose SDKs have no other convention. A failure of a plugin is ours and never final
    /// for an SDK.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Denied(denial) => match denial.class {
                DenialClass::Unauthorized => StatusCode::UNAUTHORIZED,
                DenialClass::Forbidden => StatusCode::FORBIDDEN,
                DenialClass::RateLimited => StatusCode::TOO_MANY_REQUESTS,
                DenialClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the number of seconds after which a retry makes sense, if there is one.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Denied(denial) => denial.retry_after(),
            Self::Failed(_) => Some(retry_after::soon()),
        }
    }

    /// Adds the headers that the plugin wants in the response.
    pub fn add_headers(&self, response: &mut HeaderMap) {
        if let Self::Denied(denial) = self {
            extend(response, &denial.response_headers);
        }
    }

    /// Logs the refusal. Failures are warnings, of which a flood of requests makes one line per ten seconds.
    pub fn log(&self) {
        match self {
            Self::Denied(Denial { plugin, reason, .. }) => {
                tracing::debug!(%plugin, reason = reason.as_deref(), "request refused");
            }
            Self::Failed(error) => {
                if let Some(suppressed) = FAILURES.next_line() {
                    tracing::warn!(%error, suppressed, "request not served");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decisions_about_the_caller_are_final() {
        let denied = |class| Refusal::Denied(Denial::new("gate".into(), class));
        let failed = Refusal::Failed(HookFailure { plugin: "gate".into(), class: "trap" });
        for (refusal, status, retries) in [
            (denied(DenialClass::Unauthorized), 401, false),
            (denied(DenialClass::Forbidden), 403, false),
            (denied(DenialClass::RateLimited), 429, true),
            (denied(DenialClass::Unavailable), 503, true),
            (failed, 503, true),
        ] {
            assert_eq!((refusal.status().as_u16(), refusal.retry_after().is_some()), (status, retries), "{refusal}");
        }
    }
}
