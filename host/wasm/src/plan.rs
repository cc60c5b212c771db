//! An immutable set of chains: built as a whole, swapped as a whole, dropped with the last request that pinned it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{EnvironmentHooks, Plan};

use crate::call::{BindingInstance, CallError};
use crate::counters::PluginCounters;
use crate::hooks::Chain;
use crate::interface::HookCall;
use crate::manifest::{Bind, Hook};
use crate::stage::Plugin;

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

/// All chains of all environments.
pub(crate) struct PluginPlan {
    generation: u64,
    /// All links of each hook, in order.
    steps: [Vec<ChainLink>; 4],
    environments: RwLock<HashMap<EnvironmentLabel, Arc<EnvironmentHooks>>>,
}

impl PluginPlan {
    /// Sorts all plugins by phase, then priority, then name.
    pub(crate) fn new<'a>(
        generation: u64,
        plugins: impl IntoIterator<Item = &'a Arc<Plugin>>,
        missing: impl IntoIterator<Item = MissingRequired>,
    ) -> Self {
        let mut steps: [Vec<ChainLink>; 4] = Default::default();
        let bindings = plugins.into_iter().flat_map(|plugin| plugin.bindings.iter().cloned().map(ChainLink::Instance));
        for link in bindings.chain(missing.into_iter().map(|missing| ChainLink::Missing(Arc::new(missing)))) {
            steps[link.bind().hook.index()].push(link);
        }
        for chain in &mut steps {
            chain.sort_by(|a, b| a.place().cmp(&b.place()));
        }
        Self { generation, steps, environments: RwLock::default() }
    }

    /// Returns the order of one hook over all environments.
    pub(crate) fn order(&self, hook: Hook) -> &[ChainLink] {
        &self.steps[hook.index()]
    }

    fn chain(&self, hook: Hook, label: &EnvironmentLabel) -> Option<Arc<Chain>> {
        let steps: Vec<ChainLink> =
            self.steps[hook.index()].iter().filter(|link| link.bind().covers(label)).cloned().collect();
        (!steps.is_empty()).then(|| Arc::new(Chain::new(steps)))
    }
}

impl Plan for PluginPlan {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn environment(&self, label: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        if let Some(known) = self.environments.read().unwrap_or_else(PoisonError::into_inner).get(label) {
            return Arc::clone(known);
        }
        let hooks = Arc::new(EnvironmentHooks {
            request_auth: self.chain(Hook::RequestAuth, label).map(|chain| chain as _),
            event_filter: self.chain(Hook::EventFilter, label).map(|chain| chain as _),
            payload_transform: self.chain(Hook::PayloadTransform, label).map(|chain| chain as _),
            evaluation_transform: self.chain(Hook::EvaluationTransform, label).map(|chain| chain as _),
        });
        let mut known = self.environments.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(label.clone()).or_insert(hooks))
    }
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
                let failure = Err(CallError::MissingRequired);
                missing.counters.hook(A::HOOK).record(&failure, Duration::ZERO);
                failure
            }
        }
    }

    /// Adds what identifies this link to a digest.
    pub(crate) fn identify(&self, digest: &mut Sha256) {
        match self {
            Self::Instance(binding) => digest.update(binding.identity),
            Self::Missing(missing) => {
                digest.update(b"missing");
                digest.update(missing.name.as_bytes());
            }
        }
    }

    fn place(&self) -> (crate::manifest::Phase, i64, &str) {
        let bind = self.bind();
        (bind.phase, bind.priority, self.name())
    }
}
