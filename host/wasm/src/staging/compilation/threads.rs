//! Threads that compile at idle priority, so that compilation does not compete with threads that serve.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Time after which urgent compilation leaves idle priority.
pub(super) const URGENT_AFTER: Duration = Duration::from_millis(700);

/// A pool of threads. Wasmtime uses all of them for a compilation that runs on one of them.
pub(super) struct CompilerThreads {
    pool: rayon::ThreadPool,
    ids: Arc<Mutex<Vec<priority::ThreadId>>>,
}

impl CompilerThreads {
    pub(super) fn start(count: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let ids = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&ids);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|_| "yardarm-compile".to_owned())
            .start_handler(move |_| {
                priority::be_idle();
                all.lock().push(priority::this_thread());
            })
            // A panic is logged where it is caught; the waiting side sees the channel close.
            .panic_handler(|_| ())
            .build()?;
        Ok(Self { pool, ids })
    }

    pub(super) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.pool.spawn(work);
    }

    /// Gives all threads normal priority, or idle priority.
    pub(super) fn set_urgent(&self, is_urgent: bool) {
        priority::set_all(self.ids.lock().clone(), is_urgent);
    }
}

#[cfg(target_os = "linux")]
mod priority {
    use thread_priority::unix::{NormalThreadSchedulePolicy, ThreadSchedulePolicy};
    pub(super) use thread_priority::{ThreadId, thread_native_id as this_thread};
    use thread_priority::{ThreadPriority, set_thread_priority_and_policy};
    use yardarm_core::Supervisor;

    /// Gives this thread idle priority.
    pub(super) fn be_idle() {
        set(this_thread(), NormalThreadSchedulePolicy::Idle);
    }

    /// Gives threads normal or idle priority.
    pub(super) fn set_all(threads: Vec<ThreadId>, is_urgent: bool) {
        let policy = if is_urgent { NormalThreadSchedulePolicy::Other } else { NormalThreadSchedulePolicy::Idle };
        // The call also changes the niceness of the calling thread, so it is made on a thread that then ends.
        let set = Supervisor::global().thread("compiler priority", "yardarm-priority", move || {
            threads.iter().for_each(|thread| set(*thread, policy));
        });
        if let Err(error) = set {
            tracing::debug!(%error, "the compiler threads keep their priority");
        }
    }

    fn set(thread: ThreadId, policy: NormalThreadSchedulePolicy) {
        let policy = ThreadSchedulePolicy::Normal(policy);
        if let Err(error) = set_thread_priority_and_policy(thread, ThreadPriority::Min, policy) {
            tracing::debug!(?error, "the compiler thread keeps its priority");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod priority {
    pub(super) type ThreadId = ();

    pub(super) fn this_thread() {}

    pub(super) fn be_idle() {}

    pub(super) fn set_all(_: Vec<ThreadId>, _: bool) {}
}
