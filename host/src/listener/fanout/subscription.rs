//! How a fan-out thread learns of changes: publishing one wakes the thread directly, without a task between the two.

use std::future::pending;
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;
use yardarm_core::change_log::Version;

/// The subscription of a thread to one source.
pub(super) struct Subscription {
    /// Waits for the next change and returns the receiver.
    next: ReusableBoxFuture<'static, watch::Receiver<Version>>,
    waker: Waker,
}

impl Subscription {
    /// Subscribes to a source by its `versions`; each change is announced through `waker`.
    pub(super) fn new(versions: watch::Receiver<Version>, waker: Waker) -> Self {
        let mut subscription = Self { next: ReusableBoxFuture::new(changed(versions)), waker };
        subscription.renew();
        subscription
    }

    /// Has the thread notified of the next change, once. Streams are written to after this, because nothing announces
    /// the changes up to now any more.
    pub(super) fn renew(&mut self) {
        while let Poll::Ready(versions) = self.next.poll(&mut Context::from_waker(&self.waker)) {
            self.next.set(changed(versions));
        }
    }
}

/// Waits for a change; forever, once the source has ended.
async fn changed(mut versions: watch::Receiver<Version>) -> watch::Receiver<Version> {
    if versions.changed().await.is_err() {
        pending::<()>().await;
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::fanout::inbox::{Message, Notice, ShardHandle};

    const PULSE: Notice = Notice::Pulse(7);

    struct Subscribed {
        source: watch::Sender<Version>,
        subscription: Subscription,
        handle: ShardHandle,
        _poll: mio::Poll,
    }

    impl Subscribed {
        fn new() -> Self {
            let poll = mio::Poll::new().unwrap();
            let handle = ShardHandle::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
            let source = watch::Sender::default();
            let subscription = Subscription::new(source.subscribe(), handle.waker(PULSE));
            Self { source, subscription, handle, _poll: poll }
        }

        fn publish(&self) {
            self.source.send_modify(|version| version.seq += 1);
        }
    }

    fn notices(handle: &ShardHandle) -> Vec<Notice> {
        let notices = handle.take().into_iter().map(|message| match message {
            Message::Notice(notice) => notice,
            Message::Add(_) | Message::Stop => panic!("only notices are expected"),
        });
        notices.collect()
    }

    #[test]
    fn a_burst_of_changes_notifies_the_thread_once_until_it_renews() {
        let mut it = Subscribed::new();
        assert_eq!(notices(&it.handle), [], "nothing has changed");
        (0..3).for_each(|_| it.publish());
        assert_eq!(notices(&it.handle), [PULSE]);
        it.publish();
        assert_eq!(notices(&it.handle), [], "the thread reads all changes after it has renewed");
        it.subscription.renew();
        assert_eq!(notices(&it.handle), []);
        it.publish();
        assert_eq!(notices(&it.handle), [PULSE]);
    }

    #[test]
    fn a_source_that_ends_is_announced_once() {
        let Subscribed { source, mut subscription, handle, _poll } = Subscribed::new();
        drop(source);
        assert_eq!(notices(&handle), [PULSE]);
        subscription.renew();
        subscription.renew();
        assert_eq!(notices(&handle), []);
    }

    #[test]
    fn a_dropped_subscription_notifies_no_more() {
        let Subscribed { source, subscription, handle, _poll } = Subscribed::new();
        drop(subscription);
        source.send_modify(|version| version.seq += 1);
        assert_eq!(notices(&handle), []);
    }
}
