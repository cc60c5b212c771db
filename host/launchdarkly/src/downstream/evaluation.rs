//! Evaluated flags for client-side SDKs.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use yardarm_core::Snapshot;
use yardarm_core::hooks::{ContextView, EnrichmentFacts, HookFailure};
use yardarm_launchdarkly_eval::evaluation::{Ruleset, evaluate_all, evaluate_each};

use super::Downstream;
use super::auth::Caller;
use super::context::{self, message};
use super::polling::not_initialized;
use super::query::first_query_value;
use super::rejection::Rejection;
use crate::data::FlagData;
use crate::evaluation::{ClientContext, Edits, EvaluationError, EvaluationRequest, ResultFormat, Visibility};

/// Room for the entry of an ordinary flag, so that a body need not be reallocated while it is written.
const BYTES_PER_FLAG: usize = 96;

/// `GET …/contexts/{context}`, `GET …/users/{context}`
pub(super) async fn from_path(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    Path(variables): Path<Vec<(String, String)>>,
    uri: Uri,
) -> Response {
    match context::from_path(&downstream, &caller, uri.query(), &variables) {
        Ok(context) => evaluate(&downstream, &caller, uri.query(), context).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// `REPORT …/context`, `REPORT …/user`
pub(super) async fn from_body(State(downstream): State<Arc<Downstream>>, caller: Caller, request: Request) -> Response {
    let query = request.uri().query().map(str::to_owned);
    match context::from_body(&downstream, &caller, request).await {
        Ok(context) => evaluate(&downstream, &caller, query.as_deref(), context).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// The checks after the context: data, an empty key, the result (L043, L113).
async fn evaluate(downstream: &Downstream, caller: &Caller, query: Option<&str>, context: ClientContext) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return not_initialized() };
    if context.has_empty_key() {
        return message(StatusCode::BAD_REQUEST, "User must have a 'key' attribute");
    }
    let answered = match evaluation_request(caller, query, context, ResultFormat::Evalx).await {
        Ok(evaluation_request) => results(downstream, caller, &snapshot, evaluation_request).await,
        Err(failure) => Err(EvaluationError::Plugin(failure)),
    };
    match answered {
        Ok(body) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(error) => failed(error, caller),
    }
}

/// The answer after an evaluation has failed.
pub(super) fn failed(error: EvaluationError, caller: &Caller) -> Response {
    let rejection = match error {
        EvaluationError::Plugin(failure) => Rejection::Refused(failure.into()),
        EvaluationError::Evaluator(_) => Rejection::Overloaded,
    };
    rejection.into_response(caller.place)
}

async fn results(
    downstream: &Downstream,
    caller: &Caller,
    snapshot: &Arc<Snapshot<FlagData>>,
    mut evaluation_request: EvaluationRequest,
) -> Result<Vec<u8>, EvaluationError> {
    let evaluators = downstream.limits.evaluators.get(caller.kind.trust());
    let edits = prepare(downstream, caller, snapshot, &mut evaluation_request).await?;
    let capacity = BYTES_PER_FLAG * snapshot.data().items().flags.len();
    let write = move |ruleset: &Ruleset, evaluation_request: &EvaluationRequest| match edits {
        None => {
            let mut body = Vec::with_capacity(capacity);
            evaluate_all(ruleset, &evaluation_request.request(), &mut body);
            body
        }
        Some(edits) => edited(ruleset, evaluation_request, &edits),
    };
    Ok(evaluation_request.answer(snapshot, evaluators, write).await?)
}

/// Looks up what the evaluation needs besides the data, and has plugins edit its results.
///
/// # Errors
/// When a required plugin failed, or when an evaluation failed.
pub(super) async fn prepare(
    downstream: &Downstream,
    caller: &Caller,
    snapshot: &Arc<Snapshot<FlagData>>,
    evaluation_request: &mut EvaluationRequest,
) -> Result<Option<Edits>, EvaluationError> {
    let (environment, evaluators) = (&caller.environment, downstream.limits.evaluators.get(caller.kind.trust()));
    evaluation_request.look_up(environment.store.as_deref(), snapshot, evaluators).await?;
    let hooks = caller.plan.environment(&environment.label);
    Ok(match &hooks.evaluation_transform {
        Some(transform) => Some(Edits::of_plugins(&**transform, snapshot, evaluation_request, evaluators).await?),
        None => None,
    })
}

/// The evaluation request of a caller with a context, to which plugins add attributes.
///
/// # Errors
/// When a required plugin failed.
pub(super) async fn evaluation_request(
    caller: &Caller,
    query: Option<&str>,
    context: ClientContext,
    format: ResultFormat,
) -> Result<EvaluationRequest, HookFailure> {
    let with_reasons = first_query_value(query, "withReasons").as_deref() == Some("true");
    let (request, mut context, mut enrichment) = (caller.request.clone(), Arc::new(context), 0);
    if let Some(chain) = &caller.plan.environment(&caller.environment.label).context_enrichment {
        let facts = EnrichmentFacts { request: request.clone() };
        let attributes = chain.enrich(&facts, Arc::clone(&context) as Arc<dyn ContextView>).await?;
        let invalid = |_| HookFailure { plugin: "enrichment chain".into(), class: "output-invalid" };
        context = context.enriched(&attributes).map_err(invalid)?;
        enrichment = chain.identity();
    }
    Ok(EvaluationRequest { request, context, enrichment, kind: caller.kind, with_reasons, format, memberships: None })
}

/// Evaluates a second time instead of keeping results, which borrow from the ruleset; evaluation is cheap and pure.
fn edited(ruleset: &Ruleset, evaluation_request: &EvaluationRequest, edits: &Edits) -> Vec<u8> {
    let mut body = vec![b'{'];
    let mut index = 0;
    evaluate_each(ruleset, &evaluation_request.request(), &mut |evaluated| {
        if let Visibility::Shown(replaced) = edits.at(index) {
            separate(&mut body);
            evaluated.write_entry(replaced, evaluation_request.with_reasons, &mut body);
        }
        index += 1;
    });
    for added in edits.added() {
        separate(&mut body);
        ResultFormat::Evalx.write_added(&added, evaluation_request.with_reasons, &mut body);
    }
    body.push(b'}');
    body
}

/// Writes the comma before an entry that is not the first.
fn separate(body: &mut Vec<u8>) {
    if body.len() > 1 {
        body.push(b',');
    }
}
