//! Settings of telemetry that is sent to a collector.

use yardarm_core::{choices, settings};

settings! {
    /// Settings of the export by OTLP. The standard variables `OTEL_…` set the rest.
    #[derive(Debug, Clone)]
    pub struct TelemetryConfig in "telemetry" {
        /// Whether metrics, traces and logs are sent to a collector by OTLP. The standard variables say where and how:
        /// `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and others that `docs/telemetry.md` lists.
        pub otlp: bool = "false",
        /// `grpc` or `http/protobuf`, for all signals. `auto`: as `OTEL_EXPORTER_OTLP_PROTOCOL` says, or that of a signal, and
        /// otherwise `http/protobuf`.
        pub protocol: Option<OtlpProtocol> as OtlpProtocolName = "auto",
        /// Whether metrics are sent, unless `OTEL_METRICS_EXPORTER` is `none`.
        pub metrics: bool = "true",
        /// Whether traces are sent, unless `OTEL_TRACES_EXPORTER` is `none`.
        pub traces: bool = "true",
        /// Whether lines of the log are sent, unless `OTEL_LOGS_EXPORTER` is `none`.
        pub logs: bool = "true",
        /// Name of the service, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` names it.
        pub service_name: String = "yardarm",
        /// Largest number of series of a metric; what exceeds it is in one series with the attribute
        /// `otel.metric.overflow`. `0` stands for the largest number that is possible, 20,000.
        pub metrics_cardinality_limit: usize = "2000", in 0..=20_000,
        /// Whether the state of each environment has series of its own.
        pub environment_status_metrics: bool = "false",
    }
}

/// How the collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protocol Buffers in HTTP requests.
    Http,
}

/// Format of `telemetry.protocol`.
enum OtlpProtocolName {}

choices! {
    OtlpProtocolName as Option<OtlpProtocol> {
        "auto" => None,
        "grpc" => Some(OtlpProtocol::Grpc),
        "http/protobuf" => Some(OtlpProtocol::Http),
    }
}
