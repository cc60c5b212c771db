//! The export of metrics at a steady interval.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Instrument, InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream, Temporality,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval_at};
use yardarm_core::Lifecycle;

use super::LONGEST_EXPORT;
use super::queue::SignalCounts;

/// Series per metric without a limit. The library reserves memory for all of them.
const MOST_SERIES: usize = 20_000;

/// Computes the values that are read at a collection.
type Preparation = Box<dyn Fn() + Send + Sync>;

/// The export of metrics.
pub(super) struct Metrics {
    provider: SdkMeterProvider,
    counts: Arc<SignalCounts>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    preparation: Arc<Mutex<Option<Preparation>>>,
}

impl Metrics {
    /// Exports every `interval`; a metric has at most `limit` series, and the rest is in one that says so.
    pub(super) fn start(
        exporter: MetricExporter,
        resource: &Resource,
        limit: usize,
        interval: Duration,
        lifecycle: &Lifecycle,
    ) -> Self {
        let limit = if limit == 0 { MOST_SERIES } else { limit.min(MOST_SERIES) };
        let reader = Reader(Arc::new(ManualReader::builder().with_temporality(exporter.temporality()).build()));
        let provider = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(reader.clone())
            .with_view(move |_: &Instrument| Stream::builder().with_cardinality_limit(limit).build().ok())
            .build();
        let counts = Arc::new(SignalCounts::new("metrics"));
        let (flushes, orders) = mpsc::channel(1);
        let preparation = Arc::default();
        let task = Task { reader, exporter, counts: Arc::clone(&counts), preparation: Arc::clone(&preparation) };
        lifecycle.spawn("OTLP export", task.run(interval, orders));
        Self { provider, counts, flushes, preparation }
    }

    pub(super) fn meter(&self) -> Meter {
        self.provider.meter("yardarm")
    }

    /// Calls `preparation` before each collection.
    pub(super) fn before_collection(&self, preparation: impl Fn() + Send + Sync + 'static) {
        *self.preparation.lock() = Some(Box::new(preparation));
    }

    /// Exports the current values.
    pub(super) async fn flush(&self) {
        let (sender, flushed) = oneshot::channel();
        if self.flushes.send(sender).await.is_ok() {
            // An error means that the task has ended.
            let _ = flushed.await;
        }
    }

    pub(super) fn counts(&self) -> Arc<SignalCounts> {
        Arc::clone(&self.counts)
    }
}

struct Task {
    reader: Reader,
    exporter: MetricExporter,
    counts: Arc<SignalCounts>,
    preparation: Arc<Mutex<Option<Preparation>>>,
}

impl Task {
    async fn run(self, interval: Duration, mut orders: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut timer = interval_at(tokio::time::Instant::now() + interval, interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let order = tokio::select! {
                _ = timer.tick() => None,
                order = orders.recv() => match order {
                    Some(order) => Some(order),
                    None => return,
                },
            };
            self.export().await;
            // Dropping it has the same effect: the one who waits is gone.
            order.map(|it| it.send(()));
        }
    }

    async fn export(&self) {
        if let Some(prepare) = &*self.preparation.lock() {
            prepare();
        }
        let mut metrics = ResourceMetrics::default();
        if self.reader.0.collect(&mut metrics).is_err() {
            return;
        }
        let items = metrics.scope_metrics().map(|it| it.metrics().count()).sum();
        let result = tokio::time::timeout(LONGEST_EXPORT, self.exporter.export(&metrics)).await;
        self.counts.record(items, result);
    }
}

/// A reader that the provider and the task share.
#[derive(Clone)]
struct Reader(Arc<ManualReader>);

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
