//! One plugin in its place of a chain.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::RequestFacts;

use super::division::{Division, Side};
use super::shadow::{Copied, Shadow};
use crate::call::{BindingInstance, log_call};
use crate::runtime::interface::HookCall;
use crate::vocabulary::{Bind, CallError, Hook, Phase, PluginCounters};

/// A plugin at its position, or a missing required plugin.
#[derive(Clone)]
pub(crate) enum ChainLink {
    Instance(PlacedBinding),
    Missing(Arc<MissingRequired>),
}

/// A plugin in a chain, with what becomes of it while another version of it runs too.
#[derive(Clone)]
pub(crate) struct PlacedBinding {
    pub(crate) binding: Arc<BindingInstance>,
    /// The callers that it is for; all if absent.
    pub(crate) part: Option<(Arc<Division>, Side)>,
    /// A version that receives copies of its calls.
    pub(crate) shadow: Option<Arc<Shadow>>,
}

/// A required plugin that is missing.
pub(crate) struct MissingRequired {
    /// The name of the plugin, or of its file if it was never loaded.
    pub(crate) name: Arc<str>,
    pub(crate) bind: Bind,
    pub(crate) counters: Arc<PluginCounters>,
}

impl ChainLink {
    pub(crate) fn name(&self) -> &Arc<str> {
        match self {
            Self::Instance(placed) => &placed.binding.guest.context.name,
            Self::Missing(missing) => &missing.name,
        }
    }

    pub(crate) fn bind(&self) -> &Bind {
        match self {
            Self::Instance(placed) => &placed.binding.bind,
            Self::Missing(missing) => &missing.bind,
        }
    }

    /// Calls the plugin; a missing plugin returns a failure.
    pub(crate) async fn ask<A: HookCall, T>(
        &self,
        environment: &EnvironmentLabel,
        ask: &A,
        budget: Duration,
        check: impl FnOnce(A::Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        match self {
            Self::Instance(placed) => placed.ask(environment, ask, budget, check).await,
            Self::Missing(missing) => {
                let (error, counters) = (CallError::MissingRequired, &missing.counters);
                counters.calls.hook(A::HOOK).record(error.outcome(), Duration::ZERO);
                counters.errors(A::HOOK).add(&error, None, environment, ask.request_id());
                let (plugin, text) = ((&missing.name, None), Some(error.to_string()));
                log_call(ask, plugin, error.outcome(), text, (Duration::ZERO, Duration::ZERO));
                Err(error)
            }
        }
    }

    /// Returns whether the link is for any caller of an environment.
    pub(crate) fn serves_environment(&self, environment: &EnvironmentLabel) -> bool {
        match self {
            Self::Instance(PlacedBinding { part: Some((division, side)), .. }) => {
                division.side_of_environment(environment).is_none_or(|it| it == *side)
            }
            _ => true,
        }
    }

    /// Returns how many of a hundred callers the link is for, if not all.
    pub(crate) fn percent(&self) -> Option<u8> {
        match self {
            Self::Instance(PlacedBinding { part: Some((division, side)), .. }) => Some(division.percent(*side)),
            _ => None,
        }
    }

    /// Returns whether the link is for a caller.
    pub(crate) fn serves(&self, facts: &RequestFacts) -> bool {
        match self {
            Self::Instance(PlacedBinding { part: Some((division, side)), .. }) => {
                division.side_of_request(facts) == *side
            }
            _ => true,
        }
    }

    /// Returns a text of the plugin without its secrets.
    pub(crate) fn redacted(&self, text: &str) -> String {
        match self {
            Self::Instance(placed) => placed.binding.guest.context.services.redactor.redact(text).into_owned(),
            Self::Missing(_) => text.to_owned(),
        }
    }

    /// Returns whether the plugin may read facts that differ between requests for the same results.
    pub(crate) fn reads_requests(&self) -> bool {
        match self {
            Self::Instance(placed) => placed.binding.guest.context.grants.reads_requests(),
            Self::Missing(_) => false,
        }
    }

    /// Adds what identifies this link to a digest.
    pub(crate) fn identify(&self, digest: &mut Sha256) {
        match self {
            Self::Instance(placed) => {
                let binding = &placed.binding;
                digest.update(binding.identity);
                if let Some((division, side)) = &placed.part {
                    digest.update([division.percent(*side)]);
                }
                // What is shared or rendered once depends on what the plugin's background task published.
                if matches!(binding.bind.hook, Hook::PayloadTransform | Hook::EvaluationTransform) {
                    digest.update(binding.guest.context.services.snapshot.get().version.to_le_bytes());
                }
            }
            Self::Missing(missing) => {
                digest.update(b"missing");
                digest.update(missing.name.as_bytes());
            }
        }
    }

    pub(crate) fn place(&self) -> (Phase, i64, &str) {
        let bind = self.bind();
        (bind.phase, bind.priority, self.name())
    }
}

impl PlacedBinding {
    /// Calls the plugin, and then the version in shadow if there is one.
    async fn ask<A: HookCall, T>(
        &self,
        environment: &EnvironmentLabel,
        ask: &A,
        budget: Duration,
        check: impl FnOnce(A::Reply) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let Some(shadow) = &self.shadow else { return self.binding.call(environment, ask, budget, check).await };
        let mut reply = None;
        let checked = |it: A::Reply| {
            reply = Some(it.clone());
            check(it)
        };
        let result = self.binding.call(environment, ask, budget, checked).await;
        let reply = match (&result, reply) {
            (Ok(_), Some(reply)) => Ok(reply),
            (Err(error), _) => Err(error.clone()),
            (Ok(_), None) => return result,
        };
        shadow.repeat(Copied { ask: ask.clone(), environment: environment.clone(), reply });
        result
    }
}
