//! Low-priority threads for long work on behalf of callers, such as parsing a large post.
//!
//! They run at a lower priority than the threads that serve: on a machine with few processors, a caller that causes
//! much work must not delay short requests of other callers.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::budget::{ByTrust, Trust};
use crate::internal_error::InternalError;
use crate::priority;
use crate::supervisor::carried;

/// Jobs per thread that a queue submits to the pool: the running one and the next.
const HANDED_OVER: usize = 2;

/// A queue to a pool of such threads. Cheap to clone; the threads end with the last clone of all their queues.
#[derive(Debug, Clone)]
pub struct Workers {
    pool: Arc<ThreadPool>,
    /// One permit for each job that may be submitted.
    places: Arc<Semaphore>,
}

/// A value that may take long to free; it is freed on the threads of a pool, wherever it is dropped.
#[derive(Debug, Clone)]
pub struct SlowDrop<T: Default + Send + 'static> {
    value: T,
    workers: Option<Workers>,
}

impl<T: Default + Send + 'static> SlowDrop<T> {
    /// Wraps `value`, which is freed by `workers`, or where it is dropped if there are none.
    pub fn new(value: T, workers: Option<Workers>) -> Self {
        Self { value, workers }
    }
}

impl<T: Default + Send + 'static> Deref for SlowDrop<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Default + Send + 'static> DerefMut for SlowDrop<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Default + Send + 'static> Drop for SlowDrop<T> {
    fn drop(&mut self) {
        if let Some(workers) = &self.workers {
            workers.discard(std::mem::take(&mut self.value));
        }
    }
}

/// The system refused a thread.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// A thread of [`Workers`].
    #[error("the system refuses to start a thread: {0}")]
    Workers(#[from] rayon::ThreadPoolBuildError),
    /// A thread of a [`Background`](crate::Background).
    #[error("the system refuses to start a thread: {0}")]
    Background(#[from] std::io::Error),
}

/// Returns the number of processors that this process may use, at least one.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Workers {
    /// Starts `count` threads called `name`, at least one.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(name: &'static str, count: usize) -> Result<Self, ThreadError> {
        let count = count.max(1);
        let pool = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(move |_| name.to_owned())
            .start_handler(|_| priority::lower())
            // The panic is logged where it is caught; the waiting side sees the channel close.
            .panic_handler(|_| ())
            .build()?;
        Ok(Self { pool: Arc::new(pool), places: Self::places(count) })
    }

    /// Starts a pool for each kind of credential, so that callers wait only for others of their kind. Pools for
    /// untrusted callers leave one processor free, if there is more than one.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn by_trust(name: &'static str) -> Result<ByTrust<Self>, ThreadError> {
        let count = |trust| if trust == Trust::Secret { processors() } else { processors() - 1 };
        let [secret, embedded, public] = Trust::ALL.map(|trust| Self::start(name, count(trust)));
        Ok(ByTrust { secret: secret?, embedded: embedded?, public: public? })
    }

    /// Returns another queue to the same threads. Queues alternate, so that jobs of one queue wait only for a few jobs
    /// of another.
    #[must_use]
    pub fn queue(&self) -> Self {
        Self { places: Self::places(self.pool.current_num_threads()), ..self.clone() }
    }

    fn places(threads: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(HANDED_OVER * threads))
    }

    /// Runs `work` after earlier jobs of this queue, and waits for its result.
    ///
    /// Dropping the future drops a job that waits for a thread; a job that was submitted still runs. The number of
    /// waiting jobs is therefore bounded by the number of callers.
    ///
    /// # Errors
    /// When `work` panicked, which is logged and counted for `task` and the environment of the calling task.
    pub async fn run<T: Send + 'static>(
        &self,
        task: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, InternalError> {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await;
        let (sender, receiver) = oneshot::channel();
        let (work, runtime) = (carried(task, work), Handle::current());
        self.pool.spawn_fifo(move || {
            // The work may start tasks.
            let _context = runtime.enter();
            // The receiver is dropped if the request has ended before its work.
            let _ = sender.send(work());
            drop(place);
        });
        receiver.await.unwrap_or_else(|_| Err(InternalError::process_ends(task)))
    }

    /// Drops `value`, a result of earlier work, on one of the threads: freeing hundreds of thousands of small
    /// allocations takes milliseconds.
    pub fn discard(&self, value: impl Send + 'static) {
        self.pool.spawn_fifo(move || drop(value));
    }
}

