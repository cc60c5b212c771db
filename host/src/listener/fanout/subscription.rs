//! How a fan-out thread learns of changes: whoever publishes one wakes the thread, without a task between the two.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;
use yardarm_core::change_log::{UpdateSource, Version};

use super::inbox::{Message, ShardHandle};

/// The subscription of a thread to one source.
pub(super) struct Subscription {
    /// Waits for the next change and returns the receiver, or `None` once there are no more changes.
    next: ReusableBoxFuture<'static, Option<watch::Receiver<Version>>>,
    is_over: bool,
    waker: Waker,
}

/// Notifies a thread of a change.
struct PulseWaker {
    handle: ShardHandle,
    key: usize,
}

impl Subscription {
    /// Subscribes to `source`, which the thread behind `handle` knows by `key`.
    pub(super) fn new(source: &dyn UpdateSource, handle: ShardHandle, key: usize) -> Self {
        let next = ReusableBoxFuture::new(changed(source.versions()));
        let mut subscription = Self { next, is_over: false, waker: Arc::new(PulseWaker { handle, key }).into() };
        subscription.renew();
        subscription
    }

    /// Has the thread notified of the next change, once. Streams are written to after this, because nothing announces
    /// the changes up to now any more.
    pub(super) fn renew(&mut self) {
        while !self.is_over {
            match self.next.poll(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => return,
                Poll::Ready(Some(receiver)) => self.next.set(changed(receiver)),
                Poll::Ready(None) => self.is_over = true,
            }
        }
    }
}

async fn changed(mut receiver: watch::Receiver<Version>) -> Option<watch::Receiver<Version>> {
    receiver.changed().await.ok()?;
    Some(receiver)
}

impl Wake for PulseWaker {
    fn wake(self: Arc<Self>) {
        self.handle.send(Message::Pulse(self.key));
    }
}

#[cfg(test)]
mod tests {
    use yardarm_core::change_log::Cursor;
    use yardarm_core::sse::Frame;

    use super::*;

    struct Source(watch::Sender<Version>);

    impl UpdateSource for Source {
        fn next(&self, _: &mut Cursor) -> Option<Frame> {
            None
        }

        fn versions(&self) -> watch::Receiver<Version> {
            self.0.subscribe()
        }

        fn lag(&self, _: &Cursor) -> u64 {
            0
        }
    }

    impl Source {
        fn publish(&self) {
            self.0.send_modify(|version| version.seq += 1);
        }
    }

    fn handle() -> (mio::Poll, ShardHandle) {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        (poll, ShardHandle::new(waker))
    }

    fn pulses(handle: &ShardHandle) -> Vec<usize> {
        let keys = handle.take().into_iter().map(|message| match message {
            Message::Pulse(key) => key,
            _ => panic!("only pulses are expected"),
        });
        keys.collect()
    }

    #[test]
    fn a_burst_of_changes_notifies_the_thread_once_until_it_renews() {
        let (source, (_poll, handle)) = (Source(watch::Sender::default()), handle());
        let mut subscription = Subscription::new(&source, handle.clone(), 7);
        assert_eq!(pulses(&handle), [] as [usize; 0], "nothing has changed");
        (0..3).for_each(|_| source.publish());
        assert_eq!(pulses(&handle), [7]);
        source.publish();
        assert_eq!(pulses(&handle), [] as [usize; 0], "the thread reads all changes after it has renewed");
        subscription.renew();
        source.publish();
        assert_eq!(pulses(&handle), [7]);
    }

    #[test]
    fn a_source_that_ends_is_not_waited_for() {
        let (source, (_poll, handle)) = (Source(watch::Sender::default()), handle());
        let mut subscription = Subscription::new(&source, handle.clone(), 7);
        drop(source);
        assert_eq!(pulses(&handle), [7]);
        subscription.renew();
        subscription.renew();
        assert!(subscription.is_over);
    }

    #[test]
    fn a_dropped_subscription_notifies_no_more() {
        let (source, (_poll, handle)) = (Source(watch::Sender::default()), handle());
        drop(Subscription::new(&source, handle.clone(), 7));
        source.publish();
        assert_eq!(pulses(&handle), [] as [usize; 0]);
    }
}
