//! Redirects of requests with keys: followed to the same host on any port, and nowhere else.

use std::time::Duration;

use serde_json::json;
use yardarm_testkit::{Call, FakeLaunchDarkly, RawUpstream, Step, until};

use crate::flags::{flag, put, some_data};
use crate::running::{SDK_KEY, Setup};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// Returns the same server under another name.
fn by_name(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

#[tokio::test]
async fn a_stream_is_followed_to_another_port_with_its_key() {
    for status in STATUSES {
        let cloud = FakeLaunchDarkly::start().await;
        cloud.puts(SDK_KEY, &some_data());
        let moved = RawUpstream::start().await;
        moved.plays([Step::redirect(status, &format!("{}/all", cloud.url()))]);
        let gateway = Setup::new().set("launchdarkly.stream_uri", moved.url()).start().await;
        gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
        let requests = cloud.stream_requests();
        assert_eq!(requests[0].header("authorization"), Some(SDK_KEY), "{status}");
        assert_eq!(requests[0].header("accept"), Some("text/event-stream"), "{status}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_stream_is_not_followed_to_another_host() {
    for status in STATUSES {
        let elsewhere = RawUpstream::start().await;
        let moved = RawUpstream::start().await;
        moved.plays([Step::redirect(status, &format!("{}/all", by_name(&elsewhere.url())))]);
        let setup = Setup::new().set("launchdarkly.stream_uri", moved.url()).without_waiting();
        let gateway = setup.start().await;
        let connection =
            |it: &serde_json::Value| it["environments"]["main"]["connectionStatus"]["lastError"]["kind"].clone();
        let status_page = gateway.status_where("an error", |it| connection(it) == "ERROR_RESPONSE").await;
        assert_eq!(connection(&status_page), "ERROR_RESPONSE", "{status}");
        let report = gateway.operator_gets("/api/environments").await;
        let report = String::from_utf8_lossy(&report.body).into_owned();
        assert!(report.contains("redirect to another host, `localhost`"), "{status}: {report}");
        assert!(!report.contains(SDK_KEY), "{status}: {report}");
        assert_eq!(elsewhere.heads(), Vec::<String>::new(), "{status}: nothing is sent there");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn redirects_without_end_are_an_error() {
    let moved = RawUpstream::start().await;
    for _ in 0..1000 {
        moved.plays([Step::redirect(307, "/all")]);
    }
    let setup = Setup::new().set("launchdarkly.stream_uri", moved.url()).without_waiting();
    let gateway = setup.start().await;
    gateway.eventually("the first tries", || moved.heads().len() >= 11).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(moved.heads().len(), 11, "the first request and ten redirects");
}

/// Posts one event whose delivery is redirected: returns the number of posts at the redirect's target, and whether the
/// event counts as delivered.
async fn posted(status: u16, is_other_host: bool) -> (usize, bool) {
    let moved = RawUpstream::start().await;
    let target = FakeLaunchDarkly::start().await;
    let url = if is_other_host { by_name(&target.url()) } else { target.url() };
    for _ in 0..20 {
        moved.plays([Step::redirect(status, &format!("{url}/bulk"))]);
    }
    let gateway = Setup::with(some_data()).events().set("launchdarkly.events_uri", moved.url()).start().await;
    let event = json!([{"kind": "identify", "creationDate": 1, "context": {"kind": "user", "key": "a"}}]);
    let post = Call::post("/bulk", event.to_string()).key(SDK_KEY);
    assert_eq!(gateway.answers(&post).await.status, 202);
    // A failed post has one retry after a second.
    let expected = if matches!(status, 307 | 308) && !is_other_host { 1 } else { 2 };
    until("the attempts", || moved.heads().len() >= expected).await;
    let metrics = async {
        loop {
            let metrics = gateway.operator_gets("/metrics").await;
            let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
            let count = |name: &str| {
                let lines = metrics.lines().filter(|it| it.starts_with(name));
                lines.filter_map(|it| it.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
            };
            let (delivered, dropped) = (count("yardarm_events_delivered"), count("yardarm_events_dropped"));
            if delivered + dropped >= 1.0 {
                return delivered >= 1.0;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_delivered = yardarm_testkit::within("an outcome", metrics).await;
    assert!(target.requests().iter().all(|it| it.method == "POST"), "{status}: never a GET");
    let posts = target.posts("/bulk");
    for post in &posts {
        assert_eq!((post.json(), post.header("authorization")), (event.clone(), Some(SDK_KEY)), "{status}");
    }
    gateway.stop().await;
    (posts.len(), is_delivered)
}

#[tokio::test]
async fn redirected_events_are_posted_unchanged_or_not_delivered() {
    for status in STATUSES {
        let is_repeated = matches!(status, 307 | 308);
        let (same, other) = tokio::join!(posted(status, false), posted(status, true));
        assert_eq!(same, (usize::from(is_repeated), is_repeated), "{status}");
        assert_eq!(other, (0, false), "{status} to another host");
    }
}

#[tokio::test]
async fn forwarded_responses_keep_their_redirect() {
    // The browser follows, not the gateway.
    let gateway = Setup::with(some_data()).start().await;
    gateway.upstream.answers_goals_with(302, &[("location", "https://elsewhere.example/")], "");
    let answer = gateway.answers(&Call::get(format!("/sdk/goals/{}", crate::running::ENV_ID))).await;
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://elsewhere.example/")));
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
}
