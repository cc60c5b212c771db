//! A limit of deliveries at a time: each has a slot until its client has received it, or reads too slowly.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// Time that every delivery has, however small it is.
const SLACK: Duration = Duration::from_secs(5);
/// Bytes per second that a client has to read to keep its slot.
const MIN_RATE: u64 = 64 << 10;
/// How often slots of slow readers are looked for while a delivery waits.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// The slots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeliveryLimit(Arc<Slots>);

/// A slot, which the next delivery gets once this is dropped.
#[derive(Debug)]
pub struct DeliverySlot {
    slots: Arc<Slots>,
    key: SlotKey,
    has_begun: bool,
}

/// There is no slot, and no room to wait for one.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too many deliveries are in progress")]
pub struct TooManyDeliveries;

/// Counts of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Slots in use.
    pub held: u64,
    /// Deliveries that wait for a slot.
    pub waiting: u64,
    /// Deliveries that got a slot since the start.
    pub admitted: u64,
    /// Deliveries that were refused since the start.
    pub refused: u64,
    /// Slots that were taken from slow readers since the start. Their deliveries went on.
    pub overdue: u64,
}

/// When a slot is overdue, and a number that distinguishes it.
type SlotKey = (Instant, u64);

#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    /// Room to wait.
    places: Semaphore,
    max_waiting: usize,
    /// Longest time of a delivery.
    timeout: Duration,
    /// The soonest overdue first.
    held: Mutex<BTreeMap<SlotKey, OwnedSemaphorePermit>>,
    admitted: AtomicU64,
    refused: AtomicU64,
    overdue: AtomicU64,
}

impl DeliveryLimit {
    /// Creates `slots` slots, with room for `max_waiting` deliveries that wait. A slot is free again after `timeout` at the
    /// latest.
    #[must_use]
    pub fn new(slots: usize, max_waiting: usize, timeout: Duration) -> Self {
        Self(Arc::new(Slots {
            free: Arc::new(Semaphore::new(slots)),
            places: Semaphore::new(max_waiting),
            max_waiting,
            timeout,
            held: Mutex::default(),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
        }))
    }

    /// Returns a slot, after a time in the queue if none is free.
    ///
    /// # Errors
    /// When there is no room to wait either.
    pub async fn acquire(&self) -> Result<DeliverySlot, TooManyDeliveries> {
        let slots = &self.0;
        slots.take_overdue();
        if let Ok(permit) = Arc::clone(&slots.free).try_acquire_owned() {
            return Ok(slots.admit(permit));
        }
        let Ok(_place) = slots.places.try_acquire() else {
            slots.refused.fetch_add(1, Ordering::Relaxed);
            return Err(TooManyDeliveries);
        };
        let mut permit = pin!(Arc::clone(&slots.free).acquire_owned());
        loop {
            tokio::select! {
                permit = &mut permit => {
                    // The semaphore is never closed.
                    return permit.map(|permit| slots.admit(permit)).map_err(|_| TooManyDeliveries);
                }
                () = sleep(SWEEP_INTERVAL) => slots.take_overdue(),
            }
        }
    }

    /// Returns the counts for metrics.
    #[must_use]
    pub fn report(&self) -> DeliveryReport {
        let slots = &self.0;
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        DeliveryReport {
            held: slots.held.lock().len() as u64,
            waiting: (slots.max_waiting - slots.places.available_permits()) as u64,
            admitted: count(&slots.admitted),
            refused: count(&slots.refused),
            overdue: count(&slots.overdue),
        }
    }
}

impl Slots {
    fn admit(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> DeliverySlot {
        let number = self.admitted.fetch_add(1, Ordering::Relaxed);
        let key = (Instant::now() + self.timeout, number);
        self.held.lock().insert(key, permit);
        DeliverySlot { slots: Arc::clone(self), key, has_begun: false }
    }

    /// Frees the slots of deliveries that have taken too long.
    fn take_overdue(&self) {
        let mut held = self.held.lock();
        let now = Instant::now();
        while held.first_entry().is_some_and(|it| it.key().0 <= now) {
            held.pop_first();
            self.overdue.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl DeliverySlot {
    /// Whether the delivery is being written.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Records that `bytes` bytes are going to be written from now on, which limits how long the slot is kept.
    pub fn begin(&mut self, bytes: usize) {
        self.has_begun = true;
        let reading = SLACK + Duration::from_millis(bytes as u64 * 1000 / MIN_RATE);
        let due = Instant::now() + reading;
        if due < self.key.0 {
            let mut held = self.slots.held.lock();
            // Without a permit, the slot is overdue already.
            if let Some(permit) = held.remove(&self.key) {
                self.key.0 = due;
                held.insert(self.key, permit);
            }
        }
    }
}

impl Drop for DeliverySlot {
    fn drop(&mut self) {
        self.slots.held.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(120);

    fn counts(limit: &DeliveryLimit) -> (u64, u64, u64) {
        let DeliveryReport { held, waiting, refused, .. } = limit.report();
        (held, waiting, refused)
    }

    #[tokio::test(start_paused = true)]
    async fn v039_deliveries_wait_in_order_and_are_refused_beyond_the_queue() {
        let limit = DeliveryLimit::new(1, 2, TIMEOUT);
        let first = limit.acquire().await.expect("a free slot");
        let (mut second, mut third) = (Box::pin(limit.acquire()), Box::pin(limit.acquire()));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert!(limit.acquire().await.is_err());
        assert_eq!(counts(&limit), (1, 2, 1));
        drop(first);
        assert!(limit.acquire().await.is_err(), "a free slot belongs to the first of the queue");
        assert!(third.as_mut().now_or_never().is_none());
        let second = second.await.expect("the free slot");
        // A client that is gone gives its place to others.
        drop(third);
        assert_eq!(counts(&limit), (1, 0, 2));
        drop(second);
        assert_eq!(counts(&limit), (0, 0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn v039_slow_readers_lose_their_slots() {
        let limit = DeliveryLimit::new(2, 1, TIMEOUT);
        let (mut slow, silent) = (limit.acquire().await.unwrap(), limit.acquire().await.unwrap());
        slow.begin(1 << 20);
        let start = Instant::now();
        let third = limit.acquire().await.unwrap();
        // A megabyte at 64 KiB per second takes 16 seconds.
        assert_eq!(start.elapsed().as_secs(), 21);
        let fourth = limit.acquire().await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 120);
        assert_eq!(limit.report().overdue, 2);
        // What is dropped late does not free the slot of another delivery.
        drop((slow, silent));
        assert_eq!(limit.report().held, 2);
        drop((third, fourth));
        assert_eq!((limit.report().held, limit.report().admitted), (0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_delivery_has_no_more_time_than_the_limit() {
        let limit = DeliveryLimit::new(1, 1, Duration::from_secs(5));
        let mut slot = limit.acquire().await.unwrap();
        slot.begin(usize::MAX >> 20);
        let start = Instant::now();
        drop(limit.acquire().await.unwrap());
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
