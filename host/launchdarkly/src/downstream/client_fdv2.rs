//! `/sdk/poll/eval` and `/sdk/stream/eval`: results for mobile SDKs and browsers by the second version of the delivery
//! protocol (V001 to V021).
//!
//! A caller has everything if it has the state of the environment, unless plugins or memberships in Big Segments take part
//! in its results: then the state has a digest of the results as an addition (V015).

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use sha2::{Digest, Sha256};
use yardarm_core::Snapshot;
use yardarm_core::delivery::{DeliverySlot, TooManyDeliveries};
use yardarm_launchdarkly_eval::evaluation::{Replaced, Ruleset, evaluate_each};

use super::Downstream;
use super::auth::Caller;
use super::context::{self, message};
use super::deliveries::{refused, with_slot};
use super::evaluation::{evaluation_request, failed, prepare};
use super::fdv2::basis;
use super::polling::{answer, not_initialized};
use super::stream::{open_client_stream, unbuffered};
use crate::data::fdv2::{Event, Intent, write_end, write_intent};
use crate::data::{DataState, FlagData};
use crate::evaluation::result_format::{write_put, write_put_added};
use crate::evaluation::{ClientContext, Edits, EvaluationError, EvaluationRequest, ResultFormat, Visibility};

/// Room for the event of an ordinary flag.
const BYTES_PER_FLAG: usize = 160;
/// Bytes of a digest that names and tags have, as hexadecimal digits.
const DIGEST_LENGTH: usize = 16;

/// `GET /sdk/poll/eval/{context}`
pub(super) async fn poll_from_path(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    Path(variables): Path<Vec<(String, String)>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match context::from_path(&downstream, &caller, uri.query(), &variables) {
        Ok(context) => poll(&downstream, &caller, uri.query(), &headers, context).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// `POST /sdk/poll/eval`, `REPORT /sdk/poll/eval`
pub(super) async fn poll_from_body(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    request: Request,
) -> Response {
    let (query, headers) = (request.uri().query().map(str::to_owned), request.headers().clone());
    match context::from_body(&downstream, &caller, request).await {
        Ok(context) => poll(&downstream, &caller, query.as_deref(), &headers, context).await,
        Err(rejection) => rejection.into_response(),
    }
}

/// `GET /sdk/stream/eval/{context}`
pub(super) async fn stream_from_path(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    Path(variables): Path<Vec<(String, String)>>,
    uri: Uri,
) -> Response {
    match context::from_path(&downstream, &caller, uri.query(), &variables) {
        Ok(context) => open_client_stream(&downstream, caller, uri.query(), context, ResultFormat::Objects).await,
        Err(rejection) => unbuffered(rejection),
    }
}

/// `POST /sdk/stream/eval`, `REPORT /sdk/stream/eval`
pub(super) async fn stream_from_body(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    request: Request,
) -> Response {
    let query = request.uri().query().map(str::to_owned);
    match context::from_body(&downstream, &caller, request).await {
        Ok(context) => open_client_stream(&downstream, caller, query.as_deref(), context, ResultFormat::Objects).await,
        Err(rejection) => unbuffered(rejection),
    }
}

/// The checks after the context: data, an empty key, the result.
async fn poll(
    downstream: &Downstream,
    caller: &Caller,
    query: Option<&str>,
    headers: &HeaderMap,
    context: ClientContext,
) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return not_initialized() };
    if context.has_empty_key() {
        return message(StatusCode::BAD_REQUEST, "User must have a 'key' attribute");
    }
    let transferred = match evaluation_request(caller, query, context, ResultFormat::Objects).await {
        Ok(request) => Transfer::new(downstream, caller, snapshot, request, query, headers).await,
        Err(failure) => Err(EvaluationError::Plugin(failure).into()),
    };
    match transferred {
        Ok(Transfer { tag, body, slot }) => answer(caller, headers, &tag, || with_slot(body, slot)),
        Err(PollError::Evaluation(error)) => failed(error, caller),
        Err(PollError::Refused(refusal)) => refused(refusal),
    }
}

/// The answer to a poll.
struct Transfer {
    /// Differs for other contexts, and for other properties of results (V014).
    tag: String,
    body: Bytes,
    /// Held until the body is written, unless it is short.
    slot: Option<DeliverySlot>,
}

/// Why there is no answer with results.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error(transparent)]
    Refused(#[from] TooManyDeliveries),
}

