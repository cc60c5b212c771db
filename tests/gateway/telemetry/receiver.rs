//! A receiver of OTLP, written from its specification: HTTP with Protocol Buffers, and gRPC, on one port.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;

/// A running receiver. Cheap to clone.
#[derive(Clone)]
pub(super) struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

/// Everything that was received.
#[derive(Default)]
struct Received {
    traces: Vec<ExportTraceServiceRequest>,
    logs: Vec<ExportLogsServiceRequest>,
    metrics: Vec<ExportMetricsServiceRequest>,
    /// Paths and headers.
    heads: Vec<(String, HeaderMap)>,
    /// Bodies as sent, without compression.
    bodies: Vec<Bytes>,
}

/// A data point of a metric, with its attributes in the order of their names.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) attributes: Vec<(String, String)>,
    /// The value; of a histogram, the number of observations.
    pub(super) value: f64,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let receiver = Self { address, received: Arc::default() };
        let own = receiver.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with the runtime of the test")]
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let own = own.clone();
                let service = tower::service_fn(move |request| own.clone().answer(request));
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A connection that breaks is no failure of the receiver.
                    let _ = builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)).await;
                });
            }
        });
        receiver
    }

    /// Returns the value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Answer>, std::convert::Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|it| it.to_bytes()).unwrap_or_default();
        let header = |name: &str| head.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let is_grpc = header("content-type").starts_with("application/grpc");
        let message = match is_grpc {
            // A flag for compression, the length in four bytes, and the message.
            true if body.len() < 5 => return Ok(refused()),
            true if body[0] == 1 => unzipped(&body[5..]),
            true => body.slice(5..),
            false if header("content-encoding") == "gzip" => unzipped(&body),
            false => body,
        };
        let is_known = self.received.lock().add(head.uri.path(), &head.headers, message);
        Ok(match (is_known, is_grpc) {
            (false, _) => refused(),
            (true, true) => grpc(),
            (true, false) => {
                let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
                let mut response = Response::new(body);
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/x-protobuf"));
                response
            }
        })
    }

    /// Returns all spans.
    pub(super) fn spans(&self) -> Vec<Span> {
        let received = self.received.lock();
        let resources = received.traces.iter().flat_map(|it| &it.resource_spans);
        resources.flat_map(|it| &it.scope_spans).flat_map(|it| &it.spans).cloned().collect()
    }

    /// Returns the spans of this name.
    pub(super) fn spans_named(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|it| it.name == name).collect()
    }

    /// Returns all lines of the log.
    pub(super) fn records(&self) -> Vec<LogRecord> {
        let received = self.received.lock();
        let resources = received.logs.iter().flat_map(|it| &it.resource_logs);
        resources.flat_map(|it| &it.scope_logs).flat_map(|it| &it.log_records).cloned().collect()
    }

    /// Returns the names of all metrics.
    pub(super) fn metric_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.metrics().into_iter().map(|it| it.name).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns the data points of a metric in the newest export that has it.
    pub(super) fn points(&self, name: &str) -> Vec<Point> {
        self.metrics().iter().rev().find(|it| it.name == name).map(points).unwrap_or_default()
    }

    fn metrics(&self) -> Vec<Metric> {
        let received = self.received.lock();
        let resources = received.metrics.iter().flat_map(|it| &it.resource_metrics);
        resources.flat_map(|it| &it.scope_metrics).flat_map(|it| &it.metrics).cloned().collect()
    }

    /// Returns the attributes of the process, of each signal.
    pub(super) fn resources(&self) -> Vec<Vec<(String, String)>> {
        let received = self.received.lock();
        let traces = received.traces.iter().flat_map(|it| &it.resource_spans).map(|it| &it.resource);
        let logs = received.logs.iter().flat_map(|it| &it.resource_logs).map(|it| &it.resource);
        let metrics = received.metrics.iter().flat_map(|it| &it.resource_metrics).map(|it| &it.resource);
        let all: Vec<&Resource> = traces.chain(logs).chain(metrics).flatten().collect();
        all.into_iter().map(|it| texts(&it.attributes)).collect()
    }

    /// Returns the paths of all requests, each once.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.received.lock().heads.iter().map(|it| it.0.clone()).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Returns the headers of all requests.
    pub(super) fn headers(&self) -> Vec<HeaderMap> {
        self.received.lock().heads.iter().map(|it| it.1.clone()).collect()
    }

    /// Returns whether any message contains a text.
    pub(super) fn has_received(&self, text: &str) -> bool {
        let is_in = |body: &Bytes| body.windows(text.len()).any(|it| it == text.as_bytes());
        self.received.lock().bodies.iter().any(is_in)
    }
}

impl Received {
    /// Decodes and keeps a message; returns whether the path is one of the protocol.
    fn add(&mut self, path: &str, headers: &HeaderMap, message: Bytes) -> bool {
        match path {
            "/v1/traces" | "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
                self.traces.push(Message::decode(&message[..]).expect("spans"));
            }
            "/v1/logs" | "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => {
                self.logs.push(Message::decode(&message[..]).expect("lines"));
            }
            "/v1/metrics" | "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
                self.metrics.push(Message::decode(&message[..]).expect("metrics"));
            }
            _ => return false,
        }
        self.heads.push((path.to_owned(), headers.clone()));
        self.bodies.push(message);
        true
    }
}

type Answer = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn refused() -> Response<Answer> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Returns an empty message with the status of success in the trailers.
fn grpc() -> Response<Answer> {
    let trailers = [(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))];
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers.into_iter().collect())];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn unzipped(body: &[u8]) -> Bytes {
    let mut message = Vec::new();
    GzDecoder::new(body).read_to_end(&mut message).expect("gzip");
    message.into()
}

fn points(metric: &Metric) -> Vec<Point> {
    let numbers = |points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint]| {
        let value = |it: &Option<number_data_point::Value>| match it {
            Some(number_data_point::Value::AsDouble(value)) => *value,
            Some(number_data_point::Value::AsInt(value)) => *value as f64,
            None => f64::NAN,
        };
        points.iter().map(|it| Point { attributes: texts(&it.attributes), value: value(&it.value) }).collect()
    };
    match &metric.data {
        Some(metric::Data::Gauge(it)) => numbers(&it.data_points),
        Some(metric::Data::Sum(it)) => numbers(&it.data_points),
        Some(metric::Data::Histogram(it)) => {
            let point = |it: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| Point {
                attributes: texts(&it.attributes),
                value: it.count as f64,
            };
            it.data_points.iter().map(point).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns attributes as texts, in the order of their names.
pub(super) fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        attributes.iter().map(|it| (it.key.clone(), it.value.as_ref().map(text).unwrap_or_default())).collect();
    all.sort();
    all
}

/// Returns the value of an attribute.
pub(super) fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
}

/// Returns a value as text.
pub(super) fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// Returns the ID of a span.
pub(super) fn span_id(span: &Span) -> &[u8] {
    &span.span_id
}

/// Returns the text of a line.
pub(super) fn body(record: &LogRecord) -> String {
    record.body.as_ref().map(text).unwrap_or_default()
}
