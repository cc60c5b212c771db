//! How long a guest runs on a processor, without the time for which it waits.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::engine::TICK;

/// Longest time that one poll is charged with. A guest yields at each tick, so a longer poll was not running all the time:
/// the system gave the processor to another thread.
const LONGEST_POLL: Duration = TICK.saturating_mul(2);

/// The time of one call, or of several.
#[derive(Debug, Default)]
pub(crate) struct ProcessorTime(AtomicU64);

impl ProcessorTime {
    /// Runs `future`, and adds the time of its polls. Measured in elapsed time, which takes some 50 ns; the processor time
    /// of the thread would take a system call.
    pub(crate) fn measure<T>(&self, mut future: impl Future<Output = T> + Unpin) -> impl Future<Output = T> {
        poll_fn(move |context| {
            let began = Instant::now();
            let polled: Poll<T> = Pin::new(&mut future).poll(context);
            self.add(began.elapsed().min(LONGEST_POLL));
            polled
        })
    }

    pub(crate) fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_costs_nothing_and_no_poll_costs_more_than_it_can() {
        let time = ProcessorTime::default();
        time.measure(pin!(tokio::time::sleep(Duration::from_secs(5)))).await;
        assert_eq!(time.get(), Duration::ZERO);
        time.measure(pin!(tokio::time::advance(Duration::from_secs(5)))).await;
        assert!(time.get() <= LONGEST_POLL * 2, "{:?}", time.get());
    }
}
