//! Metrics: accepted from SDKs, aggregated, and posted for each environment with its own token.

use serde_json::{Value, json};
use yardarm_testkit::{Call, Recorded, until};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, started, token};

fn metric(count: u64) -> Value {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": value});
    let attributes = [
        attribute("featureIdentifier", "a"),
        attribute("variationIdentifier", "true"),
        attribute("SDK_LANGUAGE", "go"),
        attribute("SDK_VERSION", "1"),
        attribute("SDK_TYPE", "server"),
        json!({"key": "target", "value": null}),
    ];
    json!({"timestamp": 1, "count": count, "metricsType": "FFMETRICS", "attributes": attributes})
}

#[tokio::test]
async fn metrics_are_summed_up_and_posted() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
    let path = format!("/metrics/{ENV}");
    let both = json!({"metricsData": [metric(2), metric(3)], "targetData": [{"identifier": "ada", "name": "Ada", "attributes": []}]});
    let token = token(&gateway, KEY).await;
    let post = |body: String| Call::post(&path, body).key(&token);
    let answer = gateway.answers(&post(both.to_string())).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"null\n"[..]), "F086");
    until("F037: metrics", || !cloud.posts(&path).is_empty()).await;
    let posted = &cloud.posts(&path)[0];
    assert!(posted.path.ends_with("?cluster=2"), "F037");
    assert!(posted.header("authorization").is_some_and(|it| it.starts_with("Bearer ")), "F037");
    let body = posted.json();
    assert_eq!(body["metricsData"].as_array().map(Vec::len), Some(1), "F039 {body}");
    assert_eq!(body["metricsData"][0]["count"], 5, "F039");
    assert_eq!(body["targetData"][0]["identifier"], "ada", "F040");

    assert_eq!(
        gateway.answers(&post("{".to_owned())).await.status,
        400,
        "F086: and not 500, after which Node repeats the post for ever"
    );
    let large = format!("{{\"targetData\":[{}]}}", "7,".repeat(3 << 20).trim_end_matches(','));
    assert_eq!(gateway.answers(&post(large)).await.status, 413, "F086");
    let only_metrics = json!({"metricsData": [metric(1)]}).to_string();
    gateway.answers(&post(only_metrics)).await;
    until("F040: more metrics", || cloud.posts(&path).len() == 2).await;
    assert!(cloud.posts(&path)[1].json().get("targetData").is_none(), "F040");
    assert!(cloud.posts(&format!("/metrics/{OTHER_ENV}")).is_empty(), "F038");
}

#[tokio::test]
async fn an_invalid_entry_affects_only_itself() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
    let path = format!("/metrics/{ENV}");
    let token = token(&gateway, KEY).await;
    let bad = [
        &b"7"[..],
        b"null",
        b"{\"timestamp\":1,\"count\":-1,\"attributes\":[]}",
        b"{\"timestamp\":1,\"count\":1,\"attributes\":[{\"key\":\"featureIdentifier\",\"value\":\"x\xff\"}]}",
        br#"{"timestamp":1,"count":1,"attributes":[{"key":"featureIdentifier","value":"y\ud83d"}]}"#,
        br#"{"attributes":7}"#,
    ];
    let body =
        [b"{\"metricsData\":[", &bad.join(&b","[..])[..], b",", metric(3).to_string().as_bytes(), b"]}"].concat();
    assert_eq!(gateway.answers(&Call::post(&path, body).key(&token)).await.status, 200);
    until("metrics", || !cloud.posts(&path).is_empty()).await;
    let posted = cloud.posts(&path)[0].json();
    let mut names: Vec<_> = posted["metricsData"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["attributes"][0]["value"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "x\u{fffd}", "y\u{fffd}"], "{posted}");
    // Millions of empty entries are counted, and cost neither time nor memory.
    let flood = format!("{{\"targetData\":[{}7]}}", "7,".repeat(2 << 20));
    let posts: Vec<_> = (0..4).map(|_| Call::post(&path, flood.clone()).key(&token)).collect();
    let answers = futures_util::future::join_all(posts.iter().map(|it| gateway.answers(it))).await;
    assert!(answers.iter().all(|it| it.status == 200 || it.status == 503));
    let events = gateway.operator_gets("/api/environments").await.json()["environments"][0]["events"].clone();
    let dropped =
        events["dropped"].as_array().expect("a list").iter().find(|it| it[0] == "malformed").map(|it| it[1].clone());
    assert!(dropped.and_then(|it| it.as_u64()) > Some(2 << 20), "{events}");
}

