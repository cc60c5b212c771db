//! The demo's Harness environment: its flags and their changes over time.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_fake_clouds::FakeHarness;

use super::clouds::{BANNERS, COLOURS};

/// Key and ID of the environment, which are valid for the fake only.
pub(super) const API_KEY: &str = "00000000-demo-4000-8000-000000000003";
pub(super) const ENVIRONMENT: &str = "00000000-0000-4000-8000-000000000004";

/// Starts a fake with one environment.
pub(super) async fn cloud(name: &str) -> FakeHarness {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENVIRONMENT, name, [API_KEY]);
    cloud.puts(ENVIRONMENT, [banner(1, 0), colour(1, 0), checkout(1)], [beta()]);
    cloud
}

/// Changes one flag after another, forever.
pub(super) async fn keep_changing(cloud: &FakeHarness, interval: Duration) {
    let mut timer = tokio::time::interval(interval);
    timer.tick().await;
    for round in 1_usize.. {
        timer.tick().await;
        let flag = if round % 2 == 0 { banner(round + 1, round) } else { colour(round + 1, round) };
        cloud.changes_flag(ENVIRONMENT, &flag);
    }
}

/// Returns a flag that serves one of four texts to all targets.
fn banner(version: usize, round: usize) -> Value {
    let text = BANNERS[round % BANNERS.len()];
    flag("banner-text", version, &BANNERS, json!({"variation": text}))
}

/// Returns a flag with a rollout of colours whose weights change over time.
fn colour(version: usize, round: usize) -> Value {
    let first = 20 + 10 * (round % 5);
    let share = |colour: &str, weight: usize| json!({"variation": colour, "weight": weight});
    let rest = (100 - first) / 2;
    let shares = json!([share(COLOURS[0], first), share(COLOURS[1], rest), share(COLOURS[2], 100 - first - rest)]);
    let serve = json!({"distribution": {"bucketBy": "identifier", "variations": shares}});
    flag("button-colour", version, &COLOURS, serve)
}

/// Returns a flag that is on for the segment `beta`.
fn checkout(version: usize) -> Value {
    let mut flag = flag("new-checkout", version, &["on", "off"], json!({"variation": "off"}));
    let clause = json!({"id": "beta", "attribute": "", "op": "segmentMatch", "negate": false, "values": ["beta"]});
    flag["rules"] = json!([{"ruleId": "beta", "priority": 1, "clauses": [clause], "serve": {"variation": "on"}}]);
    flag
}

fn beta() -> Value {
    let member =
        |it: &str| json!({"identifier": it, "name": it, "account": "", "org": "", "environment": "", "project": ""});
    json!({
        "identifier": "beta", "name": "Beta", "version": 1, "included": [member("ada"), member("grace")], "excluded": [],
        "rules": [],
    })
}

fn flag(identifier: &str, version: usize, texts: &[&str], serve: Value) -> Value {
    let variations: Vec<_> = texts.iter().map(|it| json!({"identifier": it, "name": it, "value": it})).collect();
    json!({
        "project": "demo", "environment": "demo-harness", "feature": identifier, "state": "on", "kind": "string",
        "variations": variations, "offVariation": texts[0], "defaultServe": serve, "rules": [], "prerequisites": [],
        "variationToTargetMap": [], "version": version,
    })
}
