//! Spans of requests to upstream, and the headers that carry them there.

use reqwest::{RequestBuilder, Response};
use yardarm_core::trace::{self, Span, SpanKind, TraceContext};

use super::SendError;

/// Sends a request by `send`, with a span if the current task works for one. The vendor's service can continue the trace.
pub(super) async fn traced<F>(
    request: RequestBuilder,
    send: impl FnOnce(RequestBuilder) -> F,
) -> Result<Response, SendError>
where
    F: Future<Output = Result<Response, SendError>> + Send,
{
    let Some(mut span) = trace::child("request", SpanKind::Client) else { return send(request).await };
    describe(&request, &mut span);
    let request = with_headers(request, span.context());
    let answer = trace::within(Some(&span), send(request)).await;
    match &answer {
        Ok(response) => {
            span.set("http.response.status_code", response.status().as_u16());
            if response.status().is_client_error() || response.status().is_server_error() {
                span.set_failed();
            }
        }
        // The text of an error may contain a URL.
        Err(_) => span.set_failed(),
    }
    answer
}

/// Names the method and the host. Paths may contain credentials.
fn describe(request: &RequestBuilder, span: &mut Span) {
    let Some(request) = request.try_clone().and_then(|it| it.build().ok()) else { return };
    let method = request.method().to_string();
    span.rename(|| method.clone());
    span.set("http.request.method", method);
    span.set("server.address", request.url().host_str().unwrap_or_default().to_owned());
}

/// Adds the headers of a trace.
fn with_headers(request: RequestBuilder, context: &TraceContext) -> RequestBuilder {
    let request = request.header(TraceContext::HEADER, context.parent_header());
    match context.state_header() {
        Some(state) => request.header(TraceContext::STATE_HEADER, state),
        None => request,
    }
}
