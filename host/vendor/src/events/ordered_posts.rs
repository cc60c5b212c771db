//! From an accepted post to its queue: posts are filtered concurrently, after their responses, and forwarded in the order
//! in which they were accepted.

use std::sync::Arc;

use yardarm_core::ticket::TicketQueue;
use yardarm_core::{Lifecycle, supervisor};

use super::outbox::{INTERNAL_ERROR, Ledger};
use super::pipeline::FilteredBatch;

/// The posts of one kind of caller in the order of their acceptance.
pub struct OrderedPosts {
    task: &'static str,
    tickets: TicketQueue,
    ledger: Arc<Ledger>,
    lifecycle: Lifecycle,
}

impl OrderedPosts {
    /// Creates the order without posts. Tasks of posts are named `task` in logs and metrics.
    #[must_use]
    pub fn new(task: &'static str, ledger: Arc<Ledger>, lifecycle: &Lifecycle) -> Self {
        Self { task, tickets: TicketQueue::default(), ledger, lifecycle: lifecycle.clone() }
    }

    /// Starts the task of a post: `filter` returns the events to forward, and `forward` is called with them once those of
    /// earlier posts are forwarded. `held`, which is what limits the posts in progress, is released at the end.
    ///
    /// The `events` of the post are pending in the ledger; they are dropped and counted if `filter` panics. The task is not
    /// dropped on shutdown: accepted posts are forwarded within the drain time.
    pub fn accept<Forwarding>(
        &self,
        events: usize,
        held: impl Send + 'static,
        filter: impl Future<Output = Option<FilteredBatch>> + Send + 'static,
        forward: impl FnOnce(FilteredBatch) -> Forwarding + Send + 'static,
    ) where
        Forwarding: Future<Output = ()> + Send,
    {
        let (mut ticket, ledger) = (self.tickets.next(), Arc::clone(&self.ledger));
        self.lifecycle.spawn_graceful(self.task, async move {
            let filtered = supervisor::catch(filter).await;
            // The ticket is released only after those before it, also after a panic.
            ticket.wait().await;
            match filtered {
                Ok(Some(filtered)) => forward(filtered).await,
                Ok(None) => (),
                Err(_) => ledger.record_dropped(INTERNAL_ERROR, events),
            }
            drop((ticket, held));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::{Semaphore, mpsc};
    use yardarm_core::hooks::{Event, Hooks};

    use super::super::pipeline::EventPipeline;
    use super::super::pipeline::tests::batch;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn posts_are_forwarded_in_order_and_a_panic_is_counted() {
        let (ledger, lifecycle) = (Arc::new(Ledger::default()), Lifecycle::new());
        let pipeline = EventPipeline::start(Hooks::none(), Arc::clone(&ledger), &lifecycle);
        let posts = OrderedPosts::new("test posts", Arc::clone(&ledger), &lifecycle);
        let (sender, mut forwarded) = mpsc::channel(8);
        let room = Arc::new(Semaphore::new(3));
        // Later posts are filtered sooner.
        for (number, seconds) in [(1_u8, 3), (2, 2), (3, 1)] {
            ledger.record_received(1);
            let (pipeline, sender) = (Arc::clone(&pipeline), sender.clone());
            let filter = async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                assert_ne!(number, 2, "for the test");
                let facts = batch("server");
                let event = Event { kind: None, at_ms: None, body: Bytes::from(vec![number]) };
                let sink = move |events: Vec<Bytes>| sender.try_send(events).expect("room");
                pipeline.pass(facts, vec![event], Box::new(sink)).await
            };
            let permit = Arc::clone(&room).try_acquire_owned().expect("room");
            posts.accept(1, permit, filter, async |filtered| filtered.forward());
        }
        let _all = room.acquire_many(3).await.expect("every post is done");
        assert_eq!(forwarded.recv().await.expect("the first"), [Bytes::from(vec![1])]);
        assert_eq!(forwarded.recv().await.expect("the third"), [Bytes::from(vec![3])]);
        let report = ledger.report();
        assert_eq!(report.dropped, [(INTERNAL_ERROR, 1)].into(), "{report:?}");
    }
}
