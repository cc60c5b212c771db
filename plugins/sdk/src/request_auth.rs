//! The hook `request-auth`: may this request or stream proceed, and under which identity?

use std::fmt;

use crate::bindings::host::{request, types};
use crate::bindings::request_auth as generated;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, Request, Result};

/// Decides on requests and streams, after the host's own credential check: a plugin can restrict access, but not extend
/// it.
pub trait RequestAuth: Plugin {
    /// Decides on one request or stream.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies; by default the caller receives a 503 and retries, never a refusal.
    fn authenticate(&self, request: &dyn Request) -> Result<Decision>;
}

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The request may proceed, unless a later plugin of the chain denies it.
    Allow(Admission),
    /// The request is denied; later plugins are not called.
    Deny(Denial),
    /// No decision. What happens if every plugin of the chain abstains is a setting of the gateway.
    Abstain,
}

/// How a request is admitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admission {
    /// The caller, for logs, metrics and later hooks.
    pub identity: Option<Identity>,
    /// Headers to add to the response: names in lower case that begin with `x-`, and a few others.
    pub response_headers: Vec<(String, Vec<u8>)>,
}

/// The identity of a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// A name for logs and later hooks, of up to 256 bytes.
    pub principal: String,
    /// Further properties.
    pub tags: Vec<(String, String)>,
}

/// How a request is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denial {
    /// The class, for which the host sends the response that the vendor's SDKs expect.
    pub class: DenialClass,
    /// Why, for the log and the status of the gateway. Never sent to the SDK.
    pub reason: Option<String>,
    /// Seconds after which a retry makes sense; for [`DenialClass::RateLimited`] and [`DenialClass::Unavailable`].
    pub retry_after: Option<u32>,
    /// Headers to add to the response.
    pub response_headers: Vec<(String, Vec<u8>)>,
}

/// The class of a denial. Most SDKs never retry after the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenialClass {
    /// The caller is not authenticated.
    Unauthorized,
    /// The caller lacks permission.
    Forbidden,
    /// The caller should retry later, and less often.
    RateLimited,
    /// The caller should retry later.
    Unavailable,
}

impl Decision {
    /// Lets the request proceed as `principal`.
    pub fn allow(principal: impl Into<String>) -> Self {
        let identity = Identity { principal: principal.into(), tags: Vec::new() };
        Self::Allow(Admission { identity: Some(identity), response_headers: Vec::new() })
    }

    /// Lets the request proceed without naming its caller.
    #[must_use]
    pub fn allow_unnamed() -> Self {
        Self::Allow(Admission::default())
    }

    /// Denies the request.
    pub fn deny(denial: impl Into<Denial>) -> Self {
        Self::Deny(denial.into())
    }

    /// Adds a tag to the identity; does nothing to decisions without one.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        if let Self::Allow(Admission { identity: Some(identity), .. }) = &mut self {
            identity.tags.push((name.into(), value.to_string()));
        }
        self
    }

    /// Adds a header to the response; does nothing to [`Decision::Abstain`].
    #[must_use]
    pub fn response_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        match &mut self {
            Self::Allow(Admission { response_headers, .. }) | Self::Deny(Denial { response_headers, .. }) => {
                response_headers.push((name.to_ascii_lowercase(), value.into()));
            }
            Self::Abstain => (),
        }
        self
    }
}

impl Denial {
    /// Adds the reason, for the log and the status of the gateway.
    #[must_use]
    pub fn because(mut self, reason: impl fmt::Display) -> Self {
        self.reason = Some(reason.to_string());
        self
    }

    /// Sets the number of seconds after which a retry makes sense.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl From<DenialClass> for Denial {
    fn from(class: DenialClass) -> Self {
        Self { class, reason: None, retry_after: None, response_headers: Vec::new() }
    }
}

impl<P: RequestAuth + Exported> generated::Guest for Adapter<P> {
    fn authenticate(request: request::Request) -> Result<generated::Decision, types::PluginError> {
        call_plugin(|plugin: &P| plugin.authenticate(&request)).map(generated::Decision::from)
    }
}

impl From<Decision> for generated::Decision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow(admission) => Self::Allow(generated::Admission {
                identity: admission.identity.map(|it| types::Identity { principal: it.principal, tags: it.tags }),
                response_headers: headers(admission.response_headers),
            }),
            Decision::Deny(denial) => Self::Deny(generated::Denial {
                class: match denial.class {
                    DenialClass::Unauthorized => generated::DenialClass::Unauthorized,
                    DenialClass::Forbidden => generated::DenialClass::Forbidden,
                    DenialClass::RateLimited => generated::DenialClass::RateLimited,
                    DenialClass::Unavailable => generated::DenialClass::Unavailable,
                },
                reason: denial.reason,
                retry_after: denial.retry_after,
                response_headers: headers(denial.response_headers),
            }),
            Decision::Abstain => Self::Abstain,
        }
    }
}

fn headers(headers: Vec<(String, Vec<u8>)>) -> Vec<types::Header> {
    headers.into_iter().map(|(name, value)| types::Header { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_built_step_by_step() {
        assert_eq!(Decision::Abstain.tag("a", 1).response_header("x-a", "1"), Decision::Abstain);
        let Decision::Allow(admission) = Decision::allow("me").tag("a", 1).response_header("X-A", "1") else {
            panic!()
        };
        assert_eq!(admission.identity.unwrap().tags, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(admission.response_headers, [("x-a".to_owned(), b"1".to_vec())]);
        assert_eq!(Decision::allow_unnamed().tag("a", 1), Decision::allow_unnamed());
        let denial = Denial::from(DenialClass::RateLimited).because("quota").retry_after(7);
        assert_eq!((denial.reason.as_deref(), denial.retry_after), (Some("quota"), Some(7)));
    }
}
