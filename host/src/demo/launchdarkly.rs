//! The demo's LaunchDarkly environment: its flags and their changes over time.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_fake_clouds::FakeLaunchDarkly;

use super::clouds::{BANNERS, COLOURS};

/// Keys of the environment, which are valid for the fake only.
pub(super) const SDK_KEY: &str = "sdk-00000000-demo-demo-demo-000000000001";
pub(super) const MOBILE_KEY: &str = "mob-00000000-demo-demo-demo-000000000002";
pub(super) const ENV_ID: &str = "64c0ffee64c0ffee64c0ffee";

/// Starts a fake with one environment.
pub(super) async fn cloud() -> FakeLaunchDarkly {
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &first());
    cloud
}

/// Returns the initial flag data.
fn first() -> Value {
    json!({
        "flags": {
            "banner-text": banner(1, 0),
            "button-colour": colour(1, 0),
            "new-checkout": checkout(1, 0),
            "internal-debug": flag("internal-debug", 1, json!([true, false]), json!({"variation": 0})),
        },
        "segments": {
            "beta": {"key": "beta", "version": 1, "included": ["ada", "grace"], "excluded": [], "rules": [], "salt": "b"},
        },
    })
}

/// Changes one flag after another, forever.
pub(super) async fn keep_changing(cloud: &FakeLaunchDarkly, interval: Duration) {
    let mut timer = tokio::time::interval(interval);
    timer.tick().await;
    for round in 1_usize.. {
        timer.tick().await;
        let version = round + 1;
        let flag = match round % 3 {
            0 => checkout(version, round),
            1 => banner(version, round),
            _ => colour(version, round),
        };
        cloud.patches(SDK_KEY, &flag);
    }
}

/// Returns a flag that serves one of four texts to all contexts.
fn banner(version: usize, round: usize) -> Value {
    flag("banner-text", version, json!(BANNERS), json!({"variation": round % BANNERS.len()}))
}

/// Returns a flag with a rollout of colours whose weights change over time.
fn colour(version: usize, round: usize) -> Value {
    let first = 20_000 + 10_000 * (round % 5);
    let rest = (100_000 - first) / 2;
    let share = |variation: usize, weight: usize| json!({"variation": variation, "weight": weight});
    let shares = json!([share(0, first), share(1, rest), share(2, 100_000 - first - rest)]);
    flag("button-colour", version, json!(COLOURS), json!({"rollout": {"variations": shares}}))
}

/// Returns a flag that is on for the segment `beta` and periodically for all contexts.
fn checkout(version: usize, round: usize) -> Value {
    let mut flag = flag("new-checkout", version, json!([true, false]), json!({"variation": (round + 1) % 2}));
    flag["rules"] = json!([{
        "id": "beta-users",
        "variation": 0,
        "clauses": [{"attribute": "", "op": "segmentMatch", "values": ["beta"], "negate": false}],
    }]);
    flag
}

fn flag(key: &str, version: usize, variations: Value, fallthrough: Value) -> Value {
    json!({
        "key": key,
        "version": version,
        "on": true,
        "variations": variations,
        "fallthrough": fallthrough,
        "offVariation": 0,
        "prerequisites": [],
        "targets": [],
        "rules": [],
        "salt": key,
        "clientSideAvailability": {"usingMobileKey": true, "usingEnvironmentId": true},
    })
}
