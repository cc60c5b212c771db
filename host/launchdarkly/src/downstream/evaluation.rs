//! Evaluated flags for SDKs that do not evaluate themselves.

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};

use super::Downstream;
use super::auth::Caller;
use super::context::{self, message};
use super::polling::not_initialized;
use super::query::first_query_value;
use super::rejection::Rejection;
use crate::evaluation::{Ruleset, evaluate_all, evaluate_each};
use crate::model::Context;
use crate::question::{Edits, Question, Shown};

/// Room for the entry of an ordinary flag, so that an answer need not grow while it is written.
const BYTES_PER_FLAG: usize = 96;

/// `GET …/contexts/{context}`, `GET …/users/{context}`
pub(super) async fn from_path(caller: Caller, Path(variables): Path<Vec<(String, String)>>, uri: Uri) -> Response {
    let segment = variables.iter().find(|(name, _)| name == "context").map_or("", |(_, segment)| segment);
    match context::from_segment(segment).and_then(|it| context::check_hash(&caller, uri.query(), &it).map(|()| it)) {
        Ok(context) => evaluate(&caller, uri.query(), context).await.0,
        Err(rejection) => rejection.into_response(),
    }
}

/// `REPORT …/context`, `REPORT …/user`
pub(super) async fn from_body(State(downstream): State<Downstream>, caller: Caller, request: Request) -> Response {
    let query = request.uri().query().map(str::to_owned);
    let limit = downstream.config.max_client_request_body;
    let context = context::from_request(request, limit, &downstream.limits, caller.kind).await;
    match context.and_then(|it| context::check_hash(&caller, query.as_deref(), &it.0).map(|()| it)) {
        Ok((context, is_large)) => {
            let (response, question) = evaluate(&caller, query.as_deref(), context).await;
            if is_large {
                downstream.limits.discard(caller.kind.trust(), question);
            }
            response
        }
        Err(rejection) => rejection.into_response(),
    }
}

/// Section 6.4 of the compatibility page, from step 5 on. Returns the question too, unless evaluation was refused.
async fn evaluate(caller: &Caller, query: Option<&str>, context: Context) -> (Response, Option<Question>) {
    let Some(snapshot) = caller.environment.data.snapshot() else { return (not_initialized(), None) };
    if context.has_empty_key() {
        return (message(StatusCode::BAD_REQUEST, "User must have a 'key' attribute"), None);
    }
    let mut question = question(caller, query, context);
    let ruleset = snapshot.data().ruleset();
    question.look_up(caller.environment.store.as_deref(), ruleset).await;
    let hooks = caller.plan.environment(&caller.environment.label);
    let body = match &hooks.evaluation_transform {
        None => {
            let mut body = Vec::with_capacity(BYTES_PER_FLAG * snapshot.data().items().flags.len());
            evaluate_all(ruleset, &question.request(), &mut body);
            Ok(body)
        }
        Some(transform) => Edits::ask(&**transform, &caller.environment.label, ruleset, &question)
            .await
            .map(|edits| edited(ruleset, &question, &edits)),
    };
    let response = match body {
        Ok(body) => ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(failure) => Rejection::PluginFailed(failure).into_response(caller.kind),
    };
    (response, Some(question))
}

/// What a caller asks whose context is known.
pub(super) fn question(caller: &Caller, query: Option<&str>, context: Context) -> Question {
    let with_reasons = first_query_value(query, "withReasons").as_deref() == Some("true");
    Question { context, kind: caller.kind, with_reasons, memberships: None }
}

/// Evaluated a second time rather than kept: results borrow from the ruleset, and evaluation is cheap and pure.
fn edited(ruleset: &Ruleset, question: &Question, edits: &Edits) -> Vec<u8> {
    let mut body = vec![b'{'];
    let mut index = 0;
    evaluate_each(ruleset, &question.request(), &mut |evaluated| {
        let value = match edits.at(index) {
            Shown::Hidden => None,
            Shown::AsEvaluated => Some(None),
            Shown::With(value) => Some(Some(value)),
        };
        index += 1;
        if let Some(value) = value {
            if body.len() > 1 {
                body.push(b',');
            }
            evaluated.write_entry(value, question.with_reasons, &mut body);
        }
    });
    body.push(b'}');
    body
}
