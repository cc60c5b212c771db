//! Requests: their spans, and their metrics with the attributes of LaunchDarkly's relay 9.0. Rows V044 and V052.

mod labels;

use std::sync::Arc;

use axum::extract::Request;
use http::{HeaderMap, HeaderValue};
use opentelemetry::KeyValue;
use yardarm_core::hooks::RequestOrigin;
use yardarm_core::registry::RouteTag;
use yardarm_core::trace::{self, Span, SpanKind, TraceContext};

pub(super) use self::labels::{ENVIRONMENT, Labels};
use super::instruments::{Active, Instruments};
use crate::request_metrics::{Answered, ObservedRequest, RequestObserver};

/// Records requests as they are answered.
pub(super) struct Requests {
    instruments: Option<Arc<Instruments>>,
}

/// A request in progress.
struct InProgress {
    span: Option<Span>,
    metered: Option<Metered>,
}

/// What the metrics of a request need.
struct Metered {
    instruments: Arc<Instruments>,
    active: Active,
    labels: Labels,
}

impl Requests {
    /// Records requests with these instruments, if metrics are exported, and as spans, if traces are.
    pub(super) fn new(instruments: Option<Arc<Instruments>>) -> Self {
        Self { instruments }
    }
}

impl RequestObserver for Requests {
    fn begin(&self, request: &Request) -> Box<dyn ObservedRequest> {
        let is_tls = RequestOrigin::of(request.extensions()).is_some_and(|it| it.is_tls);
        let (method, headers) = (request.method().as_str(), request.headers());
        let span = trace::start("request", SpanKind::Server, parent(headers).as_ref());
        let metered = self.instruments.as_ref().map(|instruments| {
            let active = instruments.begin(method, is_tls);
            let labels = Labels::new(&active, |name| headers.get(name).map(HeaderValue::as_bytes));
            Metered { instruments: Arc::clone(instruments), active, labels }
        });
        let mut observed = InProgress { span, metered };
        if let Some(span) = &mut observed.span {
            span.set("http.request.method", labels::method(method));
            span.set("url.scheme", labels::scheme(is_tls));
        }
        Box::new(observed)
    }
}

impl ObservedRequest for InProgress {
    fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }

    fn end(self: Box<Self>, answered: &Answered<'_>) {
        let Self { span, metered } = *self;
        if let Some(metered) = metered {
            metered.end(answered);
        }
        if let Some(span) = span {
            end_span(span, answered);
        }
    }
}

impl Metered {
    fn end(self, answered: &Answered<'_>) {
        let Self { instruments, active, labels } = self;
        if let Some(tag) = answered.tag {
            instruments.remember_path(tag, active.method());
        }
        let mut attributes = labels.of_answer(answered).attributes();
        instruments.requests.add(1, &attributes);
        if !answered.is_stream {
            let status = answered.status.as_u16();
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
            if answered.status.is_server_error() {
                attributes.push(KeyValue::new("error.type", status.to_string()));
            }
            instruments.duration.record(answered.took.as_secs_f64(), &attributes);
        }
    }
}

/// Returns the span that a caller names, if it is valid.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    TraceContext::parse(header(TraceContext::HEADER)?, header(TraceContext::STATE_HEADER))
}

/// Completes a span. It is named by the template of its route, because paths contain contexts.
fn end_span(mut span: Span, answered: &Answered<'_>) {
    if let Some(RouteTag { path, environment, sdk, .. }) = answered.tag {
        let method = answered.method;
        span.rename(|| format!("{method} {path}"));
        span.set("http.route", *path);
        span.set("url.path", *path);
        if let Some(environment) = environment {
            span.set(ENVIRONMENT, environment.name().to_string());
        }
        if let Some(sdk) = sdk {
            span.set("launchdarkly.relay.sdk", format!("{}/{}", sdk.name, sdk.version()));
        }
    }
    span.set("http.response.status_code", answered.status.as_u16());
    if answered.status.is_server_error() {
        span.set_failed();
    }
}
