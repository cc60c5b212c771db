//! The source that streams read from: the newest full data and a short, shared log of recent changes.
//!
//! There is no queue per stream. A stream is a [`Cursor`] into the log; a cursor that falls behind the oldest change in
//! the log reads the newest full data instead, so a slow reader costs its cursor and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::sse::Frame;

/// How many changes a log retains. A stream that needs older ones reads the full data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Maximum number of changes.
    pub changes: usize,
    /// Maximum number of bytes, so that a burst of large changes stays bounded.
    pub bytes: usize,
}

/// A source of frames for streams.
pub trait UpdateSource: Send + Sync {
    /// Returns the next frame for a cursor, or `None` if the cursor is up to date.
    fn next(&self, cursor: &mut Cursor) -> Option<Frame>;

    /// Returns a receiver that wakes whenever [`UpdateSource::next`] may have a new frame.
    fn versions(&self) -> watch::Receiver<Version>;

    /// Returns how far a cursor is behind, in changes.
    fn lag(&self, cursor: &Cursor) -> u64;
}

/// The position of one stream in the log.
#[derive(Debug, Clone)]
pub struct Cursor {
    channel: usize,
    /// Sequence number of the last change sent; `None` before the full data has been sent.
    pub(crate) position: Option<u64>,
    /// Number of the last heartbeat sent.
    pub(crate) heartbeat: u64,
}

/// The state of a log as two counters: a stream whose counters differ has something to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version {
    /// Sequence number of the newest change.
    pub seq: u64,
    /// Number of heartbeats.
    pub heartbeat: u64,
}

/// The shared log of one environment.
pub(crate) struct ChangeLog {
    limits: LogLimits,
    heartbeat: Frame,
    log: RwLock<Log>,
    version: watch::Sender<Version>,
}

#[derive(Default)]
struct Log {
    changes: VecDeque<LogEntry>,
    bytes: usize,
    /// Sequence number of the newest change, which may have been evicted already.
    newest: u64,
}

struct LogEntry {
    seq: u64,
    /// One frame per channel; `None` where streams of a channel are not sent the change.
    frames: Box<[Option<Frame>]>,
}

/// Result of looking up a cursor in the log.
enum Lookup {
    Frame(u64, Frame),
    UpToDate(u64),
    Evicted,
}

impl Cursor {
    /// Creates a cursor of `channel` that has not been sent anything.
    #[must_use]
    pub fn new(channel: usize, version: Version) -> Self {
        Self { channel, position: None, heartbeat: version.heartbeat }
    }

    /// Creates a cursor of `channel` that has everything up to the change `seq`.
    #[must_use]
    pub fn after(channel: usize, version: Version, seq: u64) -> Self {
        Self { channel, position: Some(seq), heartbeat: version.heartbeat }
    }
}

impl LogLimits {
    /// For an environment, of which there are few.
    pub const LARGE: Self = Self { changes: 1024, bytes: 16 << 20 };
    /// For a view of an environment that few streams share: there may be as many views as streams.
    pub const SMALL: Self = Self { changes: 16, bytes: 64 << 10 };
}

impl ChangeLog {
    pub(crate) fn new(limits: LogLimits, heartbeat: Frame) -> Self {
        Self { limits, heartbeat, log: RwLock::default(), version: watch::Sender::new(Version::default()) }
    }

    pub(crate) fn versions(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }

    pub(crate) fn version(&self) -> Version {
        *self.version.borrow()
    }

    /// Whether any stream waits for changes. One that comes later reads the full data, or is up to date.
    pub(crate) fn has_readers(&self) -> bool {
        self.version.receiver_count() > 0
    }

    /// Adds a change and wakes the streams. `seq` must be one more than the last.
    pub(crate) fn publish(&self, seq: u64, frames: Box<[Option<Frame>]>) {
        {
            let mut log = self.log.write();
            log.newest = seq;
            log.bytes += Log::size(&frames);
            log.changes.push_back(LogEntry { seq, frames });
            while log.changes.len() > self.limits.changes || log.bytes > self.limits.bytes {
                let Some(oldest) = log.changes.pop_front() else { break };
                log.bytes -= Log::size(&oldest.frames);
            }
        }
        self.version.send_modify(|version| version.seq = seq);
    }

    /// Removes all changes and wakes the streams, which then read the full data. `seq` must be one more than the last.
    pub(crate) fn restart(&self, seq: u64) {
        *self.log.write() = Log { newest: seq, ..Log::default() };
        self.version.send_modify(|version| version.seq = seq);
    }

    /// Makes every stream send a heartbeat.
    pub(crate) fn heartbeat(&self) {
        self.version.send_modify(|version| version.heartbeat += 1);
    }

    /// Returns the next frame for `cursor`; `full` renders the full data and returns the sequence number that it
    /// includes.
    pub(crate) fn next(
        &self,
        cursor: &mut Cursor,
        full: impl FnOnce(usize) -> Option<(u64, Option<Frame>)>,
    ) -> Option<Frame> {
        if let Some(position) = cursor.position {
            match self.find(cursor.channel, position) {
                Lookup::Frame(seq, frame) => {
                    cursor.position = Some(seq);
                    return Some(frame);
                }
                Lookup::UpToDate(seq) => {
                    cursor.position = Some(seq);
                    return self.heartbeat_for(cursor);
                }
                Lookup::Evicted => cursor.position = None,
            }
        }
        // The receiver was subscribed before this read, so no change is missed between the two.
        match full(cursor.channel) {
            Some((seq, frame)) => {
                cursor.position = Some(seq);
                frame.or_else(|| self.heartbeat_for(cursor))
            }
            None => self.heartbeat_for(cursor),
        }
    }

    pub(crate) fn lag(&self, cursor: &Cursor) -> u64 {
        cursor.position.map_or(0, |position| self.version().seq.saturating_sub(position))
    }

    fn heartbeat_for(&self, cursor: &mut Cursor) -> Option<Frame> {
        let heartbeat = self.version().heartbeat;
        (heartbeat != cursor.heartbeat).then(|| {
            cursor.heartbeat = heartbeat;
            self.heartbeat.clone()
        })
    }

    fn find(&self, channel: usize, position: u64) -> Lookup {
        let log = self.log.read();
        let missed = log.newest.saturating_sub(position);
        if missed == 0 {
            return Lookup::UpToDate(position);
        }
        // Sequence numbers have no gaps, so the distance from the end is the index.
        let Some(start) = usize::try_from(missed).ok().and_then(|missed| log.changes.len().checked_sub(missed)) else {
            return Lookup::Evicted;
        };
        log.changes
            .range(start..)
            .find_map(|entry| entry.frames.get(channel)?.clone().map(|frame| Lookup::Frame(entry.seq, frame)))
            .unwrap_or(Lookup::UpToDate(log.newest))
    }
}

impl Log {
    /// Returns the size of a change in bytes; a shared allocation counts once per channel that shares it.
    fn size(frames: &[Option<Frame>]) -> usize {
        frames.iter().flatten().map(|frame| frame.chunk().len()).sum()
    }
}

/// A shared handle behaves like the source it points to.
impl<S: UpdateSource + ?Sized> UpdateSource for Arc<S> {
    fn next(&self, cursor: &mut Cursor) -> Option<Frame> {
        (**self).next(cursor)
    }

    fn versions(&self) -> watch::Receiver<Version> {
        (**self).versions()
    }

    fn lag(&self, cursor: &Cursor) -> u64 {
        (**self).lag(cursor)
    }
}
