//! Warm-up calls: one discarded call per position, so that the first real call does not pay for first use of the code.
//!
//! Results, log lines and metrics of the guest are discarded; a failure on the synthetic input is ignored.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{
    AdmittedRequest, BatchFacts, ContextView, EnrichmentFacts, EvaluationFacts, Event, ItemHead, PayloadFacts,
    PayloadView, RequestFacts, ResultView, ViewedResult,
};

use crate::call::BindingInstance;
use crate::runtime::guest::INIT_DEADLINE;
use crate::runtime::interface::{Authenticate, Enrich, Filter, HookCall, Resolve, TransformPayload, TransformResults};
use crate::runtime::processor_time::ProcessorTime;
use crate::vocabulary::Hook;

/// Time limit of a warm-up call, which must not delay the swap.
const LONGEST: Duration = Duration::from_millis(20);

struct Nothing;

/// Calls the hook of a binding once.
pub(super) async fn warm_up(binding: &BindingInstance) {
    let environment = EnvironmentLabel::new("none", "warm-up");
    let request: AdmittedRequest = RequestFacts::new(environment.clone(), "warm-up", "client").into();
    match binding.bind.hook {
        Hook::RequestAuth => put(binding, &Authenticate { request }).await,
        Hook::EventFilter => {
            let read = |body| Event { kind: None, at_ms: None, body };
            let facts = BatchFacts { request, schema: None, read };
            let events = Arc::new(vec![read(Bytes::from_static(b"{}"))]);
            put(binding, &Filter { facts, events }).await;
        }
        Hook::PayloadTransform => {
            let view: Arc<dyn PayloadView> = Arc::new(Nothing);
            put(binding, &TransformPayload { facts: PayloadFacts { environment }, view }).await;
        }
        Hook::ContextEnrichment => {
            let context: Arc<dyn ContextView> = Arc::new(Nothing);
            put(binding, &Enrich { facts: EnrichmentFacts { request }, context }).await;
        }
        Hook::RouteResolver => put(binding, &Resolve { request }).await,
        // Their calls have effects.
        Hook::Background | Hook::ChangeListener => (),
        Hook::EvaluationTransform => {
            let facts = EvaluationFacts { request, context: Arc::new(Nothing) };
            let view: Arc<dyn ResultView> = Arc::new(Nothing);
            put(binding, &TransformResults { facts, view }).await;
        }
    }
}

async fn put<A: HookCall>(binding: &BindingInstance, ask: &A) {
    let made = binding.guest.instantiate(A::HOOK, binding.bind.memory_mb, INIT_DEADLINE, true).await;
    let Ok(mut instance) = made else { return };
    let deadline = LONGEST.min(binding.bind.deadline);
    if let Err(error) = instance.call(ask, deadline, Instant::now(), &ProcessorTime::default()).await {
        tracing::debug!(plugin = %binding.guest.context.name, hook = %A::HOOK, %error, "warm-up call failed");
    }
}

impl PayloadView for Nothing {
    fn heads(&self) -> &[ItemHead] {
        &[]
    }

    fn json(&self, _: usize) -> Option<Bytes> {
        None
    }

    fn other(&self, _: &str, _: &str) -> Option<Bytes> {
        None
    }

    fn list(&self, _: &str) -> Vec<Arc<str>> {
        Vec::new()
    }
}

impl ContextView for Nothing {
    fn kinds(&self) -> Vec<&str> {
        Vec::new()
    }

    fn key(&self, _: &str) -> Option<&str> {
        None
    }

    fn canonical_key(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn attributes(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn attribute(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

impl ResultView for Nothing {
    fn len(&self) -> usize {
        0
    }

    fn flag(&self, _: usize) -> Option<&str> {
        None
    }

    fn get(&self, _: usize) -> Option<ViewedResult> {
        None
    }

    fn find(&self, _: &str) -> Option<usize> {
        None
    }
}
