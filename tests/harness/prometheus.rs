//! Metrics under the names of the vendor's relay.

use std::collections::BTreeMap;

use serde_json::json;
use yardarm_testkit::{Call, within};

use super::{ENV, KEY, OTHER_ENV, cloud, flag, listens, started, token};
use crate::running::Running;

/// Returns values by name and labels, as read by a dashboard.
async fn scraped(gateway: &Running, path: &str) -> BTreeMap<String, String> {
    let answer = gateway.answers(&Call::get(path)).await;
    assert_eq!(answer.status, 200, "F089");
    let content_type = answer.headers.iter().find(|(name, _)| name == "content-type").map(|it| it.1.as_str());
    assert_eq!(content_type, Some("text/plain; version=0.0.4; charset=utf-8"), "F089");
    assert!(!answer.text().contains(KEY), "F085: {}", answer.text());
    let lines = answer.text().lines().filter(|it| !it.starts_with('#'));
    lines.filter_map(|it| it.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Waits until a series has a value.
async fn eventually(gateway: &Running, series: &str, value: &str) {
    within(series, async {
        while scraped(gateway, "/metrics").await.get(series).map(String::as_str) != Some(value) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn requests(url: &str, env: &str, code: u16, method: &str) -> String {
    format!(r#"ff_proxy_http_requests_total{{code="{code}",envID="{env}",method="{method}",url="{url}"}}"#)
}

#[tokio::test]
async fn requests_are_counted_by_the_pattern_of_their_route() {
    // F089
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let token = token(&gateway, KEY).await;
    let base = format!("/client/env/{ENV}");
    for path in [
        format!("{base}/feature-configs"),
        format!("/api/1.0{base}/feature-configs"),
        format!("{base}/feature-configs/a"),
        format!("{base}/feature-configs/nothing"),
        format!("{base}/target-segments/s"),
        format!("{base}/target/ada/evaluations"),
        format!("{base}/target/ada/evaluations/a"),
        format!("/client/env/{OTHER_ENV}/feature-configs"),
        "/client/env/made-up/feature-configs".to_owned(),
        "/nowhere".to_owned(),
        "/health".to_owned(),
        "/metrics".to_owned(),
    ] {
        gateway.answers(&Call::get(path).key(&token)).await;
    }
    gateway.answers(&Call::options("/client/auth").header("Origin", "https://shop.example")).await;
    let _stream = listens(&gateway, KEY).await;

    let own = Call::get(format!("{base}/feature-configs")).key(&token).header("Harness-SDK-Info", "Java 1.8.2 Server");
    gateway.answers(&own).await;
    let metrics = gateway.operator_gets("/metrics").await.text().to_owned();
    let series = r#"yardarm_sdk_requests_total{sdk="Java",vendor="harness",version="1.8.2"} 1"#;
    assert!(metrics.lines().any(|it| it == series), "{metrics}");

    let seen = scraped(&gateway, "/metrics").await;
    let pattern = |rest: &str| format!("/client/env/:environment_uuid/{rest}");
    for (series, count) in [
        (requests(&pattern("feature-configs"), ENV, 200, "GET"), Some("3")),
        (requests(&pattern("feature-configs/:identifier"), ENV, 200, "GET"), Some("1")),
        (requests(&pattern("feature-configs/:identifier"), ENV, 404, "GET"), Some("1")),
        (requests(&pattern("target-segments/:identifier"), ENV, 200, "GET"), Some("1")),
        (requests(&pattern("target/:target/evaluations"), ENV, 200, "GET"), Some("1")),
        (requests(&pattern("target/:target/evaluations/:feature"), ENV, 200, "GET"), Some("1")),
        (requests(&pattern("feature-configs"), OTHER_ENV, 401, "GET"), Some("1")),
        // Arbitrary values of callers have no series of their own.
        (requests(&pattern("feature-configs"), "", 401, "GET"), Some("1")),
        (requests("other", "", 404, "GET"), Some("1")),
        (requests("/client/auth", "", 200, "POST"), Some("2")),
        (requests("/client/auth", "", 204, "OPTIONS"), Some("1")),
        (requests("/stream", "", 200, "GET"), Some("1")),
    ] {
        assert_eq!(seen.get(&series).map(String::as_str), count, "F089 {series}: {seen:#?}");
    }
    for absent in ["/health", "\"/metrics\"", "made-up", "nowhere"] {
        assert!(seen.keys().all(|it| !it.contains(absent)), "F089: {absent} in {seen:#?}");
    }
    let url = pattern("feature-configs");
    let bucket = format!(r#"ff_proxy_http_requests_duration_bucket{{envID="{ENV}",url="{url}",le="+Inf"}}"#);
    assert_eq!(seen.get(&bucket).map(String::as_str), Some("3"), "F089: {seen:#?}");
    assert!(scraped(&gateway, "/api/1.0/metrics").await.len() >= seen.len(), "F089: also below the prefix");
    assert_eq!(gateway.answers(&Call::post("/metrics", "{}")).await.status, 405);
}

#[tokio::test]
async fn traffic_in_both_directions_is_counted() {
    // F089
    let cloud = cloud().await;
    let gateway = started(&cloud, "metric_post_interval = \"50ms\"").await;
    let _sdk = listens(&gateway, KEY).await;
    let mask = format!("0a1b{}", "*".repeat(KEY.len() - 4));
    let of_key = |name: &str| format!(r#"{name}{{api_key="{mask}",environment="{ENV}",error="false"}}"#);
    let health = scraped(&gateway, "/metrics").await;
    let health = health.keys().find(|it| it.starts_with("ff_proxy_stream_health{host=")).expect("F089").clone();
    eventually(&gateway, &health, "1").await;

    cloud.changes_flag(ENV, &flag("a", 3));
    cloud.deletes_flag(ENV, "b");
    eventually(&gateway, &of_key("ff_proxy_sse_publish"), "2").await;
    cloud.closes_streams(ENV);
    eventually(&gateway, &of_key("ff_proxy_sse_stream_close"), "1").await;
    eventually(&gateway, &health, "1").await;
    cloud.goes_down();
    eventually(&gateway, &health, "0").await;
    cloud.comes_back();
    eventually(&gateway, &health, "1").await;

    let attribute = |key: &str, value: &str| json!({"key": key, "value": value});
    let attributes =
        [attribute("SDK_TYPE", "server"), attribute("SDK_VERSION", "1.2"), attribute("SDK_LANGUAGE", "go")];
    let entry = json!({"timestamp": 1, "count": 7, "metricsType": "FFMETRICS", "attributes": attributes});
    let body = json!({"metricsData": [entry, entry]}).to_string();
    let path = format!("/metrics/{ENV}");
    cloud.answers_next(&path, [503]);
    let token = token(&gateway, KEY).await;
    assert_eq!(gateway.answers(&Call::post(&path, body).key(&token)).await.status, 200);
    let usage = format!(r#"ff_proxy_sdk_usage{{envID="{ENV}",sdk_language="go",sdk_type="server",sdk_version="1.2"}}"#);
    eventually(&gateway, &usage, "2").await;
    let forwarded = |error: bool| format!(r#"ff_proxy_metrics_forwarded{{envID="{ENV}",error="{error}"}}"#);
    eventually(&gateway, &forwarded(true), "1").await;
    eventually(&gateway, &forwarded(false), "1").await;
    let counted = scraped(&gateway, "/metrics").await;
    let posts = requests("/metrics/:environment_uuid", ENV, 200, "POST");
    assert_eq!(counted.get(&posts).map(String::as_str), Some("1"), "F089: {counted:#?}");
}