#[tokio::test]
async fn what_is_posted_has_every_required_property() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
    let path = format!("/metrics/{ENV}");
    let token = token(&gateway, KEY).await;
    // A single entry that Harness cannot read could fail the post of all SDKs.
    let targets = json!([
        {"identifier": "ada"},
        {"identifier": "eve", "name": null, "attributes": null},
        {"identifier": "bad", "name": 7}, {"identifier": "bad", "attributes": {}}, {"identifier": null}, {"identifier": ""},
    ]);
    let metrics =
        json!([{"timestamp": null, "count": null, "attributes": null}, {"count": 1, "metricsType": 7}, metric(3)]);
    let body = json!({"metricsData": metrics, "targetData": targets}).to_string();
    assert_eq!(gateway.answers(&Call::post(&path, body).key(&token)).await.status, 200);
    assert_eq!(gateway.answers(&Call::post(&path, "null").key(&token)).await.status, 200);
    until("metrics", || !cloud.posts(&path).is_empty()).await;
    let posted = cloud.posts(&path)[0].json();
    let target = |identifier: &str| json!({"identifier": identifier, "name": "", "attributes": []});
    assert_eq!(posted["targetData"], json!([target("ada"), target("eve")]));
    let metrics = posted["metricsData"].as_array().expect("a list");
    assert!(metrics.iter().all(|it| it["metricsType"] == "FFMETRICS" && it["attributes"].is_array()), "{posted}");
    assert!(metrics.iter().any(|it| it["count"] == 3), "{posted}");
}

#[tokio::test]
async fn a_failing_environment_does_not_delay_posts_of_others() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
    let (mine, other) = (token(&gateway, KEY).await, token(&gateway, OTHER_KEY).await);
    let paths = [ENV, OTHER_ENV].map(|id| format!("/metrics/{id}"));
    cloud.answers_next(&paths[0], [500, 500]);
    let body = json!({"metricsData": [metric(7)]}).to_string();
    for (path, token) in paths.iter().zip([&mine, &other]) {
        assert_eq!(gateway.answers(&Call::post(path, body.clone()).key(token)).await.status, 200, "F041");
    }
    until("F041: the other environment's metrics", || !cloud.posts(&paths[1]).is_empty()).await;
    // D8: nothing is lost by two failures.
    until("F041: the third attempt", || cloud.posts(&paths[0]).len() == 3).await;
    let counts: Vec<Value> =
        cloud.posts(&paths[0]).iter().map(Recorded::json).map(|it| it["metricsData"][0]["count"].clone()).collect();
    assert_eq!(counts, [7, 7, 7], "F041");
    assert_eq!(cloud.posts(&paths[1]).len(), 1, "F041");
}

#[tokio::test]
async fn an_expired_token_is_detected_by_metrics_too() {
    // How long tokens live is not documented, and where no flag changes only metrics are ever sent.
    let cloud = cloud().await;
    let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
    let path = format!("/metrics/{ENV}");
    let exchanges = || cloud.posts("/client/auth").iter().filter(|it| it.json()["apiKey"] == KEY).count();
    let mine = token(&gateway, KEY).await;
    let before = exchanges();
    cloud.answers_next(&path, [401]);
    let body = json!({"metricsData": [metric(7)]}).to_string();
    assert_eq!(gateway.answers(&Call::post(&path, body).key(&mine)).await.status, 200);
    until("the second attempt", || cloud.posts(&path).len() == 2).await;
    until("a new token", || exchanges() == before + 1).await;
    assert_eq!(cloud.posts(&path)[1].json()["metricsData"][0]["count"], 7, "D8: nothing is lost");
}
