//! Evaluations run where they delay no other request: cheap ones at once, expensive ones on threads of their own, behind
//! those that serve.

use std::sync::Arc;

use tokio::sync::Semaphore;
use yardarm_core::workers::ThreadError;
use yardarm_core::{Snapshot, Workers};

use super::rejection::Rejection;
use crate::dataset::FlagData;
use crate::evaluation::Ruleset;
use crate::model::Target;

/// Comparisons that are made at once, on the thread that serves the request: about a millisecond.
const MAX_INLINE: usize = 20_000;
/// Bytes of attributes that one comparison reads in about the time of one.
const BYTES_PER_COMPARISON: usize = 256;
/// Expensive evaluations under way and waiting for their turn. Those beyond are answered 503.
const MAX_WAITING: usize = 256;

/// Runs evaluations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Evaluators(Arc<Shared>);

struct Shared {
    workers: Workers,
    waiting: Semaphore,
}

impl Evaluators {
    /// Starts a thread per processor.
    pub(crate) fn start() -> Result<Self, ThreadError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = Workers::start("yardarm-eval", threads)?;
        Ok(Self(Arc::new(Shared { workers, waiting: Semaphore::new(MAX_WAITING) })))
    }

    /// Evaluates with `decide`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        snapshot: &Arc<Snapshot<FlagData>>,
        target: &Arc<Target>,
        decide: impl FnOnce(&Ruleset, &Target) -> T + Send + 'static,
    ) -> Result<T, Rejection> {
        let cost = snapshot.data().ruleset().weight().saturating_mul(1 + target.size() / BYTES_PER_COMPARISON);
        if cost <= MAX_INLINE {
            return Ok(decide(snapshot.data().ruleset(), target));
        }
        let Ok(_waiting) = self.0.waiting.try_acquire() else { return Err(Rejection::Busy) };
        let (snapshot, target) = (Arc::clone(snapshot), Arc::clone(target));
        let decided = self.0.workers.run("evaluation", move || decide(snapshot.data().ruleset(), &target)).await;
        decided.map_err(|error| {
            tracing::error!(%error, "an evaluation failed");
            Rejection::Busy
        })
    }
}
