//! The six streams: `/all`, `/flags`, and the four of client-side SDKs, which are sent `ping`, or evaluated results if
//! that is configured and the request has a context.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use yardarm_core::change_log::UpdateSource;
use yardarm_core::hooks::{HookFailure, RequestFacts};
use yardarm_vendor::stream_response::{self, Start};

use super::Downstream;
use super::auth::{Caller, platform};
use super::compat_metrics::Labels;
use super::context::{self, ContextRejection};
use super::evaluation::evaluation_request;
use super::rejection::Rejection;
use super::sdk_release::user_agent;
use crate::data::Channel;
use crate::environments::Lookup;
use crate::evaluation::{ClientContext, EvaluationRequest, ResultFormat};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `GET /all`
pub(super) async fn all(State(downstream): State<Arc<Downstream>>, caller: Caller) -> Response {
    let source = caller.environment.data.update_source();
    open_in_full(&downstream, caller, source, Channel::All as usize).await
}

/// `GET /flags`
pub(super) async fn flags(State(downstream): State<Arc<Downstream>>, caller: Caller) -> Response {
    open_stream(&downstream, caller, StreamKind::Changes(Channel::Flags))
}

/// `GET /mping`, `GET /ping/{envId}`
pub(super) async fn ping(State(downstream): State<Arc<Downstream>>, caller: Caller) -> Response {
    open_stream(&downstream, caller, StreamKind::Changes(Channel::Ping))
}

/// `GET /meval/{context}`, `GET /eval/{envId}/{context}`
pub(super) async fn from_path(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    Path(variables): Path<Vec<(String, String)>>,
    uri: Uri,
) -> Response {
    match context::from_path(&downstream, &caller, uri.query(), &variables) {
        Ok(context) => open_client_stream(&downstream, caller, uri.query(), context, ResultFormat::Evalx).await,
        Err(rejection) => unbuffered(rejection),
    }
}

/// `REPORT /meval`, `REPORT /eval/{envId}`
pub(super) async fn from_body(State(downstream): State<Arc<Downstream>>, caller: Caller, request: Request) -> Response {
    let query = request.uri().query().map(str::to_owned);
    match context::from_body(&downstream, &caller, request).await {
        Ok(context) => open_client_stream(&downstream, caller, query.as_deref(), context, ResultFormat::Evalx).await,
        Err(rejection) => unbuffered(rejection),
    }
}

/// The events of a stream.
enum StreamKind {
    /// Flag data and its changes.
    Changes(Channel),
    /// Evaluated results for its context.
    Results(EvaluationRequest),
}

impl StreamKind {
    /// The stream for a client with `context`: evaluated results, if they are configured and the context is small enough to
    /// be kept. Other streams are sent `ping`, and the context is dropped.
    ///
    /// # Errors
    /// When a required plugin could not add attributes to the context.
    async fn about(
        caller: &Caller,
        query: Option<&str>,
        context: ClientContext,
        format: ResultFormat,
    ) -> Result<Self, HookFailure> {
        // A user without a key may open a stream, but cannot be evaluated, so it has no results.
        let has_results = caller.environment.evaluated_streams.is_some() && !context.has_empty_key();
        Ok(match context.kept().filter(|_| has_results) {
            Some(context) => Self::Results(evaluation_request(caller, query, context, format).await?),
            None => Self::Changes(Channel::Ping),
        })
    }
}

/// Opens the stream of a client with `context`, whose results, if it is sent any, have the form `format`.
pub(super) async fn open_client_stream(
    downstream: &Downstream,
    caller: Caller,
    query: Option<&str>,
    context: ClientContext,
    format: ResultFormat,
) -> Response {
    match StreamKind::about(&caller, query, context, format).await {
        Ok(kind) => open_stream(downstream, caller, kind),
        Err(failure) => Rejection::Refused(failure.into()).into_response(caller.place),
    }
}

fn open_stream(downstream: &Downstream, caller: Caller, kind: StreamKind) -> Response {
    let environment = &caller.environment;
    let (source, channel) = match (kind, &environment.evaluated_streams) {
        (StreamKind::Results(evaluation_request), Some(streams)) => (streams.join(evaluation_request), 0),
        (StreamKind::Changes(channel @ (Channel::All | Channel::Flags)), _) => {
            (environment.data.update_source(), channel as usize)
        }
        (StreamKind::Changes(Channel::Ping) | StreamKind::Results(_), _) => {
            (environment.ping_source(), Channel::Ping as usize)
        }
    };
    open(downstream, caller, source, channel, Start::Everything(None))
}

/// Opens a stream that begins with all data, once a slot for that is free.
pub(super) async fn open_in_full(
    downstream: &Downstream,
    caller: Caller,
    source: Arc<dyn UpdateSource>,
    channel: usize,
) -> Response {
    match downstream.delivery_slot().await {
        Ok(slot) => open(downstream, caller, source, channel, Start::Everything(slot)),
        // The reference opens such streams and closes them, and SDKs retry as after any end of a stream.
        Err(_) => (head(), Body::empty()).into_response(),
    }
}

/// Opens a stream for an authenticated caller.
pub(super) fn open(
    downstream: &Downstream,
    caller: Caller,
    source: Arc<dyn UpdateSource>,
    channel: usize,
    start: Start,
) -> Response {
    let (kind, place) = (caller.kind, caller.place);
    let lifetime = downstream.config.max_client_connection_time;
    let is_known = |facts: &RequestFacts| {
        let (environments, filter) = (&downstream.environments, &caller.environment.filter);
        let credential = facts.credential.as_ref().map_or("", |it| it.expose());
        match environments.find(kind, credential, filter) {
            _ if facts.is_delegated && environments.contains(&facts.environment) => Ok(()),
            Lookup::Found(_) => Ok(()),
            _ => Err(Rejection::UnknownCredential),
        }
    };
    let guard = match stream_response::register(&downstream.streams, caller.request, lifetime, is_known) {
        Ok(guard) => guard,
        Err(rejection) => return rejection.into_response(place),
    };
    let guard = match &downstream.compat_metrics {
        None => guard,
        Some(compat_metrics) => {
            let labels = Labels {
                env: caller.config.display_name(&caller.environment.filter),
                platform: platform(kind),
                user_agent: user_agent(|name| guard.facts().head.first(name)),
                route: None,
            };
            guard.attach(compat_metrics.connection(labels))
        }
    };
    stream_response::respond(head(), source, channel, start, guard)
}

/// The head of every stream (L052). The listener removes `Connection` in protocol versions without it.
fn head() -> HeaderMap {
    [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate")),
        (CONNECTION, HeaderValue::from_static("keep-alive")),
        (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ]
    .into_iter()
    .collect()
}

/// Rejections on stream routes have this header too.
pub(super) fn unbuffered(rejection: ContextRejection) -> Response {
    let mut response = rejection.into_response();
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}
