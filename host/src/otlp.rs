//! Metrics, traces and logs by OTLP, the protocol of OpenTelemetry, to a collector.
//!
//! Addresses, headers, time-outs and compression are those of the standard variables `OTEL_…`, which the exporters read. What
//! is exported passes bounded queues; a collector that is slow or does not answer costs telemetry, which is counted, and never a
//! request. Exporters run on a runtime of their own with low priority.

mod client;
mod endpoint;
mod instruments;
mod logs;
mod metrics;
mod queue;
mod requests;
mod resource;
mod status;
mod traces;
mod variables;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use opentelemetry_sdk::Resource;
use yardarm_core::metrics::{Registry, catalog};
use yardarm_core::{Background, Lifecycle, trace};

use self::endpoint::Endpoint;
use self::instruments::Instruments;
use self::logs::Logs;
use self::metrics::Metrics;
use self::queue::SignalCounts;
use self::requests::Requests;
use self::traces::Traces;
use self::variables::Variables;
use crate::config::TelemetryConfig;
use crate::logging;
use crate::request_metrics::RequestObserver;
use crate::state::State;

/// Longest time for one export, retries included. Exporters have shorter time-outs of their own, so this one is a safeguard.
const LONGEST_EXPORT: Duration = Duration::from_secs(60);

/// The running exporters.
pub(crate) struct Otlp {
    lifecycle: Lifecycle,
    traces: Option<Traces>,
    logs: Option<Logs>,
    metrics: Option<Metrics>,
    instruments: Option<Arc<Instruments>>,
    settings: TelemetryConfig,
    /// Runs the exporters; ends with this.
    _runtime: Background,
}

impl Otlp {
    /// Starts the exporters that settings and standard variables turn on; `None` without any.
    ///
    /// # Errors
    /// When a variable or the address of the collector cannot be used, or the system refuses a thread.
    pub(crate) async fn start(
        settings: &TelemetryConfig,
        lifecycle: Lifecycle,
        registry: &Registry,
    ) -> anyhow::Result<Option<Self>> {
        if !settings.otlp {
            return Ok(None);
        }
        let variables = Variables::of_process();
        variables.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        if variables.is_disabled() {
            tracing::info!("OTEL_SDK_DISABLED is set, nothing is exported by OTLP");
            return Ok(None);
        }
        let runtime = Background::start("yardarm-otlp", 1).context("the thread for OTLP cannot be started")?;
        let lifecycle = lifecycle.on(runtime.handle());
        let resource = resource::resource(&settings.service_name);
        let (entered, started) =
            (runtime.handle().clone(), Started { settings, variables: &variables, lifecycle: &lifecycle });
        let endpoint = Endpoint::new(settings, &variables).await?;
        // The clients need the context of the runtime that they run on.
        let _entered = entered.enter();
        let (traces, logs, metrics) = started.signals(&endpoint, &resource)?;
        let instruments = metrics.as_ref().map(|it| Arc::new(Instruments::new(it.meter())));
        tracing::info!(
            traces = traces.is_some(),
            logs = logs.is_some(),
            metrics = metrics.is_some(),
            "telemetry is exported by OTLP"
        );
        let otlp =
            Self { lifecycle, traces, logs, metrics, instruments, settings: settings.clone(), _runtime: runtime };
        otlp.register(registry);
        if let Some(traces) = &otlp.traces {
            trace::set_tracer(Some(Box::new(traces.tracer())));
        }
        if let Some(logs) = &otlp.logs {
            logging::set_export(Some(logs.sink()));
        }
        Ok(Some(otlp))
    }

    /// Returns what records requests.
    pub(crate) fn requests(&self) -> Arc<dyn RequestObserver> {
        Arc::new(Requests::new(self.instruments.clone()))
    }

    /// Exports the state of the gateway from now on.
    pub(crate) fn watch(&self, state: &Arc<State>) {
        if let (Some(metrics), Some(instruments)) = (&self.metrics, &self.instruments) {
            let (state, instruments) = (Arc::downgrade(state), Arc::clone(instruments));
            let has_environments = self.settings.environment_status_metrics;
            metrics.before_collection(move || {
                if let Some(state) = state.upgrade() {
                    let samples = status::samples(&state, &instruments, has_environments);
                    instruments.set(samples);
                }
            });
        }
    }

    /// Exports what waits, for at most `timeout`, and ends; returns whether everything was sent to the collector or was
    /// refused by it in time.
    pub(crate) async fn stop(self, timeout: Duration) -> bool {
        trace::set_tracer(None);
        logging::set_export(None);
        let flush = async {
            tokio::join!(
                async {
                    if let Some(it) = &self.traces {
                        it.flush().await;
                    }
                },
                async {
                    if let Some(it) = &self.logs {
                        it.flush().await;
                    }
                },
                async {
                    if let Some(it) = &self.metrics {
                        it.flush().await;
                    }
                },
            );
        };
        let is_flushed = tokio::time::timeout(timeout, flush).await.is_ok();
        self.lifecycle.stop(Duration::from_millis(100)).await;
        is_flushed
    }

    /// Registers the counts of what was exported and what was not.
    fn register(&self, registry: &Registry) {
        let signals: Vec<(&'static str, Arc<SignalCounts>)> = [
            self.traces.as_ref().map(|it| ("traces", it.counts())),
            self.logs.as_ref().map(|it| ("logs", it.counts())),
            self.metrics.as_ref().map(|it| ("metrics", it.counts())),
        ]
        .into_iter()
        .flatten()
        .collect();
        registry.register(move |families| {
            for (signal, counts) in &signals {
                families.sample(&catalog::TELEMETRY_EXPORTED, &[signal], counts.exported());
                for (reason, count) in counts.dropped() {
                    families.sample(&catalog::TELEMETRY_DROPPED, &[signal, reason], count);
                }
            }
        });
    }
}

/// What the exporters are started with.
struct Started<'a> {
    settings: &'a TelemetryConfig,
    variables: &'a Variables,
    lifecycle: &'a Lifecycle,
}

impl Started<'_> {
    fn signals(
        &self,
        endpoint: &Endpoint,
        resource: &Resource,
    ) -> anyhow::Result<(Option<Traces>, Option<Logs>, Option<Metrics>)> {
        let Self { settings, variables, lifecycle } = self;
        let is_on = |is_set: bool, signal| is_set && variables.is_exported(signal);
        let cannot = "the OTLP exporter cannot be set up";
        let traces = match is_on(settings.traces, "TRACES") {
            true => Some(Traces::start(endpoint.spans().context(cannot)?, resource, lifecycle)),
            false => None,
        };
        let logs = match is_on(settings.logs, "LOGS") {
            true => Some(Logs::start(endpoint.logs().context(cannot)?, resource, lifecycle)),
            false => None,
        };
        let metrics = match is_on(settings.metrics, "METRICS") {
            true => {
                let limit = settings.metrics_cardinality_limit;
                let exporter = endpoint.metrics().context(cannot)?;
                Some(Metrics::start(exporter, resource, limit, variables.metric_interval(), lifecycle))
            }
            false => None,
        };
        Ok((traces, logs, metrics))
    }
}
