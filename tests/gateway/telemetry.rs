//! V043, V044, V052: metrics, traces and logs by OTLP, as a collector receives them.

mod receiver;

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use yardarm_testkit::{Call, FakeLaunchDarkly, until, within};

use self::receiver::{Receiver, attribute, texts};
use crate::flags::some_data;
use crate::program::{Program, Signal, command};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn setup() -> Setup {
    let setup = Setup::with(some_data()).events().set("log.format", "json").set("log.requests", true);
    setup.set("telemetry.otlp", true)
}

/// Starts a gateway that exports to a receiver.
async fn exporting(setup: Setup, receiver: &str, variables: &[(&str, &str)]) -> (Program, FakeLaunchDarkly, TempDir) {
    let (cloud, dir) = (FakeLaunchDarkly::start().await, TempDir::new().unwrap());
    let mut setup = setup;
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let program = Program::launch(otel(command(dir.path()), receiver, variables)).await;
    program.wait_until_ready().await;
    (program, cloud, dir)
}

fn otel(mut command: Command, receiver: &str, variables: &[(&str, &str)]) -> Command {
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver);
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-token=tok-7d1e");
    command.envs(variables.iter().copied());
    command
}

/// Ends a gateway, which exports what waits.
async fn end(program: Program) -> Vec<String> {
    program.signal(Signal::TERM);
    let (status, log) = program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
    log
}

