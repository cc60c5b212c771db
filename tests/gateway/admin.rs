//! The admin listener.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use yardarm_testkit::{Call, Connection};

use crate::expected::{JSON, empty, text};
use crate::flags::some_data;
use crate::gateway::readiness::ready;
use crate::running::{ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

#[tokio::test]
async fn probes_report_liveness_and_readiness() {
    let gateway = Setup::new().set("launchdarkly.init_timeout", "1h").without_waiting().start().await;
    text(200, "live\n").compare("/live", &gateway.operator_gets("/live").await);
    let waiting = "waiting for: launchdarkly/main (initializing)\n";
    assert_eq!(ready(&gateway).await, (503, waiting.to_owned()));
    assert_eq!(gateway.operator_gets("/api/status").await.json()["is_ready"], false);
    gateway.upstream.puts(SDK_KEY, &some_data());
    gateway.wait_until_ready().await;
    assert_eq!(ready(&gateway).await, (200, "ready\n".to_owned()));
    assert_eq!(gateway.operator_gets("/api/status").await.json()["is_ready"], true);

    // The gateway stays ready without upstream: last good data is served.
    gateway.upstream.goes_down();
    let is_interrupted = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "INTERRUPTED";
    gateway.status_where("an interruption", is_interrupted).await;
    assert_eq!(ready(&gateway).await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn status_is_one_complete_document() {
    let gateway = Setup::with(some_data()).events().start().await;
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    let answer = gateway.operator_gets("/api/status").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let status = answer.json();
    let keys: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "certificate",
        "connections",
        "environment_lists",
        "environments",
        "fanout",
        "is_ready",
        "listeners",
        "panics",
        "pid",
        "plan_generation",
        "resources",
        "streams",
        "uptime_ms",
        "version",
        "waiting_for",
    ];
    assert_eq!(keys, expected);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["waiting_for"], json!([]));
    assert_eq!(status["environment_lists"], json!([]), "environments are configured here");
    assert_eq!(status["pid"], std::process::id());
    assert_eq!(status["listeners"], json!([gateway.address, gateway.admin]));
    let environment = &status["environments"][0];
    for (key, value) in [
        ("vendor", json!("launchdarkly")),
        ("name", json!("main")),
        ("phase", json!("ready")),
        ("connection", json!("valid")),
        ("last_error", json!(null)),
        ("is_stale", json!(false)),
        ("is_behind", json!(false)),
        ("skipped_items", json!(0)),
        ("flags", json!(1)),
        ("segments", json!(1)),
        ("store", json!(null)),
        ("big_segments", json!(null)),
        ("events", json!({"received": 0, "delivered": 0, "pending": 0, "filtered": [], "dropped": []})),
    ] {
        assert_eq!(environment[key], value, "{key}");
    }
    assert!(environment["last_message_ms"].as_u64() > Some(1_500_000_000_000));
    assert_eq!(status["streams"][0]["route"], "server.stream.all");
    assert_eq!(status["streams"][0]["open"], 1);
    assert!(status["resources"]["resident_bytes"].as_u64() > Some(1 << 20));
    assert_eq!(gateway.operator_gets("/api/environments").await.json()["environments"], status["environments"]);
    let plugins = gateway.operator_gets("/api/plugins").await;
    assert_eq!(plugins.status, 200);
    let plugins = plugins.json();
    assert_eq!(plugins["plugins"], json!([]), "{plugins}");
    assert_eq!(plugins["folder"], json!(gateway.plugins()), "{plugins}");
}

#[tokio::test]
async fn failures_are_reported_with_their_reason() {
    let gateway = Setup::with(some_data()).start().await;
    gateway.upstream.goes_down();
    let mut report = Value::Null;
    let failure = async {
        while report["last_error"]["kind"] != "response" {
            report = gateway.operator_gets("/api/environments").await.json()["environments"][0].clone();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    yardarm_testkit::within("the 503 to be reported", failure).await;
    assert_eq!((&report["connection"], &report["last_error"]["status"]), (&json!("interrupted"), &json!(503)));
    assert!(report["last_error"]["message"].as_str().is_some_and(|it| it.contains("503")), "{report}");
}

#[tokio::test]
async fn metrics_are_text_that_prometheus_can_read() {
    let gateway = Setup::with(some_data()).events().start().await;
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    let mut left = gateway.opens("/mping", MOBILE_KEY).await;
    left.receives_ping().await;
    empty(202).compare(
        "events",
        &gateway.answers(&Call::post("/bulk", "[1]").key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4")).await,
    );
    gateway.eventually("the event", || !gateway.upstream.posts("/bulk").is_empty()).await;
    gateway.answers(&Call::get("/nonesuch")).await;
    for (name, value) in [
        ("User-Agent", "GoClient/7.6.0 LDRelay/8.10.1"),
        ("User-Agent", "sdk-c6f2a1b4/1.0.0"),
        ("X-LaunchDarkly-User-Agent", "NodeJSClient/9.7.1-sdk-c6f2a1b4"),
    ] {
        let call = Call::get("/sdk/flags").key(SDK_KEY).header(name, value);
        assert_eq!(gateway.answers(&call).await.status, 200);
    }
    gateway.answers(&Call::get("/sdk/flags").key("sdk-unknown").header("User-Agent", "RubyClient/8.0.0")).await;

    let answer = gateway.operator_gets("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = parse(answer.text());
    let has = |name: &str, labels: &[(&str, &str)], value: Option<f64>| {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let labels: BTreeSet<_> = labels.iter().map(owned).collect();
        let found = samples.iter().find(|it| it.name == name && labels.is_subset(&it.labels));
        let found = found.unwrap_or_else(|| panic!("{name} {labels:?} in {}", answer.text()));
        assert!(value.is_none_or(|it| (it - found.value).abs() < 1e-9), "{name} {labels:?} is {}", found.value);
    };
    let main = ("environment", "main");
    has("yardarm_streams", &[main, ("route", "server.stream.all")], Some(1.0));
    has("yardarm_streams", &[main, ("route", "mobile.stream.ping"), ("vendor", "launchdarkly")], Some(1.0));
    has("yardarm_streams_opened_total", &[main, ("route", "server.stream.all")], Some(1.0));
    has("yardarm_streams_ended_total", &[main, ("route", "server.stream.all"), ("reason", "client-gone")], Some(0.0));
    has("yardarm_http_requests_total", &[("route", "server.stream.all"), ("status", "2xx")], Some(1.0));
    has("yardarm_http_requests_total", &[("route", "other"), ("status", "4xx")], Some(1.0));
    has("yardarm_http_request_seconds_count", &[("route", "server.events")], Some(1.0));
    has("yardarm_upstream_state", &[main, ("state", "valid")], Some(1.0));
    has("yardarm_environment_items", &[main, ("kind", "flag")], Some(1.0));
    has("yardarm_environment_stale", &[main], Some(0.0));
    has("yardarm_events_received_total", &[main], Some(1.0));
    let sdk = |name, version| [("vendor", "launchdarkly"), ("sdk", name), ("version", version)];
    has("yardarm_sdk_requests_total", &sdk("GoClient", "7.6.0"), Some(1.0));
    has("yardarm_sdk_requests_total", &sdk("NodeJSClient", "9.7.1"), Some(1.0));
    // Two streams, the events, and what is no SDK.
    has("yardarm_sdk_requests_total", &sdk("other", "other"), Some(4.0));
    for absent in ["RubyClient", "c6f2a1b4"] {
        // V044
        assert!(!answer.text().contains(absent), "{absent} in {}", answer.text());
    }
    has("yardarm_process_resident_bytes", &[], None);
    has("yardarm_process_cpu_seconds_total", &[], None);
    for sample in &samples {
        assert!(sample.name.starts_with("yardarm_"), "{}", sample.name);
    }
}

#[tokio::test]
async fn the_page_and_the_api_description_are_served() {
    let gateway = Setup::with(some_data()).start().await;
    let page = gateway.operator_gets("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<html"));
    assert!(page.header("content-security-policy").is_some_and(|it| it.starts_with("default-src 'none'")));
    let openapi = gateway.operator_gets("/api/openapi.json").await;
    assert!(openapi.headers.iter().any(|(name, value)| format!("{name}: {value}") == JSON));
    let document = openapi.json();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    // Every described path exists, and answers with one of the described statuses.
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let answer = Call::new(&method.to_uppercase(), path.replace(['{', '}'], "")).to(gateway.admin).await;
            let described = operation["responses"].as_object().unwrap();
            assert!(described.contains_key(&answer.status.to_string()), "{method} {path}: {}", answer.status);
            // Without a token, nothing can be changed.
            assert!(
                method == "get" || answer.status == 403 && operation["security"][0]["token"] == json!([]),
                "{path}"
            );
        }
    }
    for path in ["/nonesuch", "/status", "/all", &format!("/ping/{ENV_ID}"), "/sdk/flags"] {
        assert_eq!(gateway.operator_gets(path).await.status, 404, "{path} is not for operators");
    }
}

struct Sample {
    name: String,
    labels: BTreeSet<(String, String)>,
    value: f64,
}

/// Parses the text format strictly.
fn parse(text: &str) -> Vec<Sample> {
    let mut kinds = std::collections::BTreeMap::new();
    let mut samples = Vec::new();
    let mut seen = BTreeSet::new();
    assert!(text.ends_with('\n'), "the last line is a line");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').is_some_and(|(_, help)| help.len() > 5), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
            let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| {
                (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("labels without end: {line}")))
            });
            assert!(name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_'), "{line}");
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|it| kinds.contains_key(*it));
            assert!(kinds.contains_key(family.unwrap_or(name)), "no TYPE before {line}");
            assert!(seen.insert(series.to_owned()), "twice: {line}");
            samples.push(Sample {
                name: name.to_owned(),
                labels: labels_of(labels),
                value: value.parse().expect("a number"),
            });
        }
    }
    samples
}

