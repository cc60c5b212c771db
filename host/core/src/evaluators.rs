//! Runs evaluations where they do not delay other requests: short ones inline, long ones on separate low-priority
//! threads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::internal_error::InternalError;
use crate::trace::{self, SpanKind};
use crate::workers::{ThreadError, Workers, processors};

/// The longest evaluation, by estimate, that runs on the thread that serves the request.
const MAX_INLINE: Duration = Duration::from_millis(1);
/// Maximum number of long evaluations that run or wait. Further ones are rejected.
const MAX_WAITING: usize = 256;

/// Runs evaluations. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Evaluators {
    shared: Arc<Shared>,
    /// Whether a long evaluation is rejected when too many wait.
    can_refuse: bool,
}

struct Shared {
    workers: Workers,
    waiting: Semaphore,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum EvaluatorError {
    /// Too many evaluations wait.
    #[error("too many evaluations are waiting")]
    Busy,
    /// The evaluation panicked; the panic has been counted and logged.
    #[error(transparent)]
    Failed(#[from] InternalError),
}

impl Evaluators {
    /// Starts one thread per processor.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start() -> Result<Self, ThreadError> {
        Ok(Self::on(Workers::start("yardarm-eval", processors())?))
    }

    /// Creates evaluators that run long evaluations on `workers`.
    #[must_use]
    pub fn on(workers: Workers) -> Self {
        let waiting = Semaphore::new(MAX_WAITING);
        Self { shared: Arc::new(Shared { workers, waiting }), can_refuse: true }
    }

    /// Returns a handle to the same threads whose evaluations are never rejected. For tasks, whose number must be
    /// bounded.
    #[must_use]
    pub fn for_tasks(&self) -> Self {
        Self { can_refuse: false, ..self.clone() }
    }

    /// Runs an evaluation that is estimated to take about `estimate`.
    ///
    /// # Errors
    /// When too many evaluations wait, or when this one panicked on another thread.
    pub async fn run<T: Send + 'static>(
        &self,
        estimate: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EvaluatorError> {
        let _span = trace::child("relay.flags.evaluate", SpanKind::Internal);
        if estimate <= MAX_INLINE {
            return Ok(work());
        }
        let Shared { workers, waiting } = &*self.shared;
        let _waiting = match self.can_refuse {
            true => Some(waiting.try_acquire().map_err(|_| EvaluatorError::Busy)?),
            false => None,
        };
        Ok(workers.run("evaluation", work).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::FutureExt;

    use parking_lot::Mutex;

    use super::*;

    const LONG: Duration = Duration::from_millis(2);

    #[tokio::test]
    async fn short_evaluations_run_inline_and_long_ones_on_workers() {
        let (evaluators, here) = (Evaluators::start().unwrap(), thread::current().id());
        let run = |estimate| evaluators.run(estimate, || thread::current().id());
        assert_eq!(run(MAX_INLINE).now_or_never().expect("at once").unwrap(), here);
        assert_ne!(run(LONG).await.unwrap(), here);
    }

    #[tokio::test]
    async fn requests_are_refused_when_too_many_wait_and_tasks_are_not() {
        let evaluators = Evaluators::start().unwrap();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let mut blocking: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let blocked = Arc::clone(&blocked);
                Box::pin(evaluators.run(LONG, move || blocked.lock().recv()))
            })
            .collect();
        for it in &mut blocking {
            assert!(futures_util::poll!(it).is_pending());
        }
        assert!(matches!(evaluators.run(LONG, || ()).await, Err(EvaluatorError::Busy)));
        assert!(evaluators.run(MAX_INLINE, || ()).await.is_ok());
        let for_tasks = evaluators.for_tasks();
        let mut task = Box::pin(for_tasks.run(LONG, || 7));
        assert!(futures_util::poll!(&mut task).is_pending());
        // The others wait behind it.
        drop((release, blocking));
        assert_eq!(task.await.unwrap(), 7);
        assert!(evaluators.run(LONG, || ()).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let evaluators = Evaluators::start().unwrap();
        assert!(matches!(evaluators.run(LONG, || panic!("on purpose")).await, Err(EvaluatorError::Failed(_))));
        assert_eq!(evaluators.run(LONG, || 7).await.unwrap(), 7);
    }
}
