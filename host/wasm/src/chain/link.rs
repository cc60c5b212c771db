//! One plugin in its place of a chain.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;

use crate::call::{BindingInstance, log_call};
use crate::runtime::interface::HookCall;
use crate::vocabulary::{Bind, CallError, Hook, Phase, PluginCounters};

/// A plugin at its position, or a missing required plugin.
#[derive(Clone)]
pub(crate) enum ChainLink {
    Instance(Arc<BindingInstance>),
    Missing(Arc<MissingRequired>),
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
            Self::Instance(binding) => &binding.guest.context.name,
            Self::Missing(missing) => &missing.name,
        }
    }

    pub(crate) fn bind(&self) -> &Bind {
        match self {
            Self::Instance(binding) => &binding.bind,
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
            Self::Instance(binding) => binding.call(environment, ask, budget, check).await,
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

    /// Returns a text of the plugin without its secrets.
    pub(crate) fn redacted(&self, text: &str) -> String {
        match self {
            Self::Instance(binding) => binding.guest.context.services.redactor.redact(text).into_owned(),
            Self::Missing(_) => text.to_owned(),
        }
    }

    /// Returns whether the plugin may read facts that differ between requests for the same results.
    pub(crate) fn reads_requests(&self) -> bool {
        match self {
            Self::Instance(binding) => binding.guest.context.grants.reads_requests(),
            Self::Missing(_) => false,
        }
    }

    /// Adds what identifies this link to a digest.
    pub(crate) fn identify(&self, digest: &mut Sha256) {
        match self {
            Self::Instance(binding) => {
                digest.update(binding.identity);
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
