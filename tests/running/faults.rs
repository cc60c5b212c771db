//! Injected panics, and the gateway's counts of them.
#![cfg(debug_assertions)]

use std::collections::BTreeMap;
use std::time::Duration;

use yardarm::Supervisor;
use yardarm_testkit::within;

use super::Running;

impl Running {
    /// Returns panics by task, from the metric.
    pub(crate) async fn panics(&self) -> BTreeMap<String, u64> {
        let text = self.operator_gets("/metrics").await.text().to_owned();
        let lines = text.lines().filter_map(|line| line.strip_prefix("yardarm_task_panics_total{task=\""));
        let counts = lines.filter_map(|line| line.split_once("\"} "));
        counts.map(|(task, count)| (task.to_owned(), count.parse().expect("a number"))).collect()
    }

    /// Makes a task panic, and waits until that is counted.
    pub(crate) async fn panics_in(&self, task: &str) {
        let before = self.panics().await.get(task).copied().unwrap_or(0);
        // The clock belongs to the process, and may be that of another test.
        let supervisor = if task == "plugin clock" { Supervisor::global() } else { &self.supervisor };
        supervisor.faults().arm(task);
        self.counts_a_panic(task, before).await;
    }

    /// Waits until more panics than before are counted.
    pub(crate) async fn counts_a_panic(&self, task: &str, before: u64) {
        within(&format!("a panic in `{task}` to be counted"), async {
            while self.panics().await.get(task).copied().unwrap_or(0) <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
