//! The vendor's Rust server SDK, inside the test.

use std::time::Duration;

use launchdarkly_server_sdk::{Client, ConfigBuilder, ContextBuilder, ServiceEndpointsBuilder};
use serde_json::json;
use yardarm_testkit::FakeLaunchDarkly;

use super::{data, flag};
use crate::running::{Running, SDK_KEY};

async fn connect(url: &str) -> Client {
    let endpoints = ServiceEndpointsBuilder::new().relay_proxy(url).clone();
    let config = ConfigBuilder::new(SDK_KEY).service_endpoints(&endpoints).build().expect("a valid configuration");
    let client = Client::build(config).expect("a client");
    client.start_with_default_executor();
    assert_eq!(client.wait_for_initialization(Duration::from_secs(30)).await, Some(true));
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_sdk_sees_changes_and_survives_a_restart() {
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &data());
    let gateway = Running::with_events(&cloud).await;
    let (direct, relayed) = (connect(&cloud.url()).await, connect(&gateway.url()).await);
    for key in ["ada", "eve", "grace"] {
        let context = ContextBuilder::new(key).build().expect("a context");
        for flag in ["greeting", "segmented", "rolled", "unknown"] {
            let ask = |client: &Client| client.str_variation(&context, flag, "default".to_owned());
            assert_eq!(ask(&relayed), ask(&direct), "{flag} for {key}");
        }
    }
    direct.close();

    let ada = ContextBuilder::new("ada").build().expect("a context");
    let greeting = || relayed.str_variation(&ada, "greeting", "default".to_owned());
    cloud.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    gateway.eventually("the change is seen", || greeting() == "good morning").await;
    relayed.track_event(ada.clone(), "bought");
    relayed.flush();
    gateway
        .eventually("the event arrived", || {
            cloud.posts("/bulk").iter().any(|post| post.json().to_string().contains("\"bought\""))
        })
        .await;
    let gateway = gateway.restarted().await;
    cloud.patches(SDK_KEY, &flag("greeting", 3, &json!("good night")));
    gateway.eventually("the change after the restart is seen", || greeting() == "good night").await;
    relayed.close();
    gateway.stop().await;
}
