//! The host's hooks, implemented by chains of plugins: how results are combined, and what happens when a plugin fails.

mod batch;
pub(crate) mod check;
mod division;
mod enriched;
mod link;
mod overlay;
mod resolver;
mod shadow;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use yardarm_core::hooks::{
    Admission, AdmittedRequest, BatchFacts, ContextAttribute, ContextEnrichment, ContextView, Denial, DenialClass,
    EnrichmentFacts, EvaluationFacts, EvaluationTransform, Event, EventFilter, Filtering, HookFailure, HookFuture,
    Identity, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView, RequestAuth, RequestFacts, ResultEdits,
    ResultView,
};

use self::batch::EditedBatch;
pub(crate) use self::division::{Division, Side};
use self::enriched::EnrichedContext;
pub(crate) use self::link::{ChainLink, MissingRequired, PlacedBinding};
use self::overlay::{EditedPayload, EditedResults};
pub(crate) use self::resolver::ResolverChain;
pub(crate) use self::shadow::Shadow;
pub use self::shadow::{ShadowReport, ShadowSample};
use crate::runtime::interface::{Authenticate, Decision, Enrich, Filter, TransformPayload, TransformResults};
use crate::vocabulary::{AdmissionRules, AllAbstain, Bind, CallError, Policy};

/// Time budget for all plugins of a request, unless the deadline of one of them is longer.
const REQUEST_BUDGET: Duration = Duration::from_millis(10);

/// The plugins of one hook and one environment, in order.
pub(crate) struct Chain {
    steps: Vec<ChainLink>,
    identity: u64,
    budget: Duration,
    admission: AdmissionRules,
}

