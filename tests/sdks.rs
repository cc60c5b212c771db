//! The vendor's own SDKs, unmodified, through the gateway: the results must be the same as without it.
//!
//! All of them run as separate programs (`tests/sdks/`).

mod browser;
mod client;
mod daemon;
pub(crate) mod driven;
mod harness;
mod rust_server;

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly};

pub(crate) use self::driven::browser as installed_browser;
use self::driven::{Driven, Language};
use crate::flags;
use crate::launchdarkly::{context_segment, flags_of_every_kind};
use crate::running::{Running, SDK_KEY, Setup};

const ADA: &str = r#"{"kind":"user","key":"ada","email":"ada@example.com"}"#;
/// A change must reach an SDK within this time.
const SOON: Duration = Duration::from_secs(2);

/// Returns a flag with every property that the vendor's service sends, because some SDKs require them.
pub(crate) fn flag(key: &str, version: i64, value: &Value) -> Value {
    json!({
        "key": key, "version": version, "on": true, "variations": ["other", value], "fallthrough": {"variation": 1},
        "offVariation": 0, "prerequisites": [], "targets": [], "contextTargets": [], "rules": [], "salt": "s",
        "clientSide": true, "clientSideAvailability": {"usingMobileKey": true, "usingEnvironmentId": true},
        "trackEvents": false, "trackEventsFallthrough": false, "debugEventsUntilDate": null, "deleted": false,
    })
}

pub(crate) fn data() -> Value {
    let mut segmented = flag("segmented", 1, &json!("out"));
    segmented["rules"] = json!([{"id": "r", "variation": 0, "trackEvents": false, "clauses": [
        {"attribute": "", "op": "segmentMatch", "values": ["friends"], "negate": false}]}]);
    let mut rolled = flag("rolled", 1, &json!("b"));
    let share = |variation: u8| json!({"variation": variation, "weight": 50000});
    rolled["fallthrough"] = json!({"rollout": {"variations": [share(0), share(1)]}});
    let friends = json!({
        "key": "friends", "version": 1, "included": ["ada"], "excluded": [], "includedContexts": [],
        "excludedContexts": [], "rules": [], "salt": "x", "generation": null, "deleted": false,
    });
    json!({
        "flags": {"greeting": flag("greeting", 1, &json!("hello")), "segmented": segmented, "rolled": rolled},
        "segments": {"friends": friends},
    })
}