/// The events of all results.
struct Results {
    /// Each with a comma before it.
    events: Vec<u8>,
    digest: String,
}

impl Transfer {
    async fn new(
        downstream: &Downstream,
        caller: &Caller,
        snapshot: Arc<Snapshot<FlagData>>,
        mut request: EvaluationRequest,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Self, PollError> {
        let edits = prepare(downstream, caller, &snapshot, &mut request).await?;
        let has_addition = edits.is_some() || request.enrichment != 0 || request.memberships.is_some();
        let (state, basis) = (snapshot.data().state(), basis(query));
        let fingerprint = request.fingerprint();
        let tag = |name: &str| format!("{name}-{}", hexadecimal(&fingerprint));
        let is_known = |name: &str, tag: &str| basis.as_deref() == Some(name) || super::polling::has_tag(headers, tag);
        let mut name = state.to_string();
        // Without an evaluation, if the state alone decides.
        if !has_addition && is_known(&name, &tag(&name)) {
            return Ok(Self::up_to_date(tag(&name), &name, state));
        }
        // Results wait for their slot before they take memory, unless only they say whether the caller has them.
        let mut slot = if has_addition { None } else { downstream.delivery_slot().await? };
        let evaluators = downstream.limits.evaluators.get(caller.kind.trust());
        let capacity = BYTES_PER_FLAG * snapshot.data().items().flags.len();
        let render = move |ruleset: &Ruleset, request: &EvaluationRequest| {
            Results::of(ruleset, request, edits.as_ref(), capacity, has_addition)
        };
        let Results { events, digest } =
            request.answer(&snapshot, evaluators, render).await.map_err(EvaluationError::from)?;
        if has_addition {
            // Writing to a string cannot fail.
            let _ = write!(name, "-{digest}");
            if is_known(&name, &tag(&name)) {
                return Ok(Self::up_to_date(tag(&name), &name, state));
            }
            slot = downstream.delivery_slot().await?;
        }
        Ok(Self { tag: tag(&name), body: everything(&name, state, &events), slot })
    }

    fn up_to_date(tag: String, name: &str, state: DataState) -> Self {
        Self { tag, body: up_to_date(name, state), slot: None }
    }
}

impl Results {
    fn of(
        ruleset: &Ruleset,
        request: &EvaluationRequest,
        edits: Option<&Edits>,
        capacity: usize,
        needs_digest: bool,
    ) -> Self {
        let (mut events, mut index, with_reasons) = (Vec::with_capacity(capacity), 0, request.with_reasons);
        let mut push = |data: &dyn Fn(&mut Vec<u8>)| {
            events.push(b',');
            Event { name: "put-object", data }.write_json(&mut events);
        };
        evaluate_each(ruleset, &request.request(), &mut |evaluated| {
            let shown = edits.map_or(Visibility::Shown(Replaced::default()), |edits| edits.at(index));
            index += 1;
            if let Visibility::Shown(replaced) = shown {
                push(&|out| write_put(&evaluated, replaced, with_reasons, out));
            }
        });
        for added in edits.into_iter().flat_map(Edits::added) {
            push(&|out| write_put_added(&added, with_reasons, out));
        }
        let digest = if needs_digest { hexadecimal(&Sha256::digest(&events)) } else { String::new() };
        Self { events, digest }
    }
}

fn up_to_date(name: &str, state: DataState) -> Bytes {
    let mut body = b"{\"events\":[".to_vec();
    Event { name: "server-intent", data: &|out| write_intent(name, state, Intent::UpToDate, out) }
        .write_json(&mut body);
    body.extend_from_slice(b"]}");
    body.into()
}

fn everything(name: &str, state: DataState, events: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(events.len() + 400);
    body.extend_from_slice(b"{\"events\":[");
    let intent: &dyn Fn(&mut Vec<u8>) = &|out| write_intent(name, state, Intent::Everything, out);
    Event { name: "server-intent", data: intent }.write_json(&mut body);
    body.extend_from_slice(events);
    body.push(b',');
    Event { name: "payload-transferred", data: &|out| write_end(name, state, out) }.write_json(&mut body);
    body.extend_from_slice(b"]}");
    body.into()
}

fn hexadecimal(digest: &[u8]) -> String {
    hex::encode(digest.get(..DIGEST_LENGTH).unwrap_or(digest))
}
