//! The host's hooks, implemented by chains of plugins: how results are combined, and what happens when a plugin fails.

mod check;
mod link;
mod overlay;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use yardarm_core::hooks::{
    Admission, BatchFacts, Denial, EvaluationFacts, EvaluationTransform, Event, EventFilter, Filtering, HookFailure,
    HookFuture, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView, RequestAuth, RequestFacts, ResultEdit,
    ResultView, Verdict,
};

pub(crate) use self::link::{ChainLink, MissingRequired};
use self::overlay::{EditedPayload, EditedResults};
use crate::runtime::interface::{Authenticate, Decision, Filter, RawVerdict, TransformPayload, TransformResults};
use crate::vocabulary::{CallError, Policy};

/// Maximum number of events in one call; larger batches are split.
const MOST_EVENTS: usize = 500;
/// Maximum bytes of events in one call, unless a single event is larger.
const MOST_EVENT_BYTES: usize = 2 << 20;
/// Time budget for all plugins of a request, unless the deadline of one of them is longer.
const REQUEST_BUDGET: Duration = Duration::from_millis(10);

/// The plugins of one hook and one environment, in order.
pub(crate) struct Chain {
    steps: Vec<ChainLink>,
    identity: u64,
    budget: Duration,
}

impl Chain {
    pub(crate) fn new(steps: Vec<ChainLink>) -> Self {
        let mut digest = Sha256::new();
        for link in &steps {
            link.identify(&mut digest);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let (identity, _) = digest.split_first_chunk::<8>().expect("a digest has 32 bytes");
        let longest = steps.iter().map(|link| link.bind().deadline).max().unwrap_or_default();
        Self { identity: u64::from_le_bytes(*identity), budget: REQUEST_BUDGET.max(longest), steps }
    }

    async fn decide(&self, facts: &RequestFacts) -> Result<Admission, HookFailure> {
        let mut began = None;
        let (mut identity, mut allowed, mut abstained) = (None, false, None);
        for link in self.steps_for(facts.sdk, facts.route) {
            // Most chains have one plugin, which gets the whole budget without reading the clock.
            let left = match began {
                None => self.budget,
                Some(began) => self.budget.saturating_sub(Instant::elapsed(&began)),
            };
            if self.steps.len() > 1 {
                began.get_or_insert_with(Instant::now);
            }
            match link.ask(&facts.environment, &Authenticate(facts), left, Ok).await {
                Ok(Decision::Allow(given)) => {
                    allowed = true;
                    identity = Some(Arc::new(given));
                }
                Ok(Decision::Deny(denial)) => return Ok(Admission::Denied { plugin: Arc::clone(link.name()), denial }),
                Ok(Decision::Abstain) => {
                    abstained.get_or_insert(link);
                }
                Err(_) if link.bind().on_failure == Policy::Open => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        match abstained {
            // Plugins were called and none of them allowed or denied the request.
            Some(link) if !allowed => {
                Ok(Admission::Denied { plugin: Arc::clone(link.name()), denial: Denial::Unauthorized })
            }
            _ => Ok(Admission::Allowed(identity)),
        }
    }

    async fn sift(&self, facts: &BatchFacts, events: &[Event]) -> Filtering {
        let mut verdicts = vec![Verdict::Keep; events.len()];
        // Events as modified by earlier plugins.
        let mut replaced: Vec<Option<Event>> = vec![None; events.len()];
        for link in self.steps_for(facts.sdk, facts.route) {
            let alive: Vec<usize> =
                (0..events.len()).filter(|&index| !matches!(verdicts[index], Verdict::Drop { .. })).collect();
            let mut rest = &alive[..];
            while !rest.is_empty() {
                let current = |&index: &usize| replaced[index].as_ref().unwrap_or(&events[index]);
                let (part, tail) = rest.split_at(part_length(rest.iter().map(current)));
                let input: Vec<&Event> = part.iter().map(current).collect();
                let ask = Filter { facts, events: &input };
                let answer = link
                    .ask(&facts.environment, &ask, link.bind().deadline, |reply| check::verdicts(reply, input.len()))
                    .await;
                match answer {
                    Ok(answer) => {
                        for (&index, verdict) in part.iter().zip(answer) {
                            match verdict {
                                RawVerdict::Keep => (),
                                RawVerdict::Drop => verdicts[index] = Verdict::Drop { plugin: Arc::clone(link.name()) },
                                RawVerdict::Replace(json) => {
                                    let body = Bytes::from(json);
                                    verdicts[index] = Verdict::Replace(body.clone());
                                    let Event { kind, at_ms, .. } = &events[index];
                                    replaced[index] = Some(Event { kind: kind.clone(), at_ms: *at_ms, body });
                                }
                            }
                        }
                    }
                    Err(_) => match link.bind().on_failure {
                        Policy::Pass => (),
                        Policy::Drop => return Filtering::Lose { plugin: Arc::clone(link.name()) },
                        _ => return Filtering::Hold { plugin: Arc::clone(link.name()) },
                    },
                }
                rest = tail;
            }
        }
        Filtering::Decided(verdicts)
    }

    async fn edit_payload(
        &self,
        facts: &PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> Result<Vec<PayloadEdit>, HookFailure> {
        let mut edited = EditedPayload::new(view);
        for link in &self.steps {
            let seen = edited.view();
            let ask = TransformPayload { facts, view: &seen };
            let check = |reply| check::payload_edits(reply, &*seen);
            match link.ask(&facts.environment, &ask, link.bind().deadline, check).await {
                Ok(edits) => edited.apply(edits),
                Err(_) if link.bind().on_failure == Policy::Pass => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        Ok(edited.into_edits())
    }

    async fn edit_results(
        &self,
        facts: &EvaluationFacts,
        view: Arc<dyn ResultView>,
    ) -> Result<Vec<ResultEdit>, HookFailure> {
        let mut edited = EditedResults::new(view);
        for link in self.steps.iter().filter(|link| link.bind().covers_sdk(facts.sdk)) {
            let seen = edited.view();
            let ask = TransformResults { facts, view: &seen };
            let check = |reply| check::result_edits(reply, seen.len());
            match link.ask(&facts.environment, &ask, link.bind().deadline, check).await {
                Ok(edits) => edited.apply(edits),
                Err(_) if link.bind().on_failure == Policy::Pass => (),
                Err(error) => return Err(failure(link, &error)),
            }
        }
        Ok(edited.into_edits())
    }

    fn steps_for<'a>(&'a self, sdk: &'a str, route: &'a str) -> impl Iterator<Item = &'a ChainLink> {
        self.steps.iter().filter(move |link| link.bind().covers_sdk(sdk) && link.bind().covers_route(route))
    }
}

impl RequestAuth for Chain {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn authenticate<'a>(&'a self, facts: &'a RequestFacts) -> HookFuture<'a, Result<Admission, HookFailure>> {
        Box::pin(self.decide(facts))
    }
}

impl EventFilter for Chain {
    fn filter<'a>(&'a self, facts: &'a BatchFacts, events: &'a [Event]) -> HookFuture<'a, Filtering> {
        Box::pin(self.sift(facts, events))
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

impl EvaluationTransform for Chain {
    fn transform<'a>(
        &'a self,
        facts: &'a EvaluationFacts,
        view: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<Vec<ResultEdit>, HookFailure>> {
        Box::pin(self.edit_results(facts, view))
    }
}

fn failure(link: &ChainLink, error: &CallError) -> HookFailure {
    HookFailure { plugin: Arc::clone(link.name()), class: error.outcome().name() }
}

/// Returns how many of the next events fit in one call; at least one.
fn part_length<'a>(events: impl Iterator<Item = &'a Event>) -> usize {
    let mut bytes = 0;
    let fits = |event: &&Event| {
        bytes += event.body.len();
        bytes <= MOST_EVENT_BYTES
    };
    events.take(MOST_EVENTS).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_split_by_number_and_by_size() {
        let event = |size: usize| Event { kind: String::new(), at_ms: 0, body: Bytes::from(vec![b' '; size]) };
        let small: Vec<Event> = (0..1_200).map(|_| event(10)).collect();
        assert_eq!(part_length(small.iter()), 500);
        let large: Vec<Event> = (0..5).map(|_| event(1 << 20)).collect();
        assert_eq!(part_length(large.iter()), 2);
        assert_eq!(part_length([event(5 << 20)].iter()), 1);
    }
}
