//! How many components are compiled at a time.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Files up to this size take effect within two seconds.
pub(super) const SMALL_FILE: usize = 1 << 20;
/// A file with a function of more bytes times local variables may take long, however small it is. The main loop of an
/// interpreter has as much.
const SMALL_COMPLEXITY: u64 = 32 << 20;

/// One large and one small component at a time, so that small ones overtake large ones.
pub(super) struct Lanes {
    small: Semaphore,
    large: Semaphore,
}

/// The permission to compile one component.
pub(super) struct Turn<'a> {
    /// Whether others were first.
    pub(super) has_waited: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { small: Semaphore::new(1), large: Semaphore::new(1) }
    }
}

impl Lanes {
    /// Waits until a component may be compiled, in the order of arrival within its lane.
    pub(super) async fn enter(&self, size: usize, complexity: u64) -> Turn<'_> {
        let is_small = size <= SMALL_FILE && complexity <= SMALL_COMPLEXITY;
        let lane = if is_small { &self.small } else { &self.large };
        if let Ok(permit) = lane.try_acquire() {
            return Turn { has_waited: false, _permit: Some(permit) };
        }
        // The semaphores are never closed.
        Turn { has_waited: true, _permit: lane.acquire().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_waiting(future: std::pin::Pin<&mut impl Future>) -> bool {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
    }

    #[tokio::test]
    async fn small_files_overtake_large_ones_and_the_order_within_a_lane_is_kept() {
        let lanes = Lanes::default();
        let large = lanes.enter(SMALL_FILE + 1, 0).await;
        assert!(!large.has_waited);
        let mut second = pin!(lanes.enter(1, SMALL_COMPLEXITY + 1));
        assert!(is_waiting(second.as_mut()), "a complex function makes a file large");
        let small = lanes.enter(SMALL_FILE, SMALL_COMPLEXITY).await;
        assert!(!small.has_waited);
        let mut third = pin!(lanes.enter(100 << 20, 0));
        assert!(is_waiting(third.as_mut()));
        drop(large);
        assert!(is_waiting(third.as_mut()));
        assert!(second.await.has_waited);
        assert!(third.await.has_waited);
    }
}
