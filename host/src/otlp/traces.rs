//! Spans, from the tracer of `yardarm_core::trace` to the collector.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind as Kind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter as _, SpanProcessor,
};
use yardarm_core::Lifecycle;
use yardarm_core::trace::{AttributeValue, Span, SpanKind, SpanRecord, TraceContext, Tracer};

use super::queue::{Exporter, Queue, SignalCounts};

/// The export of spans. Which traces are recorded is decided by `OTEL_TRACES_SAMPLER`, which the library reads.
pub(super) struct Traces {
    provider: SdkTracerProvider,
    queue: Queue<SpanData>,
}

impl Traces {
    pub(super) fn start(mut exporter: SpanExporter, resource: &Resource, lifecycle: &Lifecycle) -> Self {
        exporter.set_resource(resource);
        let queue = Queue::start("traces", Spans(exporter), lifecycle);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_span_processor(Ended(queue.clone()))
            .build();
        Self { provider, queue }
    }

    pub(super) fn tracer(&self) -> impl Tracer + 'static {
        Recorder(self.provider.tracer("yardarm"))
    }

    pub(super) async fn flush(&self) {
        self.queue.flush().await;
    }

    pub(super) fn counts(&self) -> Arc<SignalCounts> {
        self.queue.counts()
    }
}

struct Spans(SpanExporter);

impl Exporter<SpanData> for Spans {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        self.0.export(batch)
    }
}

/// Queues spans that have ended.
#[derive(Debug)]
struct Ended(Queue<SpanData>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Recorder(SdkTracer);

impl Tracer for Recorder {
    fn start(&self, name: &'static str, kind: SpanKind, parent: Option<&TraceContext>) -> Span {
        let kind = match kind {
            SpanKind::Server => Kind::Server,
            SpanKind::Client => Kind::Client,
            SpanKind::Internal => Kind::Internal,
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind);
        let context = parent.map_or_else(Context::new, |it| Context::new().with_remote_span_context(foreign(it)));
        let span = self.0.build_with_context(builder, &context);
        let identity = own(span.span_context(), parent);
        let record = span.is_recording().then(|| Box::new(Record(span)) as Box<dyn SpanRecord>);
        Span::new(identity, record)
    }
}

/// Returns a context as the library has it.
fn foreign(context: &TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    // A state that is not valid is left out, as the standard demands.
    let state = context.state_header().and_then(|it| TraceState::from_str(it).ok()).unwrap_or_default();
    let (trace, span) = (TraceId::from(context.trace_id()), SpanId::from(context.span_id()));
    SpanContext::new(trace, span, flags, context.is_remote(), state)
}

/// Returns the context of a span that was started below `parent`.
fn own(span: &SpanContext, parent: Option<&TraceContext>) -> TraceContext {
    let (trace, id) = (u128::from_be_bytes(span.trace_id().to_bytes()), u64::from_be_bytes(span.span_id().to_bytes()));
    TraceContext::new(trace, id, span.is_sampled())
        .with_state(parent.and_then(TraceContext::state_header).map(Arc::from))
}

/// A recorded span; ends when dropped.
struct Record(SdkSpan);

impl SpanRecord for Record {
    fn rename(&mut self, name: String) {
        self.0.update_name(name);
    }

    fn set(&mut self, name: &'static str, value: AttributeValue) {
        let value = match value {
            AttributeValue::Text(text) => Value::from(text),
            AttributeValue::Fixed(text) => Value::from(text),
            AttributeValue::Number(number) => Value::from(number),
        };
        self.0.set_attribute(KeyValue::new(name, value));
    }

    fn set_failed(&mut self) {
        self.0.set_status(Status::error(""));
    }
}
