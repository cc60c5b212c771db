//! Threads that each schedule tasks of their own, for chains of tasks that wake each other.
//!
//! A message of an upstream stream passes through the task of its connection and through the one that reads the stream.
//! On the shared runtime, each step may wake another thread, which costs more than the step itself; here, a thread
//! wakes once per message and does all of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::supervisor::Supervisor;

/// Such threads. Cheap to clone; they end, with their tasks, when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct TaskThreads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    handles: Box<[Handle]>,
    next: AtomicUsize,
    _end: DropGuard,
}

impl TaskThreads {
    /// Starts `count` threads called `name`, at least one.
    ///
    /// # Errors
    /// When the system refuses a thread, or a resource that its runtime needs.
    pub fn start(name: &'static str, count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        // If one cannot be started, the others end as well.
        let guard = end.clone().drop_guard();
        let handles = (0..count.max(1)).map(|_| start(name, end.clone())).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Shared { handles, next: AtomicUsize::new(0), _end: guard })))
    }

    /// Returns the runtime of one thread, of each in turn.
    #[must_use]
    pub fn next(&self) -> &Handle {
        let index = self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.handles.len();
        &self.0.handles[index]
    }
}

fn start(name: &'static str, end: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().thread_name(name).enable_all().build()?;
    let handle = runtime.handle().clone();
    let mut runtime = Some(runtime);
    Supervisor::global().thread("task thread", name, move || {
        if let Some(runtime) = &runtime {
            runtime.block_on(end.cancelled());
        }
        // Blocking work of its tasks must not keep the thread.
        runtime.take().into_iter().for_each(Runtime::shutdown_background);
    })?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn tasks_of_one_runtime_share_a_thread_and_end_with_the_last_owner() {
        let threads = TaskThreads::start("test", 2).unwrap();
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let handle = threads.next().clone();
            let id = || async { thread::current().id() };
            let (one, other) = (handle.spawn(id()).await.unwrap(), handle.spawn(id()).await.unwrap());
            assert_eq!(one, other);
            seen.insert(one);
        }
        assert_eq!(seen.len(), 2, "each in turn");
        let (kept, dropped) = oneshot::channel::<()>();
        threads.next().spawn(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        drop(threads);
        assert!(dropped.await.is_err(), "the task is dropped with its thread");
    }
}
