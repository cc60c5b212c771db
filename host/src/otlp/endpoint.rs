//! The exporters of the library, by the protocol of each signal.

use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, MetricExporter, Protocol as Encoding, SpanExporter, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use yardarm_vendor::upstream::HttpSender;

use super::client::Client;
use super::variables::Variables;
use crate::config::{OtlpProtocol, TelemetryConfig};

/// Builds exporters.
pub(super) struct Endpoint {
    client: Client,
    traces: OtlpProtocol,
    logs: OtlpProtocol,
    metrics: OtlpProtocol,
}

impl Endpoint {
    /// Reads the root certificates of the system.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub(super) async fn new(settings: &TelemetryConfig, variables: &Variables) -> anyhow::Result<Self> {
        let client = Client(HttpSender::new().await?);
        let set = settings.protocol;
        let protocol = |signal| set.or_else(|| variables.protocol(signal)).unwrap_or(OtlpProtocol::Http);
        Ok(Self { client, traces: protocol("TRACES"), logs: protocol("LOGS"), metrics: protocol("METRICS") })
    }

    pub(super) fn spans(&self) -> Result<SpanExporter, ExporterBuildError> {
        let builder = SpanExporter::builder();
        match self.traces {
            OtlpProtocol::Grpc => builder.with_tonic().with_tls_config(tls()).build(),
            OtlpProtocol::Http => {
                let builder = builder.with_http().with_protocol(Encoding::HttpBinary);
                builder.with_http_client(self.client.clone()).build()
            }
        }
    }

    pub(super) fn logs(&self) -> Result<LogExporter, ExporterBuildError> {
        let builder = LogExporter::builder();
        match self.logs {
            OtlpProtocol::Grpc => builder.with_tonic().with_tls_config(tls()).build(),
            OtlpProtocol::Http => {
                let builder = builder.with_http().with_protocol(Encoding::HttpBinary);
                builder.with_http_client(self.client.clone()).build()
            }
        }
    }

    pub(super) fn metrics(&self) -> Result<MetricExporter, ExporterBuildError> {
        let builder = MetricExporter::builder();
        match self.metrics {
            OtlpProtocol::Grpc => builder.with_tonic().with_tls_config(tls()).build(),
            OtlpProtocol::Http => {
                let builder = builder.with_http().with_protocol(Encoding::HttpBinary);
                builder.with_http_client(self.client.clone()).build()
            }
        }
    }
}

/// Trust in the root certificates of the system; it counts for addresses with `https`.
fn tls() -> ClientTlsConfig {
    ClientTlsConfig::new().with_enabled_roots()
}