impl Chain {
    pub(crate) fn new(steps: Vec<ChainLink>, admission: AdmissionRules) -> Self {
        let mut digest = Sha256::new();
        for link in &steps {
            link.identify(&mut digest);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let (identity, _) = digest.split_first_chunk::<8>().expect("a digest has 32 bytes");
        let longest = steps.iter().map(|link| link.bind().deadline).max().unwrap_or_default();
        Self { identity: u64::from_le_bytes(*identity), budget: REQUEST_BUDGET.max(longest), steps, admission }
    }

    async fn decide(&self, facts: &Arc<RequestFacts>) -> Result<Admission, HookFailure> {
        let mut began = None;
        let mut request = AdmittedRequest { facts: Arc::clone(facts), identity: None };
        let (mut headers, mut is_allowed, mut abstained) = (Vec::new(), false, None);
        for link in self.steps_for(facts) {
            // Most chains have one plugin, which gets the whole budget without reading the clock.
            let left = match began {
                None => self.budget,
                Some(began) => self.budget.saturating_sub(Instant::elapsed(&began)),
            };
            if self.steps.len() > 1 {
                began.get_or_insert_with(Instant::now);
            }
            let check = |decision| check::decision(decision, self.admission.vendor_headers);
            match link.ask(&facts.environment, &Authenticate { request: request.clone() }, left, check).await {
                Ok(check::Checked { decision: Decision::Allow { identity, .. }, response_headers }) => {
                    is_allowed = true;
                    headers.extend(response_headers);
                    request.identity = identity.map(Identity::into).or(request.identity);
                }
                Ok(check::Checked {
                    decision: Decision::Deny { class, reason, retry_after, .. },
                    response_headers,
                }) => {
                    let plugin = Arc::clone(link.name());
                    // It is logged, and some responses contain it.
                    let reason = reason.map(|reason| link.redacted(&reason));
                    return Ok(Admission::Denied(Denial { plugin, class, reason, retry_after, response_headers }));
                }
                Ok(check::Checked { decision: Decision::Abstain, .. }) => {
                    abstained.get_or_insert(link);
                }
                Err(_) if link.bind().on_failure == Policy::Open => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        let class = match self.admission.all_abstain {
            AllAbstain::Allow => None,
            AllAbstain::Forbidden => Some(DenialClass::Forbidden),
            AllAbstain::Unavailable => Some(DenialClass::Unavailable),
        };
        if facts.is_delegated && !is_allowed {
            let plugin = self.steps.first().map_or_else(|| "none".into(), |link| Arc::clone(link.name()));
            let reason = Some("no plugin allows the request, which has no credential of the environment".to_owned());
            let class = class.unwrap_or(DenialClass::Forbidden);
            return Ok(Admission::Denied(Denial { reason, ..Denial::new(plugin, class) }));
        }
        match (abstained, class) {
            (Some(link), Some(class)) if !is_allowed => {
                let reason = Some("every plugin of the chain abstained".to_owned());
                Ok(Admission::Denied(Denial { reason, ..Denial::new(Arc::clone(link.name()), class) }))
            }
            _ => Ok(Admission::Allowed { identity: request.identity, response_headers: headers }),
        }
    }

    async fn edit_events(&self, facts: &BatchFacts, events: &[Event]) -> Filtering {
        let mut edited = EditedBatch::new(events, facts.read);
        let request = &facts.request.facts;
        for link in self.steps_for(request) {
            for part in edited.parts() {
                let ask = Filter { facts: facts.clone(), events: Arc::clone(&part) };
                let count = part.len();
                let check = |reply| check::event_edits(reply, count);
                match link.ask(&request.environment, &ask, link.bind().deadline, check).await {
                    Ok(edits) => edited.apply(edits, count, link.name()),
                    Err(_) => match link.bind().on_failure {
                        Policy::Pass => edited.skip(count),
                        Policy::Drop => return Filtering::Lose { plugin: Arc::clone(link.name()) },
                        _ => return Filtering::Hold { plugin: Arc::clone(link.name()) },
                    },
                }
            }
            edited.end_step();
        }
        Filtering::Decided(edited.into_filtered(events.len()))
    }

    async fn edit_payload(
        &self,
        facts: &PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> Result<Vec<PayloadEdit>, HookFailure> {
        let mut edited = EditedPayload::new(view);
        for link in &self.steps {
            let seen = edited.view();
            let ask = TransformPayload { facts: facts.clone(), view: Arc::clone(&seen) };
            let check = |reply| check::payload_edits(reply, &*seen);
            match link.ask(&facts.environment, &ask, link.bind().deadline, check).await {
                Ok(edits) => edited.apply(edits),
                Err(_) if link.bind().on_failure == Policy::Pass => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        Ok(edited.into_edits())
    }

    async fn add_attributes(
        &self,
        facts: &EnrichmentFacts,
        context: Arc<dyn ContextView>,
    ) -> Result<Vec<ContextAttribute>, HookFailure> {
        let mut enriched = EnrichedContext::new(context);
        let request = &facts.request.facts;
        for link in self.steps_for(request) {
            let seen = enriched.view();
            let ask = Enrich { facts: facts.clone(), context: Arc::clone(&seen) };
            let check = |reply| check::attributes(reply, &*seen);
            match link.ask(&request.environment, &ask, link.bind().deadline, check).await {
                Ok(attributes) => enriched.apply(attributes),
                Err(_) if link.bind().on_failure == Policy::Pass => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        Ok(enriched.into_attributes())
    }

    async fn edit_results(
        &self,
        facts: &EvaluationFacts,
        view: Arc<dyn ResultView>,
    ) -> Result<ResultEdits, HookFailure> {
        let mut edited = EditedResults::new(view);
        let request = &facts.request.facts;
        for link in self.steps.iter().filter(|link| link.bind().covers_sdk(request.sdk)) {
            let seen = edited.view();
            let ask = TransformResults { facts: facts.clone(), view: Arc::clone(&seen) };
            let check = |reply| check::result_edits(reply, &*seen);
            match link.ask(&request.environment, &ask, link.bind().deadline, check).await {
                Ok(edits) => edited.apply(edits),
                Err(_) if link.bind().on_failure == Policy::Pass => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        Ok(edited.into_edits())
    }

    fn steps_for<'a>(&'a self, facts: &'a RequestFacts) -> impl Iterator<Item = &'a ChainLink> {
        let covers = |bind: &Bind| bind.covers_sdk(facts.sdk) && bind.covers_route(facts.route);
        self.steps.iter().filter(move |link| covers(link.bind()) && link.serves(facts))
    }
}

impl RequestAuth for Chain {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn authenticate<'a>(&'a self, facts: &'a Arc<RequestFacts>) -> HookFuture<'a, Result<Admission, HookFailure>> {
        Box::pin(self.decide(facts))
    }
}

impl EventFilter for Chain {
    fn filter<'a>(&'a self, facts: &'a BatchFacts, events: &'a [Event]) -> HookFuture<'a, Filtering> {
        Box::pin(self.edit_events(facts, events))
    }
}

impl PayloadTransform for Chain {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn transform<'a>(
        &'a self,
        facts: &'a PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>> {
        Box::pin(self.edit_payload(facts, view))
    }
}

impl ContextEnrichment for Chain {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn enrich<'a>(
        &'a self,
        facts: &'a EnrichmentFacts,
        context: Arc<dyn ContextView>,
    ) -> HookFuture<'a, Result<Vec<ContextAttribute>, HookFailure>> {
        Box::pin(self.add_attributes(facts, context))
    }
}

impl EvaluationTransform for Chain {
    fn reads_requests(&self) -> bool {
        self.steps.iter().any(ChainLink::reads_requests)
    }

    fn transform<'a>(
        &'a self,
        facts: &'a EvaluationFacts,
        view: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<ResultEdits, HookFailure>> {
        Box::pin(self.edit_results(facts, view))
    }
}

fn failure(link: &ChainLink, error: &CallError) -> HookFailure {
    HookFailure { plugin: Arc::clone(link.name()), class: error.outcome().name() }
}
