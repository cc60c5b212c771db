use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::Lifecycle;
use crate::status::{Connection, ErrorKind};

/// Counts its runs, and panics in all but the last.
struct Stumbling {
    runs: u32,
    recovered: Vec<String>,
    done: Option<tokio::sync::oneshot::Sender<(u32, Vec<String>)>>,
}

impl Supervised for Stumbling {
    async fn run(&mut self) {
        self.runs += 1;
        tokio::task::yield_now().await;
        assert!(self.runs == 3, "secret-{}", self.runs);
        if let Some(done) = self.done.take() {
            let _ = done.send((self.runs, std::mem::take(&mut self.recovered)));
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.recovered.push(error.to_string());
    }
}

fn panics_of(supervisor: &Supervisor, task: &str) -> Vec<u64> {
    supervisor.panics().iter().filter(|it| it.task.name == task).map(|it| it.panics).collect()
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_again_with_its_state_and_its_environment_shows_it() {
    let (label, status) = (EnvironmentLabel::new("v", "e"), Status::new());
    status.message_processed();
    let lifecycle = Lifecycle::new().for_environment(label.clone(), status.clone());
    let (done, ended) = tokio::sync::oneshot::channel();
    lifecycle.supervise("stumbling", Stumbling { runs: 0, recovered: Vec::new(), done: Some(done) });
    let (runs, recovered) = ended.await.unwrap();
    assert_eq!((runs, recovered.len()), (3, 2));
    assert!(recovered[0].starts_with("internal error in task `stumbling` ("), "{}", recovered[0]);
    let reports = lifecycle.supervisor().panics();
    let report = reports.iter().find(|it| it.task.name == "stumbling").unwrap();
    assert_eq!((report.panics, &report.task.environment), (2, &Some(label)));
    let error = status.current().last_error.unwrap();
    assert_eq!(error.kind, ErrorKind::Unknown);
    assert!(!error.message.contains("secret"), "{}", error.message);
    assert_eq!(status.current().connection, Connection::Valid, "only tasks that keep the connection interrupt it");
    assert!(lifecycle.stop(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn delays_grow_and_the_end_of_the_process_does_not_wait_for_them() {
    let lifecycle = Lifecycle::new();
    let runs = std::sync::Arc::new(AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&runs);
    lifecycle.supervise("poisoned", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { panic!("always") }
    });
    tokio::time::sleep(Duration::from_secs(300)).await;
    let runs = runs.load(Ordering::Relaxed);
    assert!((10..40).contains(&runs), "{runs} runs in five minutes");
    assert!(lifecycle.stop(Duration::from_millis(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_task_that_waits_for_its_restart_still_ends_in_order() {
    let lifecycle = Lifecycle::new();
    let (token, ends) = (lifecycle.token().clone(), std::sync::Arc::new(AtomicU32::new(0)));
    let counted = std::sync::Arc::clone(&ends);
    let mut is_first = true;
    lifecycle.supervise_graceful("last write", move || {
        let (token, counted) = (token.clone(), std::sync::Arc::clone(&counted));
        let panics = std::mem::replace(&mut is_first, false);
        async move {
            assert!(!panics, "once");
            token.cancelled().await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::task::yield_now().await;
    assert!(lifecycle.stop(Duration::from_secs(5)).await);
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn one_shot_tasks_and_blocking_work_are_counted_and_end() {
    let lifecycle = Lifecycle::new();
    let (done, ended) = tokio::sync::oneshot::channel();
    lifecycle.spawn("outer", async move {
        let failed: Result<(), InternalError> = blocking("inner", || panic!("x")).await;
        let _ = done.send(failed.unwrap_err().task);
        panic!("after");
    });
    assert_eq!(ended.await.unwrap(), "inner");
    assert!(lifecycle.stop(Duration::from_secs(5)).await);
    assert_eq!(
        (panics_of(lifecycle.supervisor(), "inner"), panics_of(lifecycle.supervisor(), "outer")),
        (vec![1], vec![1])
    );
    assert_eq!(blocking("fine", || 7).await, Ok(7));
}

#[tokio::test]
async fn what_is_dropped_after_a_panic_may_panic_as_well() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("while it is dropped");
        }
    }
    let lifecycle = Lifecycle::new();
    let mut bomb = Some(Bomb);
    lifecycle.supervise("bomb", move || {
        let bomb = bomb.take();
        async move {
            let _held = bomb;
        }
    });
    while panics_of(lifecycle.supervisor(), "bomb") != [1] {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(lifecycle.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn threads_run_again_unless_they_are_vital() {
    let supervisor = Supervisor::new();
    let (done, ended) = tokio::sync::oneshot::channel();
    let (mut runs, mut done) = (0, Some(done));
    supervisor
        .thread("clock", "test-clock", move || {
            runs += 1;
            assert!(runs > 2, "twice");
            let _ = done.take().map(|it| it.send(runs));
        })
        .unwrap();
    assert_eq!(ended.await, Ok(3));
    assert_eq!(panics_of(&supervisor, "clock"), [2]);
    supervisor.vital_thread("heart", "test-heart", || panic!("once")).unwrap();
    assert_eq!(supervisor.failure().await.task, "heart");
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_waiting_task_panics_when_armed() {
    let lifecycle = Lifecycle::new();
    lifecycle.supervise("idle", std::future::pending::<()>);
    lifecycle.supervisor().faults().arm("idle");
    while panics_of(lifecycle.supervisor(), "idle") != [1] {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(lifecycle.supervisor().faults().are_over());
    assert!(lifecycle.stop(Duration::from_secs(5)).await);
}