/// Sends requests of all kinds: a poll, an evaluation, a stream, events, and one with an unknown key.
async fn requests(program: &Program, cloud: &FakeLaunchDarkly) -> crate::sdk::Sdk {
    let mut stream = program.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    let agent = |call: Call| call.header("User-Agent", "GoClient/7.6.0").header("traceparent", PARENT);
    for (call, status) in [
        (agent(Call::get("/sdk/flags").key(SDK_KEY)), 200),
        (agent(Call::get("/sdk/flags").key(SDK_KEY)), 200),
        (agent(Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY)), 200),
        (agent(Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"))), 200),
        (Call::get("/sdk/flags").key("sdk-unknown-00000000"), 401),
        (Call::get("/nowhere"), 404),
        (
            Call::post("/bulk", r#"[{"kind":"identify","context":{"kind":"user","key":"ctx-key-5f1"}}]"#)
                .key(SDK_KEY)
                .header("X-LaunchDarkly-Event-Schema", "4")
                .header("X-LaunchDarkly-Tags", "application-id/shop application-version/2.1"),
            202,
        ),
    ] {
        assert_eq!(program.answers(&call).await.status, status, "{call}");
    }
    until("the events", || !cloud.posts("/bulk").is_empty()).await;
    stream
}

/// Returns the sum of a metric's points with these attributes.
fn sum(receiver: &Receiver, name: &str, attributes: &[(&str, &str)]) -> f64 {
    let is_it = |own: &[(String, String)]| attributes.iter().all(|(name, value)| attribute(own, name) == Some(value));
    receiver.points(name).iter().filter(|it| is_it(&it.attributes)).map(|it| it.value).sum()
}

/// Returns the sum of the series of a metric under our names whose labels contain a text.
fn prometheus(text: &str, name: &str, label: &str) -> f64 {
    let series = text.lines().filter_map(|it| it.strip_prefix(name)).filter(|it| it.starts_with(['{', ' ']));
    series.filter(|it| it.contains(label)).filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn exports_everything(protocol: &str, variables: &[(&str, &str)], paths: [&str; 3]) {
    let receiver = Receiver::start().await;
    let setup = setup()
        .set("telemetry.protocol", protocol)
        .set("telemetry.environment_status_metrics", true)
        .set("launchdarkly.max_deliveries", 8);
    let (program, cloud, _dir) = exporting(setup, &receiver.url(), variables).await;
    let _stream = requests(&program, &cloud).await;
    // The delivery is counted after the response of upstream.
    let delivered = async {
        while prometheus(program.operator_gets("/metrics").await.text(), "yardarm_events_delivered_total", "") < 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the delivered event", delivered).await;
    let metrics = program.operator_gets("/metrics").await.text().to_owned();
    until("an export of metrics", || sum(&receiver, "launchdarkly.relay.events.sent", &[]) > 0.0).await;
    assert_eq!(receiver.points("http.server.active_requests").len(), 1, "the open stream");
    let log = end(program).await;
    assert!(log.iter().any(|it| it.contains("telemetry is exported by OTLP")), "{log:#?}");

    // V043
    assert_eq!(receiver.paths(), paths);
    for headers in receiver.headers() {
        assert_eq!(headers.get("x-collector-token").map(http::HeaderValue::as_bytes), Some(&b"tok-7d1e"[..]));
    }
    assert!(!log.iter().any(|it| it.contains("tok-7d1e")), "the token of the collector is no part of the log");
    for resource in receiver.resources() {
        for (name, value) in
            [("service.name", "of-the-test"), ("service.version", env!("CARGO_PKG_VERSION")), ("team", "flags")]
        {
            assert_eq!(attribute(&resource, name), Some(value), "{resource:?}");
        }
        assert_eq!(attribute(&resource, "service.instance.id").map(str::len), Some(32));
    }

    // V052: the figures are those of the metrics under our own names.
    let polls = [("http.route", "/sdk/flags"), ("launchdarkly.relay.endpoint.type", "poll")];
    for (otlp, ours) in [
        (
            sum(&receiver, "http.server.request.duration", &[polls[0], polls[1], ("http.response.status_code", "200")]),
            prometheus(&metrics, "yardarm_http_requests_total", r#"route="server.poll.flags",status="2xx""#),
        ),
        (
            sum(&receiver, "launchdarkly.relay.requests", &[("launchdarkly.relay.endpoint.type", "stream")]),
            prometheus(&metrics, "yardarm_streams_opened_total", ""),
        ),
        (sum(&receiver, "launchdarkly.relay.requests", &[]), prometheus(&metrics, "yardarm_http_requests_total", "")),
        (
            sum(&receiver, "launchdarkly.relay.events.sent", &[("launchdarkly.environment.name", "main")]),
            prometheus(&metrics, "yardarm_events_delivered_total", r#"environment="main""#),
        ),
        (
            sum(&receiver, "launchdarkly.relay.init.admitted", &[]),
            prometheus(&metrics, "yardarm_deliveries_admitted_total", ""),
        ),
        (
            sum(&receiver, "launchdarkly.relay.environment.connection.state", &[("state", "valid")]),
            prometheus(&metrics, "yardarm_upstream_state", r#"state="valid""#),
        ),
    ] {
        assert!((otlp - ours).abs() < 1e-9 && ours > 0.0, "{otlp} by OTLP, {ours} at /metrics: {metrics}");
    }
    let poll = receiver.points("launchdarkly.relay.requests");
    let is_accepted = |own: &[(String, String)]| {
        attribute(own, "http.route") == Some("/sdk/flags")
            && attribute(own, "user_agent.original") == Some("GoClient/7.6.0")
    };
    let poll = poll.iter().find(|it| is_accepted(&it.attributes)).expect("polls");
    for (name, value) in [
        ("launchdarkly.environment.name", "main"),
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("launchdarkly.application.id", "not_provided"),
    ] {
        assert_eq!(attribute(&poll.attributes, name), Some(value), "{poll:?}");
    }
    assert_eq!(sum(&receiver, "launchdarkly.relay.requests", &[("launchdarkly.application.id", "shop")]) as u64, 1);
    let names = receiver.metric_names();
    for name in [
        "launchdarkly.relay.events.pending",
        "launchdarkly.relay.events.failed",
        "launchdarkly.relay.init.slots.held",
        "launchdarkly.relay.init.queue.waiting",
        "launchdarkly.relay.init.rejected",
        "launchdarkly.relay.init.sheds",
        "launchdarkly.relay.status",
        "launchdarkly.relay.environment.count",
        "launchdarkly.relay.environment.status.count",
        "launchdarkly.relay.environment.connection.state.count",
        "launchdarkly.relay.environment.connection.state.since",
        "launchdarkly.relay.environment.info",
    ] {
        assert!(names.iter().any(|it| it == name), "{name} in {names:?}");
    }

    // Traces: the one of the caller is continued, and paths with a context are templates.
    let route = "GET /sdk/evalx/{envId}/contexts/{context}";
    let [evaluation] = &receiver.spans_named(route)[..] else { panic!("{:?}", receiver.spans()) };
    assert_eq!(hex::encode(&evaluation.trace_id), TRACE);
    assert_eq!(hex::encode(&evaluation.parent_span_id), "00f067aa0ba902b7");
    let attributes = texts(&evaluation.attributes);
    for (name, value) in [
        ("http.route", "/sdk/evalx/{envId}/contexts/{context}"),
        ("url.path", "/sdk/evalx/{envId}/contexts/{context}"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("launchdarkly.environment.name", "main"),
    ] {
        assert_eq!(attribute(&attributes, name), Some(value), "{attributes:?}");
    }
    let inner = receiver.spans_named("relay.flags.evaluate");
    assert!(inner.iter().any(|it| it.parent_span_id == evaluation.span_id), "{inner:?}");
    assert_eq!(receiver.spans_named("GET /all").len(), 1, "a stream has a span until its head is sent");
    // The post to upstream carries the span of its batch.
    let post = &cloud.posts("/bulk")[0];
    let sent = post.headers.get("traceparent").and_then(|it| it.to_str().ok()).expect("a header").to_owned();
    let posts = receiver.spans_named("POST");
    let is_it = |it: &&_| sent.contains(&hex::encode(receiver::span_id(it)));
    let post = posts.iter().find(is_it).unwrap_or_else(|| panic!("{sent} in {posts:?}"));
    let dispatch = receiver.spans_named("relay.events.dispatch");
    assert!(dispatch.iter().any(|it| it.span_id == post.parent_span_id), "{dispatch:?}");

    // Logs have the trace of their request.
    let records = receiver.records();
    let is_answer = |it: &&_| receiver::body(it) == "request answered";
    let answered: Vec<_> = records.iter().filter(is_answer).collect();
    assert!(answered.iter().any(|it| hex::encode(&it.trace_id) == TRACE), "{answered:?}");
    let attributes = texts(&answered[0].attributes);
    assert_eq!(attribute(&attributes, "environment"), Some("launchdarkly/main"), "{attributes:?}");
    assert_eq!(answered[0].severity_text, "INFO");

    // V044
    for secret in [SDK_KEY, MOBILE_KEY, CTX, "ctx-key-5f1", "sdk-unknown-00000000", "tok-7d1e"] {
        assert!(!receiver.has_received(secret), "{secret} was exported");
    }
}

const OWN: [(&str, &str); 4] = [
    ("OTEL_SERVICE_NAME", "of-the-test"),
    ("OTEL_RESOURCE_ATTRIBUTES", "team=flags"),
    ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
];

#[tokio::test]
async fn v043_v044_v052_everything_is_exported_over_http() {
    exports_everything("http/protobuf", &OWN, ["/v1/logs", "/v1/metrics", "/v1/traces"]).await;
}

#[tokio::test]
async fn v043_v044_v052_everything_is_exported_over_grpc() {
    let variables: Vec<_> = OWN.into_iter().chain([("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")]).collect();
    let service = ["logs.v1.LogsService", "metrics.v1.MetricsService", "trace.v1.TraceService"];
    let paths = service.map(|it| format!("/opentelemetry.proto.collector.{it}/Export"));
    exports_everything("grpc", &variables, paths.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn v043_variables_turn_signals_off() {
    for (variables, paths) in [
        (&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")][..], &["/v1/logs"][..]),
        (&[("OTEL_LOGS_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")], &["/v1/traces"]),
        (&[("OTEL_SDK_DISABLED", "true")], &[]),
    ] {
        let receiver = Receiver::start().await;
        let (program, cloud, _dir) = exporting(setup(), &receiver.url(), variables).await;
        drop(requests(&program, &cloud).await);
        end(program).await;
        assert_eq!(receiver.paths(), paths, "{variables:?}");
        let has_header = cloud.posts("/bulk")[0].headers.contains_key("traceparent");
        assert_eq!(has_header, paths.contains(&"/v1/traces"), "{variables:?}");
    }
}

#[tokio::test]
async fn v043_nothing_is_exported_unless_it_is_turned_on() {
    let receiver = Receiver::start().await;
    let (program, cloud, _dir) = exporting(setup().set("telemetry.otlp", false), &receiver.url(), &[]).await;
    drop(requests(&program, &cloud).await);
    let metrics = program.operator_gets("/metrics").await.text().to_owned();
    assert!(!metrics.contains("yardarm_telemetry"), "{metrics}");
    end(program).await;
    assert_eq!(receiver.paths(), [""; 0]);
}

#[tokio::test]
async fn traces_are_sampled_as_the_variable_says() {
    let receiver = Receiver::start().await;
    let variables = [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    let (program, cloud, _dir) = exporting(setup(), &receiver.url(), &variables).await;
    drop(requests(&program, &cloud).await);
    end(program).await;
    let spans = receiver.spans();
    assert!(!spans.is_empty() && spans.iter().all(|it| hex::encode(&it.trace_id) == TRACE), "{spans:?}");
}

#[tokio::test]
async fn v052_the_number_of_series_is_limited() {
    let receiver = Receiver::start().await;
    let setup = setup().set("telemetry.metrics_cardinality_limit", 5).set("log.requests", false);
    let (program, _cloud, _dir) = exporting(setup, &receiver.url(), &[]).await;
    for number in 0..20 {
        let call = Call::get("/sdk/flags").key(SDK_KEY).header("User-Agent", &format!("Agent/{number}"));
        assert_eq!(program.answers(&call).await.status, 200);
    }
    end(program).await;
    let points = receiver.points("launchdarkly.relay.requests");
    assert!(points.len() <= 6, "{points:?}");
    assert_eq!(points.iter().map(|it| it.value).sum::<f64>() as u64, 20, "none is left out: {points:?}");
    let is_overflow = |own: &[(String, String)]| attribute(own, "otel.metric.overflow") == Some("true");
    assert!(points.iter().any(|it| is_overflow(&it.attributes)), "{points:?}");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_telemetry() {
    for protocol in ["grpc", "http/protobuf"] {
        let variables = [("OTEL_METRIC_EXPORT_INTERVAL", "100"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "300")];
        let setup = setup().set("telemetry.protocol", protocol);
        let (program, cloud, _dir) = exporting(setup, "http://127.0.0.1:9", &variables).await;
        drop(requests(&program, &cloud).await);
        let dropped = async {
            loop {
                let text = program.operator_gets("/metrics").await.text().to_owned();
                let failed = |signal| {
                    prometheus(
                        &text,
                        "yardarm_telemetry_dropped_total",
                        &format!(r#"reason="export-failed",signal="{signal}""#),
                    )
                };
                if ["traces", "logs", "metrics"].into_iter().all(|it| failed(it) > 0.0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("the loss to be counted", dropped).await;
        let signalled = Instant::now();
        let log = end(program).await;
        assert!(signalled.elapsed() < Duration::from_secs(15), "{:?}", signalled.elapsed());
        let lines = log.iter().filter(|it| it.contains("telemetry cannot be exported")).count();
        assert!((1..=3).contains(&lines), "a line per signal: {log:#?}");
    }
}

#[tokio::test]
async fn v043_the_settings_of_ld_relay_turn_it_on() {
    let receiver = Receiver::start().await;
    let (cloud, dir) = (FakeLaunchDarkly::start().await, TempDir::new().unwrap());
    cloud.add_environment(SDK_KEY);
    cloud.puts(SDK_KEY, &some_data());
    let url = cloud.url();
    let file = format!(
        "[Main]\nstreamUri = {url}\nbaseUri = {url}\n[Environment \"main\"]\nsdkKey = {SDK_KEY}\n[OpenTelemetry]\nenabled = true\nprotocol = http\nlogsExporter = none\nmetricsExporter = console\n"
    );
    std::fs::write(dir.path().join("ld-relay.conf"), file).unwrap();
    let mut relay = command(dir.path());
    relay.args(["ld-relay", "--config", "ld-relay.conf"]);
    relay.env("YARDARM_ADMIN_LISTEN", "127.0.0.1:0").env("PORT", "0").env("LOG_FORMAT", "json");
    let program = Program::launch(otel(relay, &receiver.url(), &[])).await;
    program.wait_until_ready().await;
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    let log = end(program).await;
    assert_eq!(receiver.paths(), ["/v1/metrics", "/v1/traces"]);
    assert!(receiver.resources().iter().all(|it| attribute(it, "service.name") == Some("ld-relay")));
    let warnings: Vec<_> = log.iter().filter(|it| it.contains("console")).collect();
    assert_eq!(warnings.len(), 1, "{log:#?}");
}
