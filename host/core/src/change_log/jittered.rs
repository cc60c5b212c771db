//! A source that tells its streams of changes a little later, and of several at once.
//!
//! When a change makes every client fetch something, telling all of them at the same moment makes a herd. Several
//! delayed sources of one environment, each with a delay of its own, spread it; what changes meanwhile is covered by
//! the one announcement that follows.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Cursor, UpdateSource, Version};
use crate::Lifecycle;
use crate::sse::Frame;

/// A delayed view of another source.
pub struct JitteredSource {
    source: Arc<dyn UpdateSource>,
    /// What may be told by now; heartbeats come through at once.
    revealed: watch::Sender<Version>,
}

impl JitteredSource {
    /// Shows `source` late by a time from `delay`, chosen anew each time, until `lifecycle` ends.
    #[must_use]
    pub fn start(source: Arc<dyn UpdateSource>, delay: RangeInclusive<Duration>, lifecycle: &Lifecycle) -> Arc<Self> {
        let versions = source.versions();
        let revealed = watch::Sender::new(*versions.borrow());
        let delayed = Arc::new(Self { source, revealed });
        let revealing = Arc::clone(&delayed);
        lifecycle.supervise("delayed announcements", move || {
            let mut versions = versions.clone();
            // What came before an earlier run ended is still to be revealed.
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
            // The first thing a stream is sent is not delayed: it is news to this stream alone.
            None => self.source.next(cursor),
            Some(position) if position < revealed.seq => {
                // One frame for everything since: the full one.
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

    /// A feed that says `all` in full.
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
    async fn changes_are_merged_and_told_late_and_heartbeats_are_not() {
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