fn labels_of(text: &str) -> BTreeSet<(String, String)> {
    let mut labels = BTreeSet::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest}"));
        let end = after.find('"').unwrap_or_else(|| panic!("no end: {rest}"));
        labels.insert((name.to_owned(), after[..end].to_owned()));
        rest = after[end + 1..].trim_start_matches(',');
    }
    labels
}

#[tokio::test]
async fn a_request_for_a_foreign_host_name_is_misdirected() {
    // DNS rebinding: a browser sends the name of the page, whatever address that name resolves to.
    let gateway = Setup::with(some_data()).set("admin.allowed_hosts", json!(["ops.example", "*.svc"])).start().await;
    let answers = async |target: &str, host: Option<&str>, version: &str| {
        let mut connection = Connection::open(gateway.admin).await;
        let host = host.map(|it| format!("Host: {it}\r\n")).unwrap_or_default();
        connection.sends(format!("GET {target} {version}\r\n{host}\r\n")).await;
        connection.answer("GET").await.expect("an answer")
    };
    let port = gateway.admin.port();
    for host in ["127.0.0.1", "[::1]", "localhost", "10.20.30.40", "ops.example", "yardarm.ops.svc"] {
        assert_eq!(answers("/live", Some(host), "HTTP/1.1").await.status, 200, "{host}");
        assert_eq!(answers("/live", Some(&format!("{host}:{port}")), "HTTP/1.1").await.status, 200, "{host}");
    }
    assert_eq!(answers("/live", None, "HTTP/1.0").await.status, 200, "no browser leaves it out");
    for path in ["/", "/live", "/ready", "/metrics", "/api/status", "/api/environments", "/api/plugins", "/none"] {
        let answer = answers(path, Some(&format!("evil.example:{port}")), "HTTP/1.1").await;
        assert_eq!(answer.status, 421, "{path}");
        assert!(answer.text().contains("`admin.allowed_hosts`"), "{path}: {}", answer.text());
    }
    assert_eq!(answers("http://evil.example/live", Some("localhost"), "HTTP/1.1").await.status, 421);
    // The listener for SDKs accepts any name.
    let mut sdk = Connection::open(gateway.address).await;
    sdk.sends("GET /status HTTP/1.1\r\nHost: relay.example\r\n\r\n").await;
    assert_eq!(sdk.answer("GET").await.map(|it| it.status), Some(200));
}
