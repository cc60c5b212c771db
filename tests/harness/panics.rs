//! Panics, made on purpose in the tasks of the Harness side: changes come through afterwards.
#![cfg(debug_assertions)]

use std::time::Duration;

use serde_json::json;
use yardarm_testkit::{FakeHarness, within};

use super::{ENV, KEY, flag, started};
use crate::running::Running;

async fn sequence(gateway: &Running) -> u64 {
    let status = gateway.operator_gets("/api/status").await.json();
    status["environments"][0]["sequence"].as_u64().expect("a number")
}

/// Each task panics, or each place in a task, and a change that is made after that is served.
async fn survives(gateway: &Running, cloud: &FakeHarness, tasks: &[&str]) {
    let known = gateway.panics().await;
    for (version, task) in (10..).zip(tasks) {
        if *task == "apply change" {
            gateway.supervisor.faults().arm(task);
        } else {
            assert!(known.contains_key(*task), "{task} is counted from the start: {known:?}");
            gateway.panics_in(task).await;
        }
        let before = sequence(gateway).await;
        cloud.changes_flag(ENV, &flag("a", version));
        within(&format!("a change after a panic in `{task}`"), async {
            while sequence(gateway).await <= before || !gateway.supervisor.faults().are_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_tasks_of_keys_survive_a_panic() {
    let cloud = super::cloud().await;
    let gateway = started(&cloud, "").await;
    let tasks = ["harness key", "upstream stream", "heartbeat", "metrics", "event filter retries"];
    survives(&gateway, &cloud, &tasks).await;
    gateway.stop().await;
    // In the middle of a change. With one environment it is known whose change it is.
    let gateway = Running::before_harness(&cloud, &[KEY], "").await;
    gateway.is_ready().await;
    survives(&gateway, &cloud, &["apply change"]).await;
    let environment = gateway.operator_gets("/api/status").await.json()["environments"][0].clone();
    let message = environment["last_error"]["message"].as_str().expect("an error").to_owned();
    assert!(message.starts_with("internal error in task `upstream stream`"), "{message}");
    assert_eq!(environment["flags"], json!(2));
    gateway.stop().await;
}
