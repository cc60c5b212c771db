//! Harness' own SDKs, unmodified: what each must be able to do wherever it is connected.
//!
//! The steps have the address as a parameter. With the fake's address they test the steps themselves, with the
//! gateway's the gateway.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, WAIT_TIMEOUT, until, within};

use super::SOON;
use super::driven::{Driven, Language};
use crate::running::Running;

pub(crate) const ENV: &str = "0a1b2c3d-4e5f-4000-8000-000000000001";
pub(crate) const API_KEY: &str = "0a1b2c3d-4e5f-4000-8000-00000000c0de";

const FLAGS: [&str; 4] = ["dark-mode", "greeting", "layout", "limit"];

/// Targets and their results for `dark-mode`, `greeting` and `layout`: by their name, by a segment that names them, by
/// a segment with rules, by percentage (`user1` is in bucket 79 and `user2` in 66), by default.
const EXPECTED: [(&str, bool, &str, u8); 4] = [
    (r#"{"identifier":"ada","name":"Ada"}"#, true, "hello friend", 2),
    (r#"{"identifier":"user1","name":"One","attributes":{"plan":"pro","city":"Zürich"}}"#, false, "hello friend", 1),
    (r#"{"identifier":"user2","name":"Two","attributes":{"plan":"pro","city":"Basel"}}"#, false, "hello", 2),
    (r#"{"identifier":"user1","name":"One"}"#, false, "hello", 1),
];

/// A prepared upstream, and the address that SDKs connect to.
pub(crate) struct Place<'a> {
    cloud: &'a FakeHarness,
    url: String,
}

/// Returns a flag with every property that generated SDKs require.
pub(crate) fn flag(identifier: &str, kind: &str, version: i64, variations: &[(&str, &str)]) -> Value {
    let variation =
        |(identifier, value): &(&str, &str)| json!({"identifier": identifier, "name": identifier, "value": value});
    let variations: Vec<_> = variations.iter().map(variation).collect();
    json!({
        "project": "shop", "environment": "prod", "feature": identifier, "state": "on", "kind": kind,
        "defaultServe": {"variation": variations[0]["identifier"]}, "offVariation": variations[0]["identifier"],
        "variations": variations, "rules": [], "prerequisites": [], "variationToTargetMap": [], "version": version,
    })
}

fn greeting(version: i64, usual: &str) -> Value {
    let mut flag = flag("greeting", "string", version, &[("usual", usual), ("friendly", "hello friend")]);
    let clause = json!({"id": "c", "attribute": "", "op": "segmentMatch", "negate": false, "values": ["friends"]});
    flag["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "friendly"}, "clauses": [clause]}]);
    flag
}

fn friends(version: i64, included: &[&str]) -> Value {
    let target = |identifier: &&str| json!({"identifier": identifier, "name": identifier, "account": "", "org": "", "environment": "", "project": ""});
    let clause = |attribute: &str, value: &str| json!({"id": attribute, "attribute": attribute, "op": "equal", "negate": false, "values": [value]});
    let clauses = [clause("plan", "pro"), clause("city", "Zürich")];
    json!({
        "identifier": "friends", "name": "Friends", "environment": "prod", "version": version,
        "included": included.iter().map(target).collect::<Vec<_>>(), "excluded": [], "rules": clauses[..1],
        "servingRules": [{"ruleId": "s", "priority": 1, "clauses": clauses}],
    })
}

/// Starts a fake with one environment with flags of every kind, decided by target, segment and percentage.
pub(crate) async fn cloud() -> FakeHarness {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [API_KEY]);
    let mut dark_mode = flag("dark-mode", "boolean", 1, &[("false", "false"), ("true", "true")]);
    let ada = json!({"identifier": "ada", "name": "Ada"});
    dark_mode["variationToTargetMap"] = json!([{"variation": "true", "targets": [ada]}]);
    let mut layout = flag("layout", "json", 1, &[("one", r#"{"columns":1}"#), ("two", r#"{"columns":2,"wide":"ja"}"#)]);
    let share = |variation: &str, weight: u8| json!({"variation": variation, "weight": weight});
    layout["defaultServe"] = json!({"distribution": {
        "bucketBy": "identifier", "variations": [share("two", 70), share("one", 30)]}});
    let limit = flag("limit", "int", 1, &[("some", "2.5"), ("none", "0")]);
    cloud.puts(ENV, [dark_mode, greeting(1, "hello"), layout, limit], [friends(1, &["ada"])]);
    cloud
}

fn value(flag: &str, (_, dark_mode, greeting, layout): (&str, bool, &str, u8)) -> Value {
    match flag {
        "dark-mode" => json!(dark_mode),
        "greeting" => json!(greeting),
        "limit" => json!(2.5),
        _ if layout == 1 => json!({"columns": 1}),
        _ => json!({"columns": 2, "wide": "ja"}),
    }
}

impl<'a> Place<'a> {
    pub(crate) fn at(cloud: &'a FakeHarness, url: impl Into<String>) -> Self {
        Self { cloud, url: url.into() }
    }

    /// Starts a server SDK, and checks its evaluations.
    pub(crate) async fn begins(&self, language: Language) -> Driven {
        let mut sdk = Driven::start(language, &self.url, API_KEY).await;
        assert_eq!(sdk.receives("ready").await, true);
        for expected in EXPECTED {
            for flag in FLAGS {
                let answer = sdk.answers(&format!("evaluate {flag} {}", expected.0), "value").await;
                assert_eq!(answer, value(flag, expected), "{flag} for {}", expected.0);
            }
        }
        sdk
    }

    /// Starts a server SDK, and checks that it has flags.
    pub(crate) async fn begins_with_anything(&self, language: Language) -> Driven {
        let mut sdk = Driven::start(language, &self.url, API_KEY).await;
        assert_eq!(sdk.receives("ready").await, true);
        let (ada, dark_mode, ..) = EXPECTED[0];
        assert_eq!(sdk.answers(&format!("evaluate dark-mode {ada}"), "value").await, json!(dark_mode));
        sdk
    }

    /// Checks that changes arrive by stream: of a flag, of a segment, deletions.
    pub(crate) async fn receives_changes(&self, sdk: &mut Driven) {
        let version = self.receives_again(sdk, 2).await;
        self.cloud.changes_flag(ENV, &greeting(version + 1, "grüezi"));
        sdk.receives_exactly("changed", "greeting", SOON).await;
        let (ada, two) = (EXPECTED[0].0, EXPECTED[2].0);
        sdk.eventually_answers(&format!("evaluate greeting {two}"), "value", &json!("grüezi")).await;
        self.cloud.changes_segment(ENV, &friends(2, &[]));
        sdk.eventually_answers(&format!("evaluate greeting {ada}"), "value", &json!("grüezi")).await;
        self.cloud.deletes_flag(ENV, "layout");
        sdk.receives_exactly("changed", "layout", SOON).await;
        sdk.eventually_answers(&format!("evaluate layout {ada}"), "value", &json!("default")).await;
    }

    /// Changes a flag until the SDK reports it, which it does once it has a stream. Returns the version.
    pub(crate) async fn receives_again(&self, sdk: &mut Driven, from_version: i64) -> i64 {
        let mut received = false;
        let mut version = from_version;
        let rounds = i64::try_from(WAIT_TIMEOUT.as_secs()).expect("a short time");
        while !received && version < from_version + rounds {
            version += 1;
            let text = format!("hello {version}");
            self.cloud.changes_flag(ENV, &greeting(version, &text));
            // SDKs may still report an older change.
            received = sdk.may_receive("changed", "greeting", Duration::from_secs(1)).await
                && sdk.answers(&format!("evaluate greeting {}", EXPECTED[2].0), "value").await == text;
        }
        assert!(received, "no change was received");
        version
    }

    /// Checks that metrics of evaluations are sent upstream.
    pub(crate) async fn posts_metrics(&self, sdk: &mut Driven, sdk_language: &str, target: Option<&str>) {
        sdk.answers("flush", "done").await;
        let attribute = |data: &Value, key: &str| {
            let attributes = data["attributes"].as_array().cloned().unwrap_or_default();
            attributes.into_iter().find(|it| it["key"] == key).map(|mut it| it["value"].take())
        };
        let is_counted = |data: &Value| {
            attribute(data, "featureIdentifier") == Some(json!("dark-mode"))
                && attribute(data, "SDK_LANGUAGE") == Some(json!(sdk_language))
                && data["count"].as_u64().is_some_and(|count| count > 0)
        };
        let has = |posted: &Value, list: &str, is_wanted: &dyn Fn(&Value) -> bool| {
            posted[list].as_array().into_iter().flatten().any(is_wanted)
        };
        let path = format!("/metrics/{ENV}");
        until("metrics", || {
            let posted: Vec<_> = self.cloud.posts(&path).iter().map(yardarm_testkit::Recorded::json).collect();
            posted.iter().any(|it| has(it, "metricsData", &is_counted))
                && target.is_none_or(|target| {
                    posted.iter().any(|it| has(it, "targetData", &|it| it["identifier"] == target))
                })
        })
        .await;
        assert!(self.cloud.posts(&path)[0].path.ends_with("?cluster=2"));
    }

    /// Opens a page, and checks its results.
    pub(crate) async fn opens_page(&self) -> Driven {
        let mut page = Driven::start(Language::HarnessBrowser, &self.url, API_KEY).await;
        for expected in EXPECTED {
            self.sets_evaluations_for(expected);
            assert_eq!(page.answers(&format!("open {}", expected.0), "ready").await, true);
            let mut all = json!({});
            for flag in FLAGS {
                all[flag] = value(flag, expected);
                assert_eq!(page.answers(&format!("evaluate {flag}"), "value").await, all[flag], "{flag}");
            }
            assert_eq!(page.answers("all", "all").await, all);
            let target: Value = serde_json::from_str(expected.0).expect("a target");
            let registered = (API_KEY.to_owned(), target);
            until("a target", || self.cloud.registered_targets().contains(&registered)).await;
        }
        page
    }

    /// Checks that the page receives a change. Returns the version.
    pub(crate) async fn updates_page(&self, page: &mut Driven, from_version: i64) -> i64 {
        let mut received = false;
        let mut version = from_version;
        let rounds = i64::try_from(WAIT_TIMEOUT.as_secs()).expect("a short time");
        let (target, dark_mode, _, layout) = EXPECTED[3];
        while !received && version < from_version + rounds {
            version += 1;
            let text = format!("hello {version}");
            self.sets_evaluations_for((target, dark_mode, &text, layout));
            self.cloud.changes_flag(ENV, &greeting(version, &text));
            received = page.may_receive("changed", "greeting", Duration::from_secs(1)).await;
        }
        assert!(received, "no change was received");
        page.eventually_answers("evaluate greeting", "value", &json!(format!("hello {version}"))).await;
        version
    }

    /// Sets the results of the fake, which evaluates nothing; SDKs that evaluate themselves do not request them.
    fn sets_evaluations_for(&self, expected: (&str, bool, &str, u8)) {
        let target: Value = serde_json::from_str(expected.0).expect("a target");
        let (dark_mode, layout) = (value("dark-mode", expected), value("layout", expected));
        let evaluations = json!({
            "dark-mode": {"kind": "boolean", "identifier": dark_mode.to_string(), "value": dark_mode.to_string()},
            "greeting": {"kind": "string", "identifier": "usual", "value": expected.2},
            "layout": {"kind": "json", "identifier": "one", "value": layout.to_string()},
            "limit": {"kind": "int", "identifier": "some", "value": "2.5"},
        });
        self.cloud.sets_evaluations(ENV, target["identifier"].as_str().expect("an identifier"), &evaluations);
    }
}

async fn a_server_sdk_lives_through_everything(language: Language, sdk_language: &str) {
    if !language.is_installed() {
        return;
    }
    let cloud = cloud().await;
    let place = Place::at(&cloud, cloud.url());
    let mut sdk = place.begins(language).await;
    place.receives_changes(&mut sdk).await;
    place.posts_metrics(&mut sdk, sdk_language, Some("ada")).await;

    // The server stops and starts again at the same address.
    cloud.hangs_up().await;
    let two = EXPECTED[2].0;
    assert_eq!(sdk.answers(&format!("evaluate greeting {two}"), "value").await, "grüezi");
    cloud.picks_up().await;
    place.receives_again(&mut sdk, 100).await;

    // The last evaluations are reported at the end, but not by the Go SDK.
    sdk.answers(&format!("evaluate dark-mode {two}"), "value").await;
    let before = cloud.posts(&format!("/metrics/{ENV}")).len();
    sdk.close().await;
    if language == Language::HarnessGo {
        return;
    }
    until("the last metrics", || cloud.posts(&format!("/metrics/{ENV}")).len() > before).await;
}

async fn a_server_sdk_lives_behind_the_gateway(language: Language, sdk_language: &str) {
    if !language.is_installed() {
        return;
    }
    let cloud = cloud().await;
    let gateway = gateway(&cloud).await;
    let url = gateway.url();
    let place = Place::at(&cloud, url);
    let mut sdk = place.begins(language).await;
    place.receives_changes(&mut sdk).await;
    place.posts_metrics(&mut sdk, sdk_language, Some("ada")).await;

    // The gateway stops and starts again at the same address.
    let gateway = gateway.restarted().await;
    let two = EXPECTED[2].0;
    assert_eq!(sdk.answers(&format!("evaluate greeting {two}"), "value").await, "grüezi");
    place.receives_again(&mut sdk, 100).await;

    // Upstream stops, and clients are not affected.
    cloud.hangs_up().await;
    let late = place.begins_with_anything(language).await;
    late.close().await;
    cloud.picks_up().await;
    place.receives_again(&mut sdk, 200).await;
    sdk.close().await;
    gateway.stop().await;
}

async fn gateway(cloud: &FakeHarness) -> Running {
    let gateway = Running::before_harness(cloud, &[API_KEY], "metric_post_interval = \"200ms\"").await;
    gateway.wait_until_ready().await;
    gateway
}

/// F108
#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_lives_behind_the_gateway() {
    a_server_sdk_lives_behind_the_gateway(Language::HarnessNode, "javascript").await;
}

/// F109
#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_lives_behind_the_gateway() {
    a_server_sdk_lives_behind_the_gateway(Language::HarnessPython, "python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_sdk_lives_behind_the_gateway() {
    a_server_sdk_lives_behind_the_gateway(Language::HarnessGo, "go").await;
}

/// F051 for a real SDK: a status after which it retries, and none after which it gives up.
#[tokio::test(flavor = "multi_thread")]
async fn the_go_sdk_waits_for_a_gateway_that_knows_nothing_yet() {
    if !Language::HarnessGo.is_installed() {
        return;
    }
    let cloud = cloud().await;
    cloud.hangs_up().await;
    let gateway = Running::before_harness(&cloud, &[API_KEY], "").await;
    let mut sdk = Driven::start(Language::HarnessGo, &gateway.url(), API_KEY).await;
    let refusal = r#"code="500",envID="",method="POST",url="/client/auth""#;
    let refused = async {
        while !gateway.answers(&Call::get("/metrics")).await.text().contains(refusal) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("a refusal", refused).await;
    cloud.picks_up().await;
    assert_eq!(sdk.receives("ready").await, true);
    let (ada, dark_mode, ..) = EXPECTED[0];
    assert_eq!(sdk.answers(&format!("evaluate dark-mode {ada}"), "value").await, json!(dark_mode));
    sdk.close().await;
    gateway.stop().await;
}

/// F110
#[tokio::test(flavor = "multi_thread")]
async fn the_browser_sdk_lives_behind_the_gateway() {
    if !Language::HarnessBrowser.is_installed() {
        return;
    }
    let cloud = cloud().await;
    let gateway = gateway(&cloud).await;
    let place = Place::at(&cloud, gateway.url());
    let mut page = place.opens_page().await;
    let version = place.updates_page(&mut page, 2).await;
    place.posts_metrics(&mut page, "JavaScript", None).await;
    let gateway = gateway.restarted().await;
    page.answers("later 31", "done").await;
    place.updates_page(&mut page, version).await;
    page.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_lives_through_everything() {
    a_server_sdk_lives_through_everything(Language::HarnessNode, "javascript").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_lives_through_everything() {
    a_server_sdk_lives_through_everything(Language::HarnessPython, "python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_sdk_lives_through_everything() {
    a_server_sdk_lives_through_everything(Language::HarnessGo, "go").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_sdk_lives_through_everything() {
    if !Language::HarnessBrowser.is_installed() {
        return;
    }
    let cloud = cloud().await;
    let place = Place::at(&cloud, cloud.url());
    let mut page = place.opens_page().await;
    let version = place.updates_page(&mut page, 2).await;
    place.posts_metrics(&mut page, "JavaScript", None).await;

    // The server stops and starts again at the same address. The SDK takes up to 30 seconds to retry.
    cloud.hangs_up().await;
    assert_eq!(page.answers("evaluate greeting", "value").await, format!("hello {version}"));
    cloud.picks_up().await;
    page.answers("later 31", "done").await;
    place.updates_page(&mut page, version).await;
    page.close().await;
}
