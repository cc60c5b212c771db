//! An update source that announces changes after a delay, and several changes at once.
//!
//! When a change makes every client fetch something, announcing it to all of them at the same moment causes a
//! thundering herd. Several delayed sources of one environment, each with its own delay, spread the fetches; changes
//! that occur during the delay are covered by the same announcement.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::change_log::{Cursor, UpdateSource, Version};
use crate::lifecycle::Lifecycle;
use crate::sse::Frame;

/// A delayed view of another source.
pub struct JitteredSource {
    source: Arc<dyn UpdateSource>,
    /// The version that streams may see by now; heartbeats are not delayed.
    revealed: watch::Sender<Version>,
}

impl JitteredSource {
    /// Creates a source that lags `source` by a delay chosen anew from `delay` for each announcement, until `lifecycle`
    /// ends.
    #[must_use]
    pub fn start(source: Arc<dyn UpdateSource>, delay: RangeInclusive<Duration>, lifecycle: &Lifecycle) -> Arc<Self> {
        let versions = source.versions();
        let revealed = watch::Sender::new(*versions.borrow());
        let delayed = Arc::new(Self { source, revealed });
        let revealing = Arc::clone(&delayed);
        lifecycle.supervise("delayed announcements", move || {
            let mut versions = versions.clone();
            // Changes that an earlier run of the task did not announce are still due.
            versions.mark_changed();
            Arc::clone(&revealing).reveal(versions, delay.clone())
        });
        delayed
    }

    async fn reveal(self: Arc<Self>, mut versions: watch::Receiver<Version>, delay: RangeInclusive<Duration>) {
        let mut due: Option<Instant> = None;
        loop {
            tokio::select! {
                changed = versions.changed() => if changed.is_err() {
                    return;
                },
                () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                    due = None;
                    let version = *versions.borrow();
                    self.revealed.send_modify(|it| it.seq = version.seq);
                    continue;
                }
            }
            let version = *versions.borrow_and_update();
            if version.heartbeat != self.revealed.borrow().heartbeat {
                self.revealed.send_modify(|it| it.heartbeat = version.heartbeat);
            }
            if version.seq != self.revealed.borrow().seq && due.is_none() {
                due = Some(Instant::now() + rand::rng().random_range(delay.clone()));
            }
        }
    }
}

impl UpdateSource for JitteredSource {
    fn next(&self, cursor: &mut Cursor) -> Option<Frame> {
        let revealed = *self.revealed.borrow();
        match cursor.position {
            // The first frame of a stream is not delayed: only this stream receives it.
            None => self.source.next(cursor),
            Some(position) if position < revealed.seq => {
                // One frame covers everything since: the full data.
                cursor.position = None;
                self.source.next(cursor)
            }
            Some(_) => (revealed.heartbeat != cursor.heartbeat).then(|| {
                cursor.heartbeat = revealed.heartbeat;
                Frame::heartbeat()
            }),
        }
    }

    fn versions(&self) -> watch::Receiver<Version> {
        self.revealed.subscribe()
    }

    fn lag(&self, cursor: &Cursor) -> u64 {
        self.source.lag(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change_log::{ChangeLog, LogLimits};

    /// A source whose full data is the text `all`.
    struct Plain(ChangeLog);

    impl UpdateSource for Plain {
        fn next(&self, cursor: &mut Cursor) -> Option<Frame> {
            let seq = self.0.version().seq;
            let full = |_| Some((seq, Some(Frame::event("all", 1, |out| out.push(b'x')))));
            self.0.next(cursor, full)
        }

        fn versions(&self) -> watch::Receiver<Version> {
            self.0.versions()
        }

        fn lag(&self, cursor: &Cursor) -> u64 {
            self.0.lag(cursor)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_merged_and_delayed_and_heartbeats_are_not() {
        let plain = Arc::new(Plain(ChangeLog::new(LogLimits::LARGE, Frame::heartbeat())));
        let lifecycle = Lifecycle::new();
        let range = Duration::from_millis(100)..=Duration::from_millis(200);
        let delayed = JitteredSource::start(Arc::clone(&plain) as Arc<dyn UpdateSource>, range, &lifecycle);
        let mut cursor = Cursor::new(0, Version::default());
        assert!(delayed.next(&mut cursor).is_some(), "the first thing comes at once");
        let mut versions = delayed.versions();
        let start = Instant::now();
        for seq in 1..=5 {
            plain.0.publish(seq, Box::new([Some(Frame::event("one", 1, |out| out.push(b'y')))]));
        }
        assert!(delayed.next(&mut cursor).is_none(), "not yet");
        plain.0.heartbeat();
        versions.changed().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(delayed.next(&mut cursor).map(|it| it.payload()), Some(Frame::heartbeat().payload()));
        versions.changed().await.unwrap();
        assert!((100..=200).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!(delayed.next(&mut cursor).unwrap().payload(), "event: all\ndata: x\n\n");
        assert!(delayed.next(&mut cursor).is_none(), "one announcement for five changes");
        lifecycle.stop(Duration::from_secs(1)).await;
    }
}
