//! Flag data of the greatest depth and width: it can neither end the process nor delay other requests.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use yardarm_testkit::{Call, FakeLaunchDarkly, within};

use crate::flags::{data, flag, flag_with, segment};
use crate::program::{Program, Signal};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};
use crate::sdk::Sdk;

/// Length of a chain of items.
const DEPTH: usize = 5000;
/// Number of clauses of one rule.
const WIDTH: usize = 20_000;

fn clause(op: &str, values: &[&str]) -> Value {
    json!({"attribute": if op == "segmentMatch" { "" } else { "key" }, "op": op, "values": values, "negate": false})
}

/// Returns a chain of flags: `f0000` has `f0001` as prerequisite, and so on; the last one has none.
fn chained_flags() -> impl Iterator<Item = Value> {
    let name = |number: usize| format!("f{number:04}");
    (0..DEPTH).map(move |number| {
        let needs = json!([{"key": name(number + 1), "variation": 0}]);
        let prerequisites = if number + 1 < DEPTH { needs } else { json!([]) };
        flag_with(&name(number), 1, json!({ "prerequisites": prerequisites }))
    })
}

/// Returns nested segments: `s0000` contains `s0001`, and so on; the last one contains the key in `CTX` or no key.
fn nested_segments() -> impl Iterator<Item = Value> {
    let name = |number: usize| format!("s{number:04}");
    (0..DEPTH).map(move |number| {
        let inner = name(number + 1);
        let clause = if number + 1 < DEPTH { clause("segmentMatch", &[&inner]) } else { clause("in", &["a"]) };
        let mut segment = segment(&name(number), 1);
        segment["rules"] = json!([{"id": "r", "clauses": [clause]}]);
        segment
    })
}

/// Returns a flag that is `false` for contexts that all clauses match.
fn ruled(key: &str, clauses: Vec<Value>) -> Value {
    flag_with(key, 1, json!({"rules": [{"id": "r", "variation": 1, "trackEvents": false, "clauses": clauses}]}))
}

fn deep_data() -> Value {
    // No two are equal, and all of them match except the last one of the second rule.
    let hit: Vec<Value> = (0..WIDTH).map(|number| clause("in", &[&number.to_string(), "a"])).collect();
    let mut miss = hit.clone();
    miss[WIDTH - 1] = clause("in", &["b"]);
    let flags = [
        ruled("member", vec![clause("segmentMatch", &["s0000"])]),
        ruled("wide-hit", hit),
        ruled("wide-miss", miss),
        flag("plain", 1),
    ];
    data(chained_flags().chain(flags), nested_segments())
}

/// A separate program, so that a stack overflow does not end the tests.
struct Place {
    cloud: FakeLaunchDarkly,
    program: Program,
    _dir: TempDir,
}

impl Place {
    async fn new() -> Self {
        let (cloud, dir) = (FakeLaunchDarkly::start().await, TempDir::new().expect("a temporary folder"));
        let setup = Setup::with(deep_data()).set("log.format", "json").set("launchdarkly.client_streams", "evaluated");
        // A second environment, whose users must not be affected.
        let other = json!({"name": "other", "sdk_key": "sdk-other"});
        let setup = setup.environments([crate::running::main_environment(), other]);
        let mut setup = setup.data("sdk-other", data([flag("plain", 1)], []));
        setup.fill(&cloud);
        setup.write(&cloud.url(), dir.path());
        let program = Program::start(dir.path()).await;
        within("`/ready`", program.wait_until_ready()).await;
        Self { cloud, program, _dir: dir }
    }

    async fn evaluated(&self, call: &Call) -> Value {
        let answer = within("an evaluation", self.program.answers(call)).await;
        assert_eq!(answer.status, 200, "{call}");
        answer.json()
    }
}

/// Returns a request of each kind of SDK.
fn calls() -> [Call; 3] {
    [
        Call::get(format!("/sdk/evalx/contexts/{CTX}?withReasons=true")).key(SDK_KEY),
        Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY),
        Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}")),
    ]
}

/// Returns whether all flags of the chain have this value, and the others theirs.
fn is_as_expected(all: &Value, chained: bool, is_member: bool) -> bool {
    let all = all.as_object().expect("an object");
    let of_chain = all.iter().filter(|(key, _)| key.starts_with('f'));
    let others = [("member", !is_member), ("wide-hit", false), ("wide-miss", true), ("plain", true)];
    of_chain.clone().count() == DEPTH
        && of_chain.into_iter().all(|(_, it)| it["value"] == chained)
        && others.into_iter().all(|(key, value)| all[key]["value"] == value)
}

#[tokio::test]
async fn deep_data_is_evaluated_streamed_and_dropped() {
    let place = Place::new().await;
    let start = Instant::now();
    for call in calls() {
        assert!(is_as_expected(&place.evaluated(&call).await, true, true), "{call}");
    }
    // A stream of results shows the effect of the innermost items on all others.
    let call = Call::get(format!("/meval/{CTX}")).key(MOBILE_KEY);
    let mut phone = Sdk::new(yardarm_testkit::SseClient::open(place.program.address, &call).await, &call);
    assert!(is_as_expected(&phone.receives_event("put").await, true, true));
    place.cloud.patches(SDK_KEY, &flag_with("f4999", 2, json!({"on": false})));
    assert!(is_as_expected(&phone.receives_event("put").await, false, true), "the end of the chain is off");
    let mut innermost = segment("s4999", 2);
    innermost["rules"] = json!([{"id": "r", "clauses": [clause("in", &["b"])]}]);
    place.cloud.patches_segment(SDK_KEY, &innermost);
    assert!(is_as_expected(&phone.receives_event("put").await, false, false), "no context is in the innermost segment");
    assert!(is_as_expected(&place.evaluated(&calls()[0]).await, false, false));
    // Cycles through all items.
    let back = json!({"prerequisites": [{"key": "f0000", "variation": 0}]});
    place.cloud.patches(SDK_KEY, &flag_with("f4999", 3, back));
    innermost["rules"] = json!([{"id": "r", "clauses": [clause("segmentMatch", &["s0000"])]}]);
    innermost["version"] = json!(3);
    place.cloud.patches_segment(SDK_KEY, &innermost);
    within("the cycles", async {
        loop {
            let all = place.evaluated(&calls()[0]).await;
            let kind = |key: &str| all[key]["reason"]["errorKind"] == "MALFORMED_FLAG";
            if kind("f0000") && kind("f2500") && kind("f4999") && kind("member") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(30), "even on a slow machine: {:?}", start.elapsed());

    // Everything is removed at once.
    place.cloud.puts(SDK_KEY, &data([flag("last", 1)], []));
    drop(phone);
    within("the end of the deep data", async {
        while place.evaluated(&calls()[0]).await.as_object().is_none_or(|it| it.len() != 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    place.program.signal(Signal::TERM);
    let (status, log) = place.program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[tokio::test]
async fn deep_data_of_one_environment_does_not_delay_others() {
    let place = Place::new().await;
    let expensive = async {
        for _ in 0..4 {
            let calls = calls();
            let all = futures_util::future::join_all(calls.iter().map(|it| place.evaluated(it))).await;
            assert!(all.iter().all(|it| is_as_expected(it, true, true)));
        }
    };
    let cheap = async {
        let call = Call::get(format!("/sdk/evalx/contexts/{CTX}")).key("sdk-other");
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let start = Instant::now();
            assert_eq!(place.evaluated(&call).await["plain"]["value"], true);
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let ((), slowest) = tokio::join!(expensive, cheap);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
