//! An immutable set of chains: built as a whole, swapped as a whole, dropped with the last request that pinned it.

mod rollout;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{EnvironmentHooks, Plan, RouteResolver};

pub(crate) use self::rollout::{Newer, Running};
use crate::call::BindingInstance;
use crate::chain::{Chain, ChainLink, MissingRequired, ResolverChain};
use crate::notices::{Listeners, Mailbox};
use crate::vocabulary::{AdmissionRules, DelegatedEnvironments, Hook};

/// All chains of all environments.
pub(crate) struct PluginPlan {
    generation: u64,
    /// All links of each hook, in order.
    steps: [Vec<ChainLink>; Hook::ALL.len()],
    admission: AdmissionRules,
    /// The mailboxes of plugins with a `change-listener`, with its bindings.
    listeners: Vec<(Arc<Mailbox>, Vec<Arc<BindingInstance>>)>,
    resolver: Option<Arc<ResolverChain>>,
    environments: RwLock<HashMap<EnvironmentLabel, Arc<EnvironmentHooks>>>,
}

impl PluginPlan {
    /// Sorts all plugins by phase, then priority, then name, and makes their listeners the recipients of changes.
    pub(crate) fn new<'a>(
        generation: u64,
        plugins: impl IntoIterator<Item = Running<'a>>,
        missing: impl IntoIterator<Item = MissingRequired>,
        (admission, delegated): (AdmissionRules, &DelegatedEnvironments),
    ) -> Self {
        let mut steps: [Vec<ChainLink>; Hook::ALL.len()] = Default::default();
        let mut listeners = Vec::new();
        let mut bindings = Vec::new();
        for running in plugins {
            let plugin = running.plugin;
            let is_listener = |it: &&Arc<BindingInstance>| it.bind.hook == Hook::ChangeListener;
            let recipients: Vec<_> = plugin.bindings.iter().filter(is_listener).cloned().collect();
            plugin.mailbox.set_recipients(&recipients);
            if !recipients.is_empty() {
                listeners.push((Arc::clone(&plugin.mailbox), recipients));
            }
            bindings.extend(running.links());
        }
        for link in bindings.into_iter().chain(missing.into_iter().map(|missing| ChainLink::Missing(Arc::new(missing))))
        {
            steps[link.bind().hook.index()].push(link);
        }
        for chain in &mut steps {
            chain.sort_by(|a, b| a.place().cmp(&b.place()));
        }
        let (resolvers, request_auth) = (&steps[Hook::RouteResolver.index()], &steps[Hook::RequestAuth.index()]);
        let resolver = ResolverChain::new(resolvers, request_auth, delegated);
        Self { generation, steps, admission, listeners, resolver, environments: RwLock::default() }
    }

    /// Returns the order of one hook over all environments.
    pub(crate) fn order(&self, hook: Hook) -> &[ChainLink] {
        &self.steps[hook.index()]
    }

    fn chain(&self, hook: Hook, label: &EnvironmentLabel) -> Option<Arc<Chain>> {
        let is_for = |link: &&ChainLink| link.bind().covers(label) && link.serves_environment(label);
        let steps: Vec<ChainLink> = self.steps[hook.index()].iter().filter(is_for).cloned().collect();
        (!steps.is_empty()).then(|| Arc::new(Chain::new(steps, self.admission)))
    }

    fn listeners(&self, label: &EnvironmentLabel) -> Option<Arc<Listeners>> {
        let covers = |bindings: &[Arc<BindingInstance>]| bindings.iter().any(|it| it.bind.covers(label));
        let mailboxes = self.listeners.iter().filter(|(_, bindings)| covers(bindings));
        let mailboxes: Vec<_> = mailboxes.map(|(mailbox, _)| Arc::clone(mailbox)).collect();
        (!mailboxes.is_empty()).then(|| Arc::new(Listeners(mailboxes)))
    }
}

impl Plan for PluginPlan {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn environment(&self, label: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        if let Some(known) = self.environments.read().get(label) {
            return Arc::clone(known);
        }
        let hooks = Arc::new(EnvironmentHooks {
            request_auth: self.chain(Hook::RequestAuth, label).map(|chain| chain as _),
            event_filter: self.chain(Hook::EventFilter, label).map(|chain| chain as _),
            payload_transform: self.chain(Hook::PayloadTransform, label).map(|chain| chain as _),
            context_enrichment: self.chain(Hook::ContextEnrichment, label).map(|chain| chain as _),
            evaluation_transform: self.chain(Hook::EvaluationTransform, label).map(|chain| chain as _),
            change_listener: self.listeners(label).map(|listeners| listeners as _),
        });
        let mut known = self.environments.write();
        Arc::clone(known.entry(label.clone()).or_insert(hooks))
    }

    fn route_resolver(&self, _: &'static str) -> Option<Arc<dyn RouteResolver>> {
        self.resolver.clone().map(|resolver| resolver as _)
    }
}
