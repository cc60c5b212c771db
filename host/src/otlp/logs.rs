//! Lines of the log, as records of OTLP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use opentelemetry_otlp::LogExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _, LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider};
use serde_json::Value;
use tracing::Level;
use yardarm_core::{Lifecycle, trace};

use super::queue::{Exporter, Queue, SignalCounts};
use crate::logging::{Export, ExportedLine};

/// Crates below the exporters. Their lines are not exported: each export would cause further ones.
const BELOW: [&str; 9] = [
    "h2",
    "hyper",
    "hyper_util",
    "opentelemetry",
    "opentelemetry_otlp",
    "opentelemetry_sdk",
    "reqwest",
    "rustls",
    "tonic",
];

type Record = (SdkLogRecord, InstrumentationScope);

/// The export of lines.
pub(super) struct Logs {
    provider: SdkLoggerProvider,
    queue: Queue<Record>,
}

impl Logs {
    pub(super) fn start(mut exporter: LogExporter, resource: &Resource, lifecycle: &Lifecycle) -> Self {
        exporter.set_resource(resource);
        let queue = Queue::start("logs", Lines(exporter), lifecycle);
        let provider = SdkLoggerProvider::builder()
            .with_resource(resource.clone())
            .with_log_processor(Emitted(queue.clone()))
            .build();
        Self { provider, queue }
    }

    /// Returns what receives the lines of the log.
    pub(super) fn sink(&self) -> Box<dyn Export> {
        Box::new(Sink(self.provider.logger("yardarm")))
    }

    pub(super) async fn flush(&self) {
        self.queue.flush().await;
    }

    pub(super) fn counts(&self) -> Arc<SignalCounts> {
        self.queue.counts()
    }
}

struct Lines(LogExporter);

impl Exporter<Record> for Lines {
    async fn export(&self, batch: Vec<Record>) -> OTelSdkResult {
        let batch: Vec<_> = batch.iter().map(|(record, scope)| (record, scope)).collect();
        self.0.export(LogBatch::new(&batch)).await
    }
}

/// Queues records.
#[derive(Debug)]
struct Emitted(Queue<Record>);

impl LogProcessor for Emitted {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.push((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Sink(SdkLogger);

impl Export for Sink {
    fn export(&self, line: ExportedLine<'_>) {
        let target = line.metadata.target();
        let krate = target.split("::").next().unwrap_or_default();
        if BELOW.contains(&krate) {
            return;
        }
        let mut record = self.0.create_log_record();
        let now = SystemTime::now();
        record.set_timestamp(now);
        record.set_observed_timestamp(now);
        record.set_target(target.to_owned());
        let (severity, name) = severity(*line.metadata.level());
        record.set_severity_number(severity);
        record.set_severity_text(name);
        for (name, value) in line.fields {
            match name {
                "message" => record.set_body(any(value)),
                name => record.add_attribute(name, any(value)),
            }
        }
        if let Some(context) = trace::current() {
            let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
            record.set_trace_context(TraceId::from(context.trace_id()), SpanId::from(context.span_id()), Some(flags));
        }
        self.0.emit(record);
    }
}

fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::TRACE => (Severity::Trace, "TRACE"),
    }
}

fn any(value: Value) -> AnyValue {
    match value {
        Value::String(text) => AnyValue::String(text.into()),
        Value::Bool(value) => AnyValue::Boolean(value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AnyValue::Int(number),
            None => AnyValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        other => AnyValue::String(other.to_string().into()),
    }
}
