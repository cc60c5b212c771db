//! The deadline of a call: what the guest is charged with, and how long its caller waits.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::UpdateDeadline;

use super::engine::TICK;

/// How much longer than its deadline a call may take on a busy machine: a guest is charged only for the ticks in which
/// it ran, and this bounds the wait of its caller.
const BUSY_ALLOWANCE: Duration = Duration::from_secs(1);

/// The time left to the guest.
pub(super) struct Budget {
    ticks: u32,
    /// When the deadline passes for a guest that is asleep.
    deadline: Instant,
    end: Instant,
    /// Set while the guest yields although it is runnable; a guest that is pending otherwise is asleep.
    yields: Arc<AtomicBool>,
}

/// The deadlines of a call, seen from its caller.
pub(super) struct Deadlines {
    /// For a guest that is asleep.
    soft: Instant,
    /// For a guest that is runnable and does not get the processor.
    hard: Instant,
    yields: Arc<AtomicBool>,
}

/// The guest exceeded its deadline.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the deadline has passed")]
pub(super) struct DeadlinePassed;

/// Returns how long a caller waits for a guest that may run for `deadline`. It is longer, because on a busy machine
/// neither the guest nor those before it in the queue run all the time, and waiting is better than a 503.
pub(crate) fn busy_allowance(deadline: Duration) -> Duration {
    deadline * 4 + BUSY_ALLOWANCE
}

impl Budget {
    pub(super) fn new(deadline: Duration) -> Self {
        let now = Instant::now();
        let mut budget = Self { ticks: 0, deadline: now, end: now, yields: Arc::default() };
        budget.renew(deadline, now);
        budget
    }

    /// Begins a call at `now`.
    pub(super) fn renew(&mut self, deadline: Duration, now: Instant) -> Deadlines {
        self.ticks = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).max(1);
        self.deadline = now + deadline;
        self.end = now + busy_allowance(deadline);
        Deadlines { soft: self.deadline + TICK, hard: self.end, yields: Arc::clone(&self.yields) }
    }

    /// Returns the time until the deadline.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Returns when the caller stops waiting for a guest that does not get the processor.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Called once per tick while the guest runs: stops it, or yields.
    pub(super) fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        if self.ticks == 0 {
            return Err(DeadlinePassed.into());
        }
        self.ticks -= 1;
        let yields = Arc::clone(&self.yields);
        yields.store(true, Ordering::Relaxed);
        let others_first = async move {
            tokio::task::yield_now().await;
            yields.store(false, Ordering::Relaxed);
        };
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(others_first)))
    }
}

impl Deadlines {
    /// Waits for a call; returns `None` if it took too long.
    pub(super) async fn wait<T>(self, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        match within(self.soft, call.as_mut()).await {
            Some(answer) => Some(answer),
            None if self.yields.load(Ordering::Relaxed) => within(self.hard, call).await,
            None => None,
        }
    }
}

/// Waits for `future` until `end`; returns `None` if it is not ready then. Most guests never wait, and need no timer.
pub(super) fn within<T>(
    end: Instant,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Option<T>> {
    let mut timer = None;
    poll_fn(move |context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::task::unconstrained(tokio::time::sleep_until(end))));
        timer.as_mut().poll(context).map(|()| None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadlines(yields: bool) -> Deadlines {
        let now = Instant::now();
        let yields = Arc::new(AtomicBool::new(yields));
        Deadlines { soft: now + Duration::from_millis(5), hard: now + Duration::from_millis(500), yields }
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_sleeps_is_not_waited_for_as_long_as_one_without_a_processor() {
        let busy = || tokio::time::sleep(Duration::from_millis(100));
        assert_eq!(deadlines(false).wait(busy()).await, None);
        assert_eq!(deadlines(true).wait(busy()).await, Some(()));
        let began = Instant::now();
        assert_eq!(deadlines(true).wait(std::future::pending::<()>()).await, None);
        assert_eq!(began.elapsed().as_millis(), 500);
    }

    #[test]
    fn a_guest_is_charged_by_the_tick() {
        let mut budget = Budget::new(Duration::from_millis(3));
        assert!((0..3).all(|_| budget.tick().is_ok()));
        assert!(budget.tick().is_err());
        budget.renew(Duration::from_micros(1), Instant::now());
        assert!(budget.tick().is_ok());
    }
}
