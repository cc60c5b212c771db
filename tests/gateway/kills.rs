//! A process that is killed at random moments, again and again, while patches arrive: the next one always starts, and
//! serves a state that there was, never an older one than before.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, until};

use crate::flags::{data, flag_with};
use crate::program::{Program, Signal};
use crate::running::{SDK_KEY, Setup};

/// Number of flags. Patches change one after the other.
const FLAGS: i64 = 12;
/// Rounds, unless `KILL_ROUNDS` is set. By hand, a thousand.
const ROUNDS: usize = 8;

fn name(index: i64) -> String {
    format!("flag-{index:02}")
}

/// The version of a flag after a number of patches.
fn version(index: i64, patches: i64) -> i64 {
    1 + (patches + FLAGS - 1 - index) / FLAGS
}

/// A flag of about 1.7 KB.
fn flag(index: i64, patches: i64) -> Value {
    flag_with(&name(index), version(index, patches), json!({"filler": "f".repeat(1500)}))
}

fn everything(patches: i64) -> Value {
    let all: Vec<Value> = (0..FLAGS).map(|it| flag(it, patches)).collect();
    let mut everything = data([], []);
    for flag in all {
        let key = flag["key"].as_str().expect("a key").to_owned();
        everything["flags"][key] = flag;
    }
    everything
}

/// Returns the number of patches after which flags are in this state.
fn patches(flags: &Value) -> i64 {
    let versions: Vec<_> = (0..FLAGS).map(|it| flags[name(it)]["version"].as_i64().expect("a version")).collect();
    let patches = versions.iter().map(|it| it - 1).sum();
    let expected: Vec<_> = (0..FLAGS).map(|it| version(it, patches)).collect();
    assert_eq!(versions, expected, "a state that there was");
    patches
}

fn random(below: u64) -> Duration {
    Duration::from_millis(uuid::Uuid::new_v4().as_u64_pair().0 % below)
}

#[tokio::test]
async fn a_gateway_that_is_killed_at_any_moment_starts_with_its_last_commit() {
    let rounds = std::env::var("KILL_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(ROUNDS);
    let (cloud, dir) = (FakeLaunchDarkly::start().await, TempDir::new().expect("a temporary folder"));
    let store = dir.path().join("data/store.redb");
    Setup::new()
        .set("log.format", "json")
        .set("launchdarkly.init_timeout", "1h")
        .set("launchdarkly.min_reconnect_delay", "50ms")
        .set("data.dir", dir.path().join("data").to_str().expect("a path in UTF-8"))
        .write(&cloud.url(), dir.path());
    let (mut sent, mut known) = (0, 0);
    for round in 0..rounds {
        cloud.puts(SDK_KEY, &everything(sent));
        cloud.comes_back();
        let program = Program::start(dir.path()).await;
        if round == 0 {
            let is_kept = || std::fs::read(&store).is_ok_and(|it| it.windows(9).any(|it| it == b"\"flag-11\""));
            until("the first data on disk", is_kept).await;
        }
        let killed_at = tokio::time::Instant::now() + random(1_500);
        while tokio::time::Instant::now() < killed_at {
            let index = sent % FLAGS;
            sent += 1;
            cloud.patches(SDK_KEY, &flag(index, sent));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        program.signal(Signal::KILL);
        program.ends().await;

        cloud.goes_down();
        let program = Program::start(dir.path()).await;
        let answer = program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
        assert_eq!(answer.status, 200, "round {round}: {:#?}", program.log());
        let served = patches(&answer.json());
        assert!((known..=sent).contains(&served), "round {round}: {served} of {sent} is not older than {known}");
        known = served;
        let problems = ["set aside", "kept on disk; attempts", "internal error"];
        assert!(!problems.iter().any(|it| program.has_logged(it)), "round {round}: {:#?}", program.log());
        // Killed while it starts, or soon after.
        tokio::time::sleep(random(30)).await;
        program.signal(Signal::KILL);
        program.ends().await;
    }
    assert!(known > 0, "patches were kept");
    println!("{rounds} rounds, {sent} patches, the last state after {known}");
}
