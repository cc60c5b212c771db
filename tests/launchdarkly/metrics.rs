//! L234: metrics under the names that dashboards for LaunchDarkly's relay use.

use yardarm_testkit::{Call, within};

use crate::flags::some_data;
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

async fn gateway() -> Running {
    Setup::with(some_data()).set("launchdarkly.prometheus.listen", "127.0.0.1:0").start().await
}

async fn scrape(gateway: &Running) -> String {
    let answer = Call::get("/metrics").to(gateway.metrics.expect("a listener for metrics")).await;
    assert_eq!(answer.status, 200, "L234");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.text().to_owned()
}

/// Returns the value of a series, which is given as written.
fn value(text: &str, series: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

#[tokio::test]
async fn an_open_stream_is_counted_until_it_ends() {
    let gateway = gateway().await;
    assert_eq!(scrape(&gateway).await, "", "nothing has happened yet");
    let call = Call::get("/all").key(SDK_KEY).header("User-Agent", "NodeJSClient/9.7.0");
    let mut sdk = gateway.opens_with(&call).await;
    sdk.receives_event("put").await;
    let browser = Call::get(format!("/ping/{ENV_ID}")).header("X-LaunchDarkly-User-Agent", "JSClient/3.1");
    let _browser = gateway.opens_with(&browser.header("User-Agent", "Mozilla")).await;
    let _phone = gateway.opens("/mping", MOBILE_KEY).await;
    let server = r#"{env="main",platformCategory="server",userAgent="NodeJSClient_9.7.0"}"#;
    let text = scrape(&gateway).await;
    for (series, count) in [
        (format!("launchdarkly_relay_connections{server}"), "1"),
        (format!("launchdarkly_relay_newconnections{server}"), "1"),
        (r#"launchdarkly_relay_connections{env="main",platformCategory="browser",userAgent="JSClient_3.1"}"#.into(), "1"),
        (r#"launchdarkly_relay_connections{env="main",platformCategory="mobile",userAgent="_"}"#.into(), "1"),
        (
            r#"launchdarkly_relay_requests{env="main",method="GET",platformCategory="server",route="_all",userAgent="NodeJSClient_9.7.0"}"#.into(),
            "1",
        ),
    ] {
        assert_eq!(value(&text, &series).as_deref(), Some(count), "L234: {series} in\n{text}");
    }
    assert!(!text.contains(r#"route="_mping""#), "U151: not counted");
    assert!(text.contains("# TYPE launchdarkly_relay_connections counter"), "U150");

    drop(sdk);
    within("L234: the end of the stream to be counted", async {
        while value(&scrape(&gateway).await, &format!("launchdarkly_relay_connections{server}")).as_deref() != Some("0")
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(
        value(&scrape(&gateway).await, &format!("launchdarkly_relay_newconnections{server}")).as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn requests_are_counted_by_route_once_their_credential_is_known() {
    let gateway = gateway().await;
    for (call, status) in [
        (Call::get("/sdk/flags").key(SDK_KEY), 200),
        (Call::get("/sdk/flags/plain").key(SDK_KEY), 200),
        (Call::get("/sdk/flags").key("sdk-unknown"), 401),
        (Call::report(format!("/sdk/evalx/{ENV_ID}/user"), r#"{"key":"a"}"#), 200),
        (Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}")), 200),
        (Call::get("/status"), 200),
        (Call::get("/sdk/flags").key(SDK_KEY).header("User-Agent", "Some Agent/1.0 (\"a b\"; c\\d)"), 200),
    ] {
        assert_eq!(gateway.answers(&call).await.status, status, "{call}");
    }
    let text = scrape(&gateway).await;
    let series = |method: &str, platform: &str, route: &str| {
        format!(
            r#"launchdarkly_relay_requests{{env="main",method="{method}",platformCategory="{platform}",route="{route}",userAgent="_"}}"#
        )
    };
    for (method, platform, route) in [
        ("GET", "server", "_sdk_flags"),
        ("GET", "server", "_sdk_flags_{key}"),
        ("REPORT", "browser", "_sdk_evalx_{envId}_user"),
        ("GET", "browser", "_sdk_evalx_{envId}_contexts_{context}"),
    ] {
        assert_eq!(value(&text, &series(method, platform, route)).as_deref(), Some("1"), "{route} in\n{text}");
    }
    assert!(!text.contains("status"), "U151: not counted");
    let is_polls =
        |it: &&str| it.starts_with("launchdarkly_relay_internal_polling_requests{") && it.contains(r#"userAgent="_"}"#);
    let polls = text.lines().find(is_polls).expect("polls");
    let agent = r#"{env="main",method="GET",platformCategory="server",route="_sdk_flags",userAgent="Some Agent_1.0 (\"a b\"; c\\d)"}"#;
    let count = value(&text, &format!("launchdarkly_relay_requests{agent}"));
    assert_eq!(count.as_deref(), Some("1"), "only slashes are replaced, and quotes are escaped:\n{text}");
    assert!(polls.ends_with(" 2") && polls.contains("relayId=\""), "{polls}");
    // L020 is about the listener for SDKs; this listener has no other route.
    assert_eq!(Call::get("/status").to(gateway.metrics.expect("a listener")).await.status, 404);
}

#[tokio::test]
async fn durations_of_requests_are_recorded_but_not_those_of_streams() {
    // U183
    let gateway = gateway().await;
    for _ in 0..2 {
        assert_eq!(gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    }
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    let text = scrape(&gateway).await;
    let labels =
        |route: &str| format!(r#"env="main",method="GET",platformCategory="server",route="{route}",userAgent="_""#);
    let poll = labels("_sdk_flags");
    let count = value(&text, &format!("launchdarkly_relay_request_duration_count{{{poll}}}"));
    assert_eq!(count.as_deref(), Some("2"), "{text}");
    let slowest = format!(r#"launchdarkly_relay_request_duration_bucket{{{poll},le="10000"}}"#);
    assert_eq!(value(&text, &slowest).as_deref(), Some("2"), "in milliseconds: {text}");
    let sum = value(&text, &format!("launchdarkly_relay_request_duration_sum{{{poll}}}")).expect("a sum");
    assert!(sum.parse::<f64>().is_ok_and(|it| it > 0.0 && it < 20_000.0), "{sum}");
    let stream = format!("launchdarkly_relay_request_duration_count{{{}}}", labels("_all"));
    assert_eq!(value(&text, &stream), None, "{text}");
}
