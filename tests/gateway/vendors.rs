//! One gateway for both vendors: on one listener, or on one each.

use serde_json::json;
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeHarness, FakeLaunchDarkly};

use crate::flags::{data, flag, put};
use crate::program::Program;
use crate::running::{SDK_KEY, harness_toml};

const ENV: &str = "0a1b2c3d-4e5f-4000-8000-000000000001";
const KEY: &str = "0a1b2c3d-4e5f-4000-8000-00000000aaaa";

/// Starts a gateway for both, with more settings of the Harness section.
async fn started(more: &str) -> (Program, FakeLaunchDarkly, FakeHarness, TempDir) {
    let (launchdarkly, harness) = (FakeLaunchDarkly::start().await, FakeHarness::start().await);
    launchdarkly.puts(SDK_KEY, &data([flag("one", 1)], []));
    harness.adds_environment(ENV, "prod", [KEY]);
    let dir = TempDir::new().expect("a folder");
    let toml = format!(
        "log.format = \"json\"\n{}\n[launchdarkly]\nstream_uri = {url:?}\n[[launchdarkly.environments]]\n\
         name = \"main\"\nsdk_key = {SDK_KEY:?}\n",
        harness_toml(dir.path(), &harness, &[KEY], more),
        url = launchdarkly.url(),
    );
    std::fs::write(dir.path().join("yardarm.toml"), toml).expect("a file");
    let program = Program::start(dir.path()).await;
    program.wait_until_ready().await;
    (program, launchdarkly, harness, dir)
}

fn exchange() -> Call {
    Call::post("/client/auth", json!({ "apiKey": KEY }).to_string())
}

fn poll() -> Call {
    Call::get("/sdk/flags").key(SDK_KEY)
}

#[tokio::test]
async fn both_vendors_share_a_listener() {
    let (program, launchdarkly, _harness, _dir) = started("").await;
    assert_eq!(program.answers(&poll()).await.status, 200);
    assert_eq!(program.answers(&exchange()).await.status, 200);
    let mut sdk = program.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(data([flag("one", 1)], []))).await;
    launchdarkly.patches(SDK_KEY, &flag("one", 2));
    sdk.receives_event("patch").await;
    // A path of neither vendor is answered like in LaunchDarkly's relay.
    assert_eq!(program.answers(&Call::get("/nowhere")).await.status, 404);
    let all = program.operator_gets("/api/environments").await.json();
    let vendors: Vec<_> =
        all["environments"].as_array().expect("a list").iter().map(|it| it["vendor"].clone()).collect();
    assert_eq!(vendors, ["launchdarkly", "harness"]);
}

#[tokio::test]
async fn each_vendor_may_have_its_own_listener() {
    let (program, ..) = started("listen = \"127.0.0.1:0\"").await;
    let own = program.log().iter().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["vendor"] == "harness").then(|| line["sdks"].as_str()?.parse().ok())?
    });
    let own = own.expect("the address of Harness' listener");
    assert_eq!(exchange().to(own).await.status, 200);
    assert_eq!(poll().to(own).await.status, 401, "no token of Harness");
    assert_eq!(program.answers(&poll()).await.status, 200);
    assert_eq!(program.answers(&exchange()).await.status, 404, "another listener's");
}
