//! A background task that keeps the newest state of an environment on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use yardarm_core::supervisor::{Supervised, blocking};
use yardarm_core::{Backoff, InternalError, Lifecycle};

use crate::persisted::snapshot_file::SnapshotFile;

/// Changes within this time are written at once.
const SETTLE: Duration = Duration::from_millis(250);
/// Delay after the first failed write, so that a full disk is not hammered, and the longest delay.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Writes the newest state of one environment. The last change before the end of the process is still written.
pub struct SnapshotWriter<T> {
    newest: watch::Sender<T>,
}

impl<T: Clone + Send + Sync + 'static> SnapshotWriter<T> {
    /// Starts the task that writes. `state` is what the file contains already, or a state not worth writing. After each
    /// change `save` returns the new content of the file; on `None` the file is removed.
    pub fn start<S: Serialize + Send + 'static>(
        file: SnapshotFile,
        lifecycle: &Lifecycle,
        state: T,
        save: impl Fn(&T) -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        let (newest, receiver) = watch::channel(state);
        let (token, failures) = (lifecycle.token().clone(), Failures::new());
        let task = WriteTask { file, newest: receiver, token, save: Arc::new(save), has_failed: false, failures };
        lifecycle.supervise_graceful("snapshot writer", task);
        Self { newest }
    }

    /// Replaces the state and schedules a write.
    pub fn replace(&self, state: T) {
        self.newest.send_replace(state);
    }

    /// Changes the state, and schedules a write if `change` returns true.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        self.newest.send_if_modified(change);
    }
}

/// The task that writes.
struct WriteTask<T, F> {
    file: SnapshotFile,
    newest: watch::Receiver<T>,
    token: CancellationToken,
    save: Arc<F>,
    /// After a failed write the newest state is written again, whether or not it changes.
    has_failed: bool,
    failures: Failures,
}

impl<T, S, F> Supervised for WriteTask<T, F>
where
    T: Clone + Send + Sync + 'static,
    S: Serialize + Send + 'static,
    F: Fn(&T) -> Option<S> + Send + Sync + 'static,
{
    async fn run(&mut self) {
        loop {
            let has_failed = self.has_failed;
            let (is_ending, is_unwritten) = tokio::select! {
                changed = self.newest.changed(), if !has_failed => match changed {
                    Ok(()) => (tokio::time::timeout(SETTLE, self.token.cancelled()).await.is_ok(), true),
                    // The writers are dropped, and their last change has been written.
                    Err(_) => (true, false),
                },
                () = tokio::time::sleep_until(self.failures.next_attempt), if has_failed => (false, true),
                () = self.token.cancelled() => {
                    (true, has_failed || matches!(self.newest.changed().now_or_never(), Some(Ok(()))))
                }
            };
            if is_unwritten {
                self.write().await;
            }
            if is_ending {
                return;
            }
        }
    }

    fn recover(&mut self, _: &InternalError) {
        // The change may have been marked as seen without being written.
        self.has_failed = true;
    }
}

impl<T, S, F> WriteTask<T, F>
where
    T: Clone + Send + Sync + 'static,
    S: Serialize + Send + 'static,
    F: Fn(&T) -> Option<S> + Send + Sync + 'static,
{
    async fn write(&mut self) {
        let (state, file, save) = (self.newest.borrow_and_update().clone(), self.file.clone(), Arc::clone(&self.save));
        // Encoding a large state takes a while and would delay other tasks.
        let write = move || match save(&state) {
            Some(saved) => file.write(&saved),
            None => file.remove(),
        };
        self.has_failed = true;
        match blocking("snapshot writer", write).await {
            Ok(Ok(())) => {
                self.has_failed = false;
                self.failures.recovered(self.file.path());
            }
            Ok(Err(error)) => self.failures.failed(&error.to_string()),
            Err(error) => self.failures.failed(&error.to_string()),
        }
    }
}

/// Rate limit for log lines about failures of one file: one line for the first failure, for each other cause, and for
/// recovery.
struct Failures {
    last: Option<String>,
    pauses: Backoff,
    next_attempt: Instant,
}

