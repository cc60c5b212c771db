//! The chain of resolvers, which is the same for all environments: it is called before the environment is known.

use std::sync::Arc;

use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{AdmittedRequest, HookFailure, HookFuture, RequestFacts, Resolution, RouteResolver};

use super::failure;
use super::link::ChainLink;
use crate::runtime::interface::Resolve;
use crate::vocabulary::{CallError, DelegatedEnvironments, Policy, clean};

/// The resolvers of a plan, in order.
pub(crate) struct ResolverChain {
    steps: Vec<ChainLink>,
    /// The request plugins of the same plan.
    request_auth: Vec<ChainLink>,
    delegated: DelegatedEnvironments,
}

impl ResolverChain {
    /// Creates the chain; `None` if there are no resolvers.
    pub(crate) fn new(
        steps: &[ChainLink],
        request_auth: &[ChainLink],
        delegated: &DelegatedEnvironments,
    ) -> Option<Arc<Self>> {
        (!steps.is_empty()).then(|| {
            Arc::new(Self {
                steps: steps.to_vec(),
                request_auth: request_auth.to_vec(),
                delegated: Arc::clone(delegated),
            })
        })
    }

    async fn choose(&self, facts: &Arc<RequestFacts>) -> Result<Option<Resolution>, HookFailure> {
        let request = AdmittedRequest { facts: Arc::clone(facts), identity: None };
        let vendor = facts.environment.vendor();
        let applies = |link: &&ChainLink| link.bind().covers_sdk(facts.sdk) && link.bind().covers_route(facts.route);
        for link in self.steps.iter().filter(applies) {
            let check = |name: Option<String>| name.map(|name| checked(link, vendor, name)).transpose();
            match link.ask(&facts.environment, &Resolve { request: request.clone() }, link.bind().deadline, check).await
            {
                Ok(None) => (),
                Ok(Some(label)) => {
                    let is_delegated = self.delegated.iter().any(|pattern| pattern.matches_environment(&label))
                        && self.request_auth.iter().any(|link| link.bind().covers(&label));
                    let (plugin, environment) = (Arc::clone(link.name()), Arc::clone(label.name()));
                    return Ok(Some(Resolution { plugin, environment, is_delegated }));
                }
                Err(_) if link.bind().on_failure == Policy::Pass => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        Ok(None)
    }
}

/// Requires an environment that the binding covers.
fn checked(link: &ChainLink, vendor: &'static str, name: String) -> Result<EnvironmentLabel, CallError> {
    let label = EnvironmentLabel::new(vendor, name);
    if label.name().is_empty() || !link.bind().covers(&label) {
        let text = format!("its binding does not cover the environment `{}`", clean(&label.to_string()));
        return Err(CallError::OutputInvalid(text));
    }
    Ok(label)
}

impl RouteResolver for ResolverChain {
    fn resolve<'a>(&'a self, facts: &'a Arc<RequestFacts>) -> HookFuture<'a, Result<Option<Resolution>, HookFailure>> {
        Box::pin(self.choose(facts))
    }
}
