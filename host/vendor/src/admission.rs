//! Admission of a caller whose credential was found: request plugins, and what the rest of the request needs.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, Method, StatusCode};
use tracing::Span;
use tracing::field::Empty;
use yardarm_core::hooks::{Admission, ClientAddress, Denial, HeaderBlock, HookFailure, Hooks, Plan, RequestFacts};
use yardarm_core::{EnvironmentLabel, Secret, retry_after};

use crate::upstream::LogThrottle;

/// Log lines about requests that a plugin failed to decide on.
static FAILURES: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// A caller that was admitted.
#[derive(Clone)]
pub struct Admitted {
    /// The plan that admitted the caller; the rest of the request uses the same one.
    pub plan: Arc<dyn Plan>,
    /// Facts about the request.
    pub facts: RequestFacts,
}

/// The parts of a request that facts are made of.
pub struct RequestParts<'a> {
    /// The method, as the SDK sent it.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The extensions, in which the listener stored the client's address.
    pub extensions: &'a Extensions,
}

/// Why a caller was not admitted by plugins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A plugin denied the request.
    #[error("refused by plugin `{plugin}`")]
    Denied {
        /// Name of the plugin.
        plugin: Arc<str>,
        /// Class of the denial.
        denial: Denial,
    },
    /// A required plugin could not decide.
    #[error(transparent)]
    Failed(#[from] HookFailure),
}

/// Returns the span of a request, which is empty until [`facts`] knows the caller.
///
/// It is at the highest level, so that no filter of the log takes the caller away from its lines.
#[must_use]
pub fn request_span(extensions: &Extensions) -> Span {
    let client = ClientAddress::of(extensions).map(tracing::field::display);
    tracing::error_span!(parent: None, "request", client, environment = Empty, route = Empty, sdk = Empty)
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
    span.record("environment", tracing::field::display(&environment)).record("route", route).record("sdk", sdk);
    RequestFacts {
        environment,
        route,
        sdk,
        method: parts.method.clone(),
        headers: HeaderBlock::new(parts.headers),
        credential,
        client: ClientAddress::of(parts.extensions),
    }
}

/// Calls the request plugins of an environment.
///
/// # Errors
/// When a plugin denies the request, or a required one cannot decide.
pub async fn admit(hooks: &Hooks, facts: RequestFacts) -> Result<Admitted, Refusal> {
    let plan = hooks.pin();
    let chains = plan.environment(&facts.environment);
    if let Some(chain) = &chains.request_auth {
        match chain.authenticate(&facts).await? {
            Admission::Allowed(_) => (),
            Admission::Denied { plugin, denial } => return Err(Refusal::Denied { plugin, denial }),
        }
    }
    Ok(Admitted { plan, facts })
}

impl Refusal {
    /// Returns the status for callers whose SDKs have no other convention. A failure of a plugin is ours and never final
    /// for an SDK.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Denied { denial: Denial::Unauthorized, .. } => StatusCode::UNAUTHORIZED,
            Self::Denied { denial: Denial::Forbidden, .. } => StatusCode::FORBIDDEN,
            Self::Denied { denial: Denial::RateLimited(_), .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Denied { denial: Denial::Unavailable, .. } | Self::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the number of seconds after which a retry makes sense, if there is one.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Denied { denial, .. } => denial.retry_after(),
            Self::Failed(_) => Some(retry_after::soon()),
        }
    }

    /// Logs the refusal. Failures are warnings, of which a flood of requests makes one line per ten seconds.
    pub fn log(&self) {
        match self {
            Self::Denied { plugin, .. } => tracing::debug!(%plugin, "request refused"),
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
        let denied = |denial| Refusal::Denied { plugin: "gate".into(), denial };
        let failed = Refusal::Failed(HookFailure { plugin: "gate".into(), class: "trap" });
        for (refusal, status, retries) in [
            (denied(Denial::Unauthorized), 401, false),
            (denied(Denial::Forbidden), 403, false),
            (denied(Denial::RateLimited(7)), 429, true),
            (denied(Denial::Unavailable), 503, true),
            (failed, 503, true),
        ] {
            assert_eq!((refusal.status().as_u16(), refusal.retry_after().is_some()), (status, retries), "{refusal}");
        }
    }
}
