//! Evaluated flags for SDKs that do not evaluate themselves.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use yardarm_core::hooks::{EvaluationFacts, EvaluationTransform, HookFailure, ResultChange, ResultView, ViewedResult};

use super::Downstream;
use super::auth::{Caller, first_query_value};
use super::context::{self, message};
use super::polling::not_initialized;
use super::rejection::Rejection;
use crate::environments::SdkKind;
use crate::evaluation::{Audience, Request as EvaluationRequest, Ruleset, evaluate_all, evaluate_each};
use crate::model::Context;

/// Room for the entry of an ordinary flag, so that an answer need not grow while it is written.
const BYTES_PER_FLAG: usize = 96;

/// `GET …/contexts/{context}`, `GET …/users/{context}`
pub(super) async fn from_path(caller: Caller, Path(variables): Path<Vec<(String, String)>>, uri: Uri) -> Response {
    let segment = variables.iter().find(|(name, _)| name == "context").map_or("", |(_, segment)| segment);
    match context::from_segment(segment).and_then(|it| context::check_hash(&caller, uri.query(), &it).map(|()| it)) {
        Ok(context) => evaluate(&caller, uri.query(), &context).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// `REPORT …/context`, `REPORT …/user`
pub(super) async fn from_body(State(downstream): State<Downstream>, caller: Caller, request: Request) -> Response {
    let query = request.uri().query().map(str::to_owned);
    let context = context::from_request(request, downstream.config.max_client_request_body).await;
    match context.and_then(|it| context::check_hash(&caller, query.as_deref(), &it).map(|()| it)) {
        Ok(context) => evaluate(&caller, query.as_deref(), &context).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// Section 6.4 of the compatibility page, from step 5 on.
async fn evaluate(caller: &Caller, query: Option<&str>, context: &Context) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return not_initialized() };
    if context.has_empty_key() {
        return message(StatusCode::BAD_REQUEST, "User must have a 'key' attribute");
    }
    let ruleset = snapshot.data().ruleset();
    // Looked up before, because evaluation itself waits for nothing.
    let memberships = match &caller.environment.store {
        Some(store) if ruleset.has_big_segments() => {
            Some(store.big_segments.memberships(&ruleset.big_segment_keys(context)).await)
        }
        _ => None,
    };
    let request = EvaluationRequest {
        context,
        audience: match caller.kind {
            SdkKind::Server => Audience::Server,
            SdkKind::Mobile => Audience::Mobile,
            SdkKind::Browser => Audience::Browser,
        },
        with_reasons: first_query_value(query, "withReasons").as_deref() == Some("true"),
        memberships: memberships.as_ref(),
    };
    let hooks = caller.plan.environment(&caller.environment.label);
    let body = match &hooks.evaluation_transform {
        None => {
            let mut body = Vec::with_capacity(BYTES_PER_FLAG * snapshot.data().items().flags.len());
            evaluate_all(ruleset, &request, &mut body);
            Ok(body)
        }
        Some(transform) => transformed(caller, ruleset, &request, &**transform).await,
    };
    match body {
        Ok(body) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(failure) => Rejection::PluginFailed(failure).into_response(caller.kind),
    }
}

async fn transformed(
    caller: &Caller,
    ruleset: &Ruleset,
    request: &EvaluationRequest<'_>,
    transform: &dyn EvaluationTransform,
) -> Result<Vec<u8>, HookFailure> {
    let facts = EvaluationFacts {
        environment: caller.environment.label.clone(),
        sdk: caller.kind.as_str(),
        context_key: request.context.canonical_key().into(),
    };
    let results = Arc::new(Results::new(ruleset, request));
    let edits = transform.transform(&facts, Arc::clone(&results) as Arc<dyn ResultView>).await?;
    let edits: HashMap<usize, ResultChange> = edits.into_iter().map(|edit| (edit.index, edit.change)).collect();
    // Evaluated a second time rather than kept: results borrow from the ruleset, and evaluation is cheap and pure.
    let mut body = vec![b'{'];
    let mut index = 0;
    evaluate_each(ruleset, request, &mut |evaluated| {
        let change = edits.get(&index);
        index += 1;
        if matches!(change, Some(ResultChange::Drop)) {
            return;
        }
        if body.len() > 1 {
            body.push(b',');
        }
        let value = if let Some(ResultChange::Replace(value)) = change { Some(&value[..]) } else { None };
        evaluated.write_entry(value, request.with_reasons, &mut body);
    });
    body.push(b'}');
    Ok(body)
}

/// Results as plugins see them, in order of key.
struct Results(Vec<ViewedResult>);

impl Results {
    fn new(ruleset: &Ruleset, request: &EvaluationRequest<'_>) -> Self {
        let mut all = Vec::new();
        evaluate_each(ruleset, request, &mut |evaluated| {
            let mut reason = Vec::new();
            evaluated.write_reason(&mut reason);
            all.push(ViewedResult {
                flag: Arc::clone(evaluated.item_key()),
                value: Bytes::copy_from_slice(evaluated.value()),
                variation: evaluated.variation().and_then(|it| u32::try_from(it).ok()),
                reason: reason.into(),
            });
        });
        Self(all)
    }
}

impl ResultView for Results {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn flag(&self, index: usize) -> Option<&str> {
        Some(&self.0.get(index)?.flag)
    }

    fn get(&self, index: usize) -> Option<ViewedResult> {
        self.0.get(index).cloned()
    }

    fn find(&self, flag: &str) -> Option<usize> {
        self.0.binary_search_by(|it| (*it.flag).cmp(flag)).ok()
    }
}
