//! Batches of posts on disk that upstream did not take: they are sent again until it does.

use std::time::Duration;

use yardarm_core::Backoff;
use yardarm_core::budget::Trust;

use super::{Delivery, Outbox, QueueKey, Sent};

/// First delay and longest delay between two attempts.
const DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// A batch that is sent again; nothing after it is sent meanwhile.
struct Failing<'a, K: QueueKey, D: Delivery<K>> {
    outbox: &'a Outbox<K, D>,
    trust: Trust,
    number: u64,
}

impl<K: QueueKey, D: Delivery<K>> Outbox<K, D> {
    /// Sends a batch that upstream did not take, until it does; `None` once the outbox closes. Batches that failed side by
    /// side are sent one by one, in their order.
    pub(super) async fn retry(&self, key: &K, batch: &D::Prepared, number: u64, reason: &'static str) -> Option<Sent> {
        let trust = key.trust();
        let mut backoff = Backoff::literal(DELAY, MAX_DELAY);
        let failing = Failing { outbox: self, trust, number };
        let is_first = {
            let mut lane = self.lane(trust);
            lane.failing.insert(number);
            lane.failing.len() == 1
        };
        if is_first {
            tracing::warn!(reason, "events wait on disk until upstream takes them");
        }
        // A batch that was behind another one is sent as soon as that is gone.
        let mut delay = if is_first { backoff.next_delay() } else { Duration::ZERO };
        let sent = loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.closing.is_cancelled() {
                self.lane(trust).is_down = true;
                break None;
            }
            if self.lane(trust).failing.first() != Some(&number) {
                ended.await;
                continue;
            }
            if tokio::time::timeout(delay, self.closing.cancelled()).await.is_ok() {
                continue;
            }
            match self.send(key, batch).await {
                Sent::Later(_) => delay = backoff.next_delay(),
                sent => break Some(sent),
            }
        };
        drop(failing);
        if sent.is_some() && self.lane(trust).failing.is_empty() {
            tracing::info!("upstream takes events again");
        }
        sent
    }

    /// Returns whether a batch of posts on disk need not be tried: the outbox closes, and upstream did not take another
    /// one.
    pub(super) fn is_left_on_disk(&self, trust: Trust) -> bool {
        self.closing.is_cancelled() && self.lane(trust).is_down
    }
}

impl<K: QueueKey, D: Delivery<K>> Drop for Failing<'_, K, D> {
    fn drop(&mut self) {
        self.outbox.lane(self.trust).failing.remove(&self.number);
        self.outbox.ended.notify_waiters();
    }
}