async fn an_sdk_lives_through_everything(language: Language) {
    if !language.is_installed() {
        return;
    }
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &data());
    let mut gateway = Running::with_events(&cloud).await;

    let mut direct = Driven::start(language, &cloud.url(), SDK_KEY).await;
    let mut relayed = Driven::start(language, &gateway.url(), SDK_KEY).await;
    assert_eq!(direct.receives("ready").await, true);
    assert_eq!(relayed.receives("ready").await, true);
    for command in [format!("all {ADA}"), r#"all {"kind":"user","key":"eve"}"#.to_owned()] {
        assert_eq!(relayed.answers(&command, "all").await, direct.answers(&command, "all").await, "{command}");
    }
    drop(direct);

    // A patch and a delete, within two seconds.
    cloud.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    assert_eq!(relayed.receives_within("changed", SOON).await, "greeting");
    assert_eq!(relayed.answers(&format!("evaluate greeting {ADA}"), "value").await, "good morning");
    cloud.deletes(SDK_KEY, "/flags/rolled", 9);
    assert_eq!(relayed.receives_within("changed", SOON).await, "rolled");
    assert_eq!(relayed.answers(&format!("evaluate rolled {ADA}"), "value").await, "default");

    // Events arrive.
    relayed.answers(&format!("track bought {ADA}"), "done").await;
    relayed.answers("flush", "done").await;
    gateway
        .eventually("the event arrived", || {
            cloud.posts("/bulk").iter().any(|post| post.json().to_string().contains("\"bought\""))
        })
        .await;

    // Upstream restarts with other data.
    cloud.closes_streams(SDK_KEY);
    assert_eq!(relayed.answers(&format!("evaluate greeting {ADA}"), "value").await, "good morning");
    gateway.eventually("upstream is connected again", || cloud.open_streams(SDK_KEY) > 0).await;
    cloud.patches(SDK_KEY, &flag("greeting", 3, &json!("good evening")));
    relayed.eventually_answers(&format!("evaluate greeting {ADA}"), "value", &json!("good evening")).await;

    // The gateway itself restarts, at the same address.
    gateway = gateway.restarted().await;
    cloud.patches(SDK_KEY, &flag("greeting", 4, &json!("good night")));
    relayed.eventually_answers(&format!("evaluate greeting {ADA}"), "value", &json!("good night")).await;
    relayed.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_lives_through_everything() {
    an_sdk_lives_through_everything(Language::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_lives_through_everything() {
    an_sdk_lives_through_everything(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_sdk_lives_through_everything() {
    an_sdk_lives_through_everything(Language::Go).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_and_an_evaluation_agree_on_every_flag() {
    if !Language::Node.is_installed() {
        return;
    }
    let gateway = Setup::with(flags::data(flags_of_every_kind(), [])).start().await;
    let mut sdk = Driven::start(Language::Node, &gateway.url(), SDK_KEY).await;
    assert_eq!(sdk.receives("ready").await, true);
    for context in [r#"{"kind":"user","key":"a"}"#, ADA, r#"{"kind":"multi","org":{"key":"a"},"user":{"key":"é"}}"#] {
        let state = sdk.answers(&format!("state {context}"), "state").await;
        let path = format!("/sdk/evalx/contexts/{}?withReasons=true", context_segment(context));
        let results = gateway.answers(&Call::get(path).key(SDK_KEY)).await.json();
        let results = results.as_object().expect("results");
        assert_eq!(results.len(), flags_of_every_kind().len());
        assert_eq!(state["$flagsState"].as_object().map(serde_json::Map::len), Some(results.len()));
        for (key, result) in results {
            let mut expected = state["$flagsState"][key].clone();
            expected["value"] = state[key].clone();
            // A missing variation is `null` in one format and absent in the other.
            expected["variation"] = state["$flagsState"][key]["variation"].clone();
            assert_eq!(*result, expected, "{key} for {context}");
        }
    }
    sdk.close().await;
    gateway.stop().await;
}

/// L267, L268 and V029, with a released SDK and default settings of the gateway.
async fn an_sdk_lives_on_objects(language: Language, reference: Language) {
    if !language.is_installed() {
        return;
    }
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &data());
    let setup = || Setup::new().cloud(&cloud);
    let mut gateway = setup().start().await;
    let mut direct = Driven::start(reference, &cloud.url(), SDK_KEY).await;
    let mut relayed = Driven::start(language, &gateway.url(), SDK_KEY).await;
    assert_eq!(direct.receives("ready").await, true);
    assert_eq!(relayed.receives("ready").await, true, "{language:?}");
    let all = format!("all {ADA}");
    assert_eq!(relayed.answers(&all, "all").await, direct.answers(&all, "all").await, "{language:?}");
    drop(direct);
    let value = format!("evaluate greeting {ADA}");
    cloud.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    relayed.eventually_answers(&value, "value", &json!("good morning")).await;
    cloud.deletes(SDK_KEY, "/flags/rolled", 9);
    relayed.eventually_answers(&format!("evaluate rolled {ADA}"), "value", &json!("default")).await;
    // The gateway restarts, at the same address; the SDK's state is still valid.
    gateway = gateway.restarted().await;
    cloud.patches(SDK_KEY, &flag("greeting", 3, &json!("good night")));
    relayed.eventually_answers(&value, "value", &json!("good night")).await;
    relayed.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_takes_objects_by_stream() {
    an_sdk_lives_on_objects(Language::NodeObjects("streaming"), Language::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sdk_takes_objects_by_poll_and_stream() {
    an_sdk_lives_on_objects(Language::NodeObjects("standard"), Language::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_takes_objects_by_stream() {
    an_sdk_lives_on_objects(Language::PythonObjects("streaming"), Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_takes_objects_by_poll_and_stream() {
    an_sdk_lives_on_objects(Language::PythonObjects("standard"), Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_sdk_takes_objects_by_stream() {
    an_sdk_lives_on_objects(Language::GoObjects("streaming"), Language::Go).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_sdk_takes_objects_by_poll_and_stream() {
    an_sdk_lives_on_objects(Language::GoObjects("standard"), Language::Go).await;
}
