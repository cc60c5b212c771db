//! The Harness side from outside: requests to upstream and responses to SDKs. `F…` are rows of
//! `docs/compatibility/harness.md`.

mod bad_data;
mod depth;
mod downstream;
mod ff_proxy;
mod metrics;
mod offline;
mod outages;
mod panics;
mod plugins;
mod prometheus;
mod proxy_key;
mod read_replica;
mod redirects;
mod redis;
mod restart;
mod stream_bytes;
mod streams;
mod tokens;
mod tolerance;
mod upstream;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, SseClient};

use crate::running::Running;
use crate::sdk::Sdk;

const ENV: &str = "0a1b2c3d-4e5f-4000-8000-000000000001";
const KEY: &str = "0a1b2c3d-4e5f-4000-8000-00000000aaaa";
const OTHER_ENV: &str = "0a1b2c3d-4e5f-4000-8000-000000000002";
const OTHER_KEY: &str = "0a1b2c3d-4e5f-4000-8000-00000000bbbb";

fn flag(identifier: &str, version: i64) -> Value {
    let variation = |name: &str| json!({"identifier": name, "name": name, "value": name});
    json!({
        "project": "shop", "environment": "prod", "feature": identifier, "state": "on", "kind": "boolean",
        "defaultServe": {"variation": "true"}, "offVariation": "false",
        "variations": [variation("true"), variation("false")], "rules": [], "prerequisites": [],
        "variationToTargetMap": [], "version": version,
    })
}

fn segment(identifier: &str, version: i64) -> Value {
    let clause = |attribute: &str| json!({"id": attribute, "attribute": attribute, "op": "equal", "negate": false, "values": ["x"]});
    json!({
        "identifier": identifier, "name": identifier, "environment": "prod", "version": version,
        "included": [{"identifier": "ada", "name": "", "account": "", "org": "", "environment": "", "project": ""}],
        "excluded": [], "rules": [clause("plan")],
        "servingRules": [{"ruleId": "s", "priority": 1, "clauses": [clause("plan"), clause("city")]}],
    })
}

/// Starts a fake with two environments; the first has two flags and a segment.
async fn cloud() -> FakeHarness {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [KEY]);
    cloud.adds_environment(OTHER_ENV, "test", [OTHER_KEY]);
    cloud.puts(ENV, [flag("b", 1), flag("a", 2)], [segment("s", 1)]);
    cloud.puts(OTHER_ENV, [flag("other", 1)], []);
    cloud
}

async fn started(cloud: &FakeHarness, more: &str) -> Running {
    let gateway = Running::before_harness(cloud, &[KEY, OTHER_KEY], more).await;
    gateway.wait_until_ready().await;
    gateway
}

/// Exchanges a key for a token, the first request of an SDK.
async fn token(gateway: &Running, key: &str) -> String {
    let answer = gateway.answers(&Call::post("/client/auth", json!({ "apiKey": key }).to_string())).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    format!("Bearer {}", answer.json()["authToken"].as_str().expect("a token"))
}

/// Opens a stream with the framing of this vendor.
async fn listens(gateway: &Running, key: &str) -> Sdk {
    let call = Call::get("/stream?cluster=1").key(&token(gateway, key).await).header("API-Key", key);
    let opens = async {
        loop {
            let client = SseClient::open(gateway.address, &call).await.with_framed_comments();
            // The gateway is ready once it has data; the stream from upstream may be opened a moment later.
            if client.head().status != 503 {
                return Sdk::new(client, &call);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    yardarm_testkit::within("an open stream", opens).await
}

/// Polls a path until the response is as expected; returns the body.
async fn eventually(gateway: &Running, call: &Call, what: &str, is_wanted: impl Fn(u16, &Value) -> bool) {
    let asks = async {
        loop {
            let answer = gateway.answers(call).await;
            if is_wanted(answer.status, &answer.json()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    yardarm_testkit::within(what, asks).await;
}