#[cfg(test)]
mod tests {

    use parking_lot::Mutex;

    use super::*;
    use crate::Lifecycle;

    #[tokio::test]
    async fn work_runs_in_order_unless_its_caller_is_gone() {
        let workers = Workers::start("test", 1).unwrap();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let done = Arc::new(Mutex::new(Vec::new()));
        let first = workers.run("test work", move || blocked.recv());
        let others = (1..=4).map(|number| {
            let done = Arc::clone(&done);
            workers.run("test work", move || done.lock().push(number))
        });
        let mut all: Vec<_> = others.map(Box::pin).collect();
        let mut first = Box::pin(first);
        assert!(futures_util::poll!(&mut first).is_pending());
        for it in &mut all {
            assert!(futures_util::poll!(it).is_pending());
        }
        // The first of these was submitted, the second waits.
        all.drain(..2);
        assert!(done.lock().is_empty());
        release.send(()).unwrap();
        futures_util::future::join_all(all).await;
        assert_eq!(*done.lock(), [1, 3, 4]);
    }

    #[tokio::test]
    async fn queues_to_the_same_threads_alternate() {
        let workers = Workers::start("test", 1).unwrap();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let done = Arc::new(Mutex::new(Vec::new()));
        let mut first = Box::pin(workers.run("test work", move || blocked.recv()));
        assert!(futures_util::poll!(&mut first).is_pending());
        let other = workers.queue();
        let mut all: Vec<_> = [(&workers, 1), (&workers, 2), (&workers, 3), (&other, 4), (&other, 5)]
            .map(|(queue, number)| {
                let done = Arc::clone(&done);
                Box::pin(queue.run("test work", move || done.lock().push(number)))
            })
            .into();
        for it in &mut all {
            assert!(futures_util::poll!(it).is_pending());
        }
        release.send(()).unwrap();
        futures_util::future::join_all(all).await;
        assert_eq!(*done.lock(), [1, 4, 5, 2, 3]);
    }

    #[test]
    fn pools_of_untrusted_callers_leave_a_processor_free() {
        let processors = std::thread::available_parallelism().unwrap().get();
        let workers = Workers::by_trust("test").unwrap();
        let others = 1.max(processors - 1);
        for (trust, threads) in [(Trust::Secret, processors), (Trust::Embedded, others), (Trust::Public, others)] {
            let workers = workers.get(trust);
            assert_eq!(workers.pool.current_num_threads(), threads, "{trust:?}");
            assert!(Arc::ptr_eq(&workers.queue().pool, &workers.pool));
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_job_and_not_the_thread() {
        let workers = Workers::start("test", 1).unwrap();
        let error = workers.run("test panic", || panic!("on purpose")).await.unwrap_err();
        assert_eq!((error.task, &*error.location != "the process is ending"), ("test panic", true));
        assert_eq!(workers.run("test work", || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn values_are_dropped_by_the_threads() {
        #[derive(Default)]
        struct Dropped(Option<oneshot::Sender<std::thread::ThreadId>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.take().map(|it| it.send(std::thread::current().id()));
            }
        }
        let (workers, here) = (Workers::start("test", 1).unwrap(), std::thread::current().id());
        let (sender, receiver) = oneshot::channel();
        workers.discard(Dropped(Some(sender)));
        assert_ne!(receiver.await.unwrap(), here);
        for (workers, is_here) in [(Some(workers), false), (None, true)] {
            let (sender, receiver) = oneshot::channel();
            drop(SlowDrop::new(Dropped(Some(sender)), workers));
            assert_eq!(receiver.await.unwrap() == here, is_here);
        }
    }

    #[tokio::test]
    async fn work_may_start_tasks() {
        let workers = Workers::start("test", 1).unwrap();
        let (lifecycle, (sender, receiver)) = (Lifecycle::new(), oneshot::channel());
        let start = move || lifecycle.spawn_graceful("test task", async { sender.send(7).unwrap() });
        workers.run("test work", start).await.unwrap();
        assert_eq!(receiver.await, Ok(7));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn worker_threads_have_a_low_priority() {
        let own = priority::current();
        let workers = Workers::by_trust("test").unwrap();
        for trust in Trust::ALL {
            assert_eq!(workers.get(trust).run("test work", priority::current).await.unwrap(), priority::NICENESS);
        }
        assert_eq!(priority::current(), own, "of those threads only");
    }
}
