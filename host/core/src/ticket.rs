//! Ordering for work that runs concurrently and must take effect in order.

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Issues tickets, each of which is called when the ticket before it is dropped.
#[derive(Debug, Default)]
pub struct TicketQueue(Mutex<Option<oneshot::Receiver<()>>>);

/// A position in the order. Dropping it calls the next ticket, so call [`Ticket::wait`] first, on every path.
#[derive(Debug)]
pub struct Ticket {
    before: Option<oneshot::Receiver<()>>,
    _after: oneshot::Sender<()>,
}

impl TicketQueue {
    /// Issues the next ticket.
    pub fn next(&self) -> Ticket {
        let (after, next) = oneshot::channel();
        let before = self.0.lock().replace(next);
        Ticket { before, _after: after }
    }
}

impl Ticket {
    /// Waits until every earlier ticket is dropped.
    pub async fn wait(&mut self) {
        if let Some(before) = &mut self.before {
            // The sender is dropped with the ticket; nothing is ever sent.
            let _ = before.await;
            self.before = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn tickets_are_served_in_order() {
        let tickets = TicketQueue::default();
        let (mut first, mut second, mut third) = (tickets.next(), tickets.next(), tickets.next());
        assert!(third.wait().now_or_never().is_none());
        assert!(second.wait().now_or_never().is_none());
        assert!(first.wait().now_or_never().is_some());
        drop(first);
        assert!(third.wait().now_or_never().is_none());
        assert!(second.wait().now_or_never().is_some());
        assert!(second.wait().now_or_never().is_some(), "it has come already");
        drop(second);
        assert!(third.wait().now_or_never().is_some());
        drop(third);
        assert!(tickets.next().wait().now_or_never().is_some(), "no earlier ticket is left");
    }
}