impl Failures {
    fn new() -> Self {
        let pauses = Backoff::literal(AFTER_FAILURE, MAX_PAUSE);
        Self { last: None, pauses, next_attempt: Instant::now() }
    }

    fn failed(&mut self, error: &str) {
        self.next_attempt = Instant::now() + self.pauses.next_delay();
        if self.last.as_deref() != Some(error) {
            tracing::error!(error, "data could not be kept on disk; attempts go on");
            self.last = Some(error.to_owned());
        }
    }

    fn recovered(&mut self, file: &Path) {
        self.pauses.reset();
        if self.last.take().is_some() {
            tracing::info!(file = %file.display(), "data is written to disk again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> (tempfile::TempDir, SnapshotFile, Lifecycle, SnapshotWriter<u32>) {
        let folder = tempfile::tempdir().unwrap();
        let (file, lifecycle) = (SnapshotFile::new(folder.path(), "x"), Lifecycle::new());
        let writer = SnapshotWriter::start(file.clone(), &lifecycle, 0, |state| (*state > 0).then_some(*state));
        (folder, file, lifecycle, writer)
    }

    #[tokio::test]
    async fn the_last_change_is_written_before_the_end() {
        let (_folder, file, lifecycle, writer) = setup();
        writer.replace(1);
        writer.change(|state| {
            *state += 1;
            true
        });
        assert!(lifecycle.stop(Duration::from_secs(5)).await);
        assert_eq!(file.read::<u32>().unwrap(), Some(2));
    }

    #[tokio::test]
    async fn unchanged_state_stays_on_disk_and_cleared_state_is_removed() {
        for (is_over, expected) in [(false, Some(9)), (true, None)] {
            let (_folder, file, lifecycle, writer) = setup();
            file.write(&9).unwrap();
            if is_over {
                writer.replace(0);
            }
            assert!(lifecycle.stop(Duration::from_secs(5)).await);
            drop(writer);
            assert_eq!(file.read::<u32>().unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn after_a_panic_the_newest_state_is_written_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (SnapshotFile::new(folder.path(), "x"), CancellationToken::new());
        // The state is marked as seen, as after a panic between seeing a change and writing it.
        let (_writer, newest) = watch::channel(5_u32);
        let failures = Failures::new();
        let save = Arc::new(|state: &u32| Some(*state));
        let mut task =
            WriteTask { file: file.clone(), newest, token: token.clone(), save, has_failed: false, failures };
        token.cancel();
        task.run().await;
        assert_eq!(file.read::<u32>().unwrap(), None, "nothing has changed");
        task.recover(&InternalError { task: "snapshot writer", location: "here".into() });
        task.run().await;
        assert_eq!(file.read::<u32>().unwrap(), Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_after_failures_starts_again_after_a_success() {
        let mut failures = Failures::new();
        let pause = |failures: &mut Failures| {
            failures.failed("disk full");
            failures.next_attempt - Instant::now()
        };
        let pauses: Vec<_> = (0..12).map(|_| pause(&mut failures)).collect();
        assert!(pauses[0] <= AFTER_FAILURE && pauses[11] > MAX_PAUSE / 2, "{pauses:?}");
        failures.recovered(Path::new("e.snapshot"));
        assert_eq!(failures.last, None, "the next failure is logged again");
        assert!(pause(&mut failures) <= AFTER_FAILURE);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_writes_are_retried() {
        let (folder, file, lifecycle, writer) = setup();
        std::fs::remove_dir(folder.path()).unwrap();
        std::fs::write(folder.path(), "in the way").unwrap();
        writer.replace(7);
        tokio::time::sleep(SETTLE * 2).await;
        std::fs::remove_file(folder.path()).unwrap();
        std::fs::create_dir(folder.path()).unwrap();
        while file.read::<u32>().unwrap().is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(file.read::<u32>().unwrap(), Some(7));
        lifecycle.stop(Duration::from_secs(5)).await;
    }
}
