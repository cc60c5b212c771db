//! The vendor's Rust server SDK. It reports no changes, so the test asks for values until they have changed.

use serde_json::json;
use yardarm_testkit::FakeLaunchDarkly;

use super::driven::{Driven, Language};
use super::{ADA, data, flag};
use crate::running::{Running, SDK_KEY};

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_sees_changes_and_survives_a_restart() {
    if !Language::Rust.is_installed() {
        return;
    }
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &data());
    let gateway = Running::with_events(&cloud).await;
    let mut direct = Driven::start(Language::Rust, &cloud.url(), SDK_KEY).await;
    let mut relayed = Driven::start(Language::Rust, &gateway.url(), SDK_KEY).await;
    assert_eq!(direct.receives("ready").await, true);
    assert_eq!(relayed.receives("ready").await, true);
    for key in ["ada", "eve", "grace"] {
        let context = json!({"kind": "user", "key": key});
        for flag in ["greeting", "segmented", "rolled", "unknown"] {
            let command = format!("evaluate {flag} {context}");
            assert_eq!(relayed.answers(&command, "value").await, direct.answers(&command, "value").await, "{command}");
        }
        let command = format!("all {context}");
        assert_eq!(relayed.answers(&command, "all").await, direct.answers(&command, "all").await, "{command}");
    }
    drop(direct);

    let greeting = format!("evaluate greeting {ADA}");
    cloud.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    relayed.eventually_answers(&greeting, "value", &json!("good morning")).await;
    relayed.answers(&format!("track bought {ADA}"), "done").await;
    relayed.answers("flush", "done").await;
    gateway
        .eventually("the event arrived", || {
            cloud.posts("/bulk").iter().any(|post| post.json().to_string().contains("\"bought\""))
        })
        .await;
    let gateway = gateway.restarted().await;
    cloud.patches(SDK_KEY, &flag("greeting", 3, &json!("good night")));
    relayed.eventually_answers(&greeting, "value", &json!("good night")).await;
    relayed.close().await;
    gateway.stop().await;
}
