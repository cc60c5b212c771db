//! Redirects of requests with keys: followed to the same host on any port, and nowhere else.

use serde_json::json;
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeHarness, HarnessAnswer, RawUpstream, until, within};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, started, token};
use crate::program::Program;
use crate::running::{Running, harness_toml};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// Returns the same server under another name.
fn by_name(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

fn moved(status: u16, url: &str) -> HarnessAnswer {
    HarnessAnswer::from(status).header("location", url)
}

/// Starts a second fake with the same keys, on another port.
async fn other_cloud() -> FakeHarness {
    let other = FakeHarness::start().await;
    other.adds_environment(ENV, "prod", [KEY]);
    other.adds_environment(OTHER_ENV, "test", [OTHER_KEY]);
    other
}

/// Requests of each kind, all of which contain a key: path suffix, and the path they are redirected to.
const REQUESTS: [&str; 4] = ["/admin/apikey", "/feature-configs", "/target-segments", "/stream"];

#[tokio::test]
async fn no_key_is_sent_to_another_host() {
    for status in STATUSES {
        for path in REQUESTS.into_iter().chain(["/client/auth"]) {
            let cloud = cloud().await;
            let elsewhere = RawUpstream::start().await;
            cloud.answers_next(path, [moved(status, &format!("{}{path}", by_name(&elsewhere.url())))]);
            let gateway = started(&cloud, "").await;
            let call = Call::post("/client/auth", json!({ "apiKey": KEY }).to_string());
            eventually(&gateway, &call, "service after all", |status, _| status == 200).await;
            assert_eq!(elsewhere.heads(), Vec::<String>::new(), "{status} {path}");
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn fetches_are_followed_to_another_port_with_their_keys() {
    for status in STATUSES {
        let cloud = cloud().await;
        // The redirected requests need tokens issued by the first one.
        let other = RawUpstream::start().await;
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]";
        other.plays([yardarm_testkit::Step::bytes(answer)]);
        cloud.answers_next("/target-segments", [moved(status, &format!("{}/moved", other.url()))]);
        let page = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"apiKeys\":[]}";
        let admin = RawUpstream::start().await;
        admin.plays([yardarm_testkit::Step::bytes(page)]);
        cloud.answers_next("/admin/apikey", [moved(status, &format!("{}/moved", admin.url()))]);
        let gateway = started(&cloud, "").await;
        until("the redirected requests", || other.heads().len() == 1 && admin.heads().len() == 1).await;
        assert!(other.heads()[0].to_lowercase().contains("authorization: bearer "), "{status} {}", other.heads()[0]);
        let token = format!("x-api-key: {}", FakeHarness::ADMIN_TOKEN);
        assert!(admin.heads()[0].to_lowercase().contains(&token), "{status} {}", admin.heads()[0]);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_post_with_a_key_is_repeated_unchanged_or_fails() {
    for status in STATUSES {
        let cloud = cloud().await;
        let other = other_cloud().await;
        cloud.answers_next("/client/auth", [moved(status, &format!("{}/api/1.0/client/auth", other.url()))]);
        let gateway = Running::before_harness(&cloud, &[KEY], "").await;
        until("the first try", || !cloud.posts("/client/auth").is_empty()).await;
        if matches!(status, 307 | 308) {
            until("the post there", || other.posts("/client/auth").len() == 1).await;
            assert_eq!(other.posts("/client/auth")[0].json()["apiKey"], KEY, "{status}");
        } else {
            // It is retried here.
            until("another try", || cloud.posts("/client/auth").len() >= 2).await;
            assert_eq!(other.requests().len(), 0, "{status}");
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn metrics_are_posted_unchanged_or_retried() {
    for status in STATUSES {
        let cloud = cloud().await;
        let (same, elsewhere) = (other_cloud().await, other_cloud().await);
        let path = format!("/metrics/{ENV}");
        let to = |url: &str| format!("{url}/api/1.0{path}");
        cloud.answers_next(&path, [moved(status, &to(&by_name(&elsewhere.url()))), moved(status, &to(&same.url()))]);
        let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
        let attribute = |key: &str, value: &str| json!({"key": key, "value": value});
        let attributes = [attribute("featureIdentifier", "a"), attribute("variationIdentifier", "true")];
        let metric = json!({"timestamp": 1, "count": 5, "metricsType": "FFMETRICS", "attributes": attributes});
        let body = json!({ "metricsData": [metric] }).to_string();
        let key = token(&gateway, KEY).await;
        assert_eq!(gateway.answers(&Call::post(&path, body).key(&key)).await.status, 200, "{status}");
        // A request that would become a GET is retried here; the others are repeated there unchanged.
        let is_repeated = matches!(status, 307 | 308);
        let delivered = || if is_repeated { same.posts(&path) } else { cloud.posts(&path).split_off(2) };
        until(&format!("{status}: the metrics"), || cloud.posts(&path).len() >= 2 && !delivered().is_empty()).await;
        assert_eq!(delivered()[0].json()["metricsData"][0]["count"], 5, "{status}");
        assert!(delivered()[0].header("authorization").is_some_and(|it| it.starts_with("Bearer ")), "{status}");
        assert_eq!(same.requests().len(), usize::from(is_repeated), "{status}");
        assert_eq!(elsewhere.requests().len(), 0, "{status}: nothing is sent to another host");
        gateway.stop().await;
    }
}

/// Returns the outcomes of target registrations from the metrics.
async fn registrations(gateway: &Running) -> Vec<(String, u64)> {
    let text = gateway.answers(&Call::get("/metrics")).await.text().to_owned();
    let lines = text.lines().filter_map(|it| it.strip_prefix("yardarm_harness_target_registrations_"));
    let pairs = lines.filter_map(|it| it.rsplit_once(' '));
    pairs.map(|(name, value)| (name.to_owned(), value.parse().expect("a whole number"))).collect()
}

/// Registers one target whose first registration is answered with a redirect. Returns the number of posts that arrived
/// at its target.
async fn registered_behind(status: u16, is_other_host: bool) -> usize {
    let (cloud, target) = (cloud().await, other_cloud().await);
    let gateway = started(&cloud, "").await;
    let url = if is_other_host { by_name(&target.url()) } else { target.url() };
    cloud.answers_next("/client/auth", [moved(status, &format!("{url}/api/1.0/client/auth"))]);
    let before = cloud.posts("/client/auth").len();
    let ada = json!({"apiKey": KEY, "target": {"identifier": "ada", "name": "Ada", "attributes": {"plan": "pro"}}});
    let answer = gateway.answers(&Call::post("/client/auth", ada.to_string())).await;
    assert_eq!(answer.status, 200, "{status}: the SDK is not concerned");

    let arrived = || [cloud.registered_targets(), target.registered_targets()].concat();
    let is_ada = |it: &&(String, serde_json::Value)| it.1["identifier"] == "ada";
    until(&format!("{status}: the target"), || arrived().iter().any(|it| is_ada(&it))).await;
    let all = arrived();
    let ada: Vec<_> = all.iter().filter(is_ada).collect();
    assert_eq!(ada.len(), 1, "{status}: {ada:?}");
    assert_eq!((ada[0].0.as_str(), &ada[0].1["attributes"]["plan"]), (KEY, &json!("pro")), "{status}");
    let outcome = async {
        loop {
            let counts = registrations(&gateway).await;
            let count = |name: &str| counts.iter().filter(|it| it.0.contains(name)).map(|it| it.1).sum::<u64>();
            assert_eq!((count("refused"), count("dropped")), (0, 0), "{status}: nothing is lost");
            if count("registered") == 1 && count("waiting") == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("a registration that counts", outcome).await;
    gateway.stop().await;
    // Posts that arrived here are the first attempt, which was redirected, and possibly a retry.
    let here = cloud.posts("/client/auth").len() - before;
    assert_eq!(here + target.requests().len(), 2, "{status}");
    target.requests().len()
}

#[tokio::test]
async fn targets_are_registered_unchanged_or_retried() {
    for status in STATUSES {
        let is_repeated = matches!(status, 307 | 308);
        let (same, other) = tokio::join!(registered_behind(status, false), registered_behind(status, true));
        assert_eq!(same, usize::from(is_repeated), "{status}: as it is, or again where it was sent first");
        assert_eq!(other, 0, "{status}: no key and no target leaves to another host");
    }
}

#[tokio::test]
async fn a_permanent_redirect_of_registrations_is_logged() {
    let cloud = cloud().await;
    let elsewhere = RawUpstream::start().await;
    let dir = TempDir::new().expect("a temporary folder");
    let config = harness_toml(dir.path(), &cloud, &[KEY], "") + "\n[log]\nformat = \"json\"\n";
    std::fs::write(dir.path().join("yardarm.toml"), config).expect("a folder that can be written");
    let program = Program::start(dir.path()).await;
    within("`/ready`", program.wait_until_ready()).await;
    let address = format!("{}/client/auth", by_name(&elsewhere.url()));
    cloud.answers_next("/client/auth", std::iter::repeat_n(moved(302, &address), 100));
    let ada = json!({"apiKey": KEY, "target": {"identifier": "ada-canary", "attributes": {}}});
    assert_eq!(program.answers(&Call::post("/client/auth", ada.to_string())).await.status, 200);
    let reason = "redirect to another host, `localhost`";
    until("a line with the reason", || program.has_logged(reason)).await;
    let log = program.log();
    let lines: Vec<_> = log.iter().filter(|it| it.contains(reason)).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(log.iter().all(|it| !it.contains(KEY) && !it.contains("canary")), "{log:#?}");
    assert_eq!(elsewhere.heads(), Vec::<String>::new());
}
