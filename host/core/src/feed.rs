//! What streams read from: the newest full data and a short, shared log of the changes before it.
//!
//! There is no queue per stream. A stream is a [`Cursor`] into the log; one that falls behind the log's
//! oldest change reads the newest full data instead, so a slow reader costs its cursor and nothing else.

mod delayed;

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

pub use self::delayed::Delayed;
use crate::sse::Frame;

/// How much a log remembers. What is older is forgotten: whoever still needs it reads the full data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Most changes.
    pub changes: usize,
    /// Most bytes, so that a burst of large changes stays bounded.
    pub bytes: usize,
}

/// Something that streams can be served from.
pub trait Source: Send + Sync {
    /// The next frame for a cursor, or `None` when it has seen everything there is.
    fn next(&self, cursor: &mut Cursor) -> Option<Frame>;

    /// Wakes whenever [`Source::next`] may have something new.
    fn pulses(&self) -> watch::Receiver<Pulse>;

    /// How far a cursor is behind, in changes.
    fn lag(&self, cursor: &Cursor) -> u64;
}

/// Where one stream stands.
#[derive(Debug, Clone)]
pub struct Cursor {
    channel: usize,
    /// Sequence number of the last change sent; `None` before the full data has been sent.
    position: Option<u64>,
    /// The last heartbeat sent.
    beat: u64,
}

/// What has happened so far: a stream with other numbers has something to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Sequence number of the newest change.
    pub seq: u64,
    /// Number of heartbeats.
    pub beat: u64,
}

/// The shared log of one environment.
pub(crate) struct Feed {
    limits: LogLimits,
    heartbeat: Frame,
    log: RwLock<Log>,
    pulse: watch::Sender<Pulse>,
}

#[derive(Default)]
struct Log {
    changes: VecDeque<Entry>,
    bytes: usize,
    /// Sequence number of the newest change, which the log may have forgotten already.
    newest: u64,
}

struct Entry {
    seq: u64,
    /// One frame per channel; `None` where a channel does not hear of the change.
    frames: Box<[Option<Frame>]>,
}

/// What the log has for a cursor.
enum Found {
    Frame(u64, Frame),
    UpToDate(u64),
    Forgotten,
}

impl Cursor {
    /// A stream of `channel` that has not been sent anything.
    #[must_use]
    pub fn new(channel: usize, pulse: Pulse) -> Self {
        Self { channel, position: None, beat: pulse.beat }
    }

    /// A stream of `channel` that has everything up to the change `seq`.
    #[must_use]
    pub fn after(channel: usize, pulse: Pulse, seq: u64) -> Self {
        Self { channel, position: Some(seq), beat: pulse.beat }
    }
}

impl LogLimits {
    /// For an environment, of which there are few.
    pub const LARGE: Self = Self { changes: 1024, bytes: 16 << 20 };
    /// For a few streams that share one view of an environment: there may be as many views as streams.
    pub const SMALL: Self = Self { changes: 16, bytes: 64 << 10 };
}

impl Feed {
    pub(crate) fn new(limits: LogLimits, heartbeat: Frame) -> Self {
        Self { limits, heartbeat, log: RwLock::default(), pulse: watch::Sender::new(Pulse::default()) }
    }

    pub(crate) fn pulses(&self) -> watch::Receiver<Pulse> {
        self.pulse.subscribe()
    }

    pub(crate) fn pulse(&self) -> Pulse {
        *self.pulse.borrow()
    }

    /// Adds a change and wakes the streams. `seq` must be one more than the last.
    pub(crate) fn publish(&self, seq: u64, frames: Box<[Option<Frame>]>) {
        {
            let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
            log.newest = seq;
            log.bytes += Log::size(&frames);
            log.changes.push_back(Entry { seq, frames });
            while log.changes.len() > self.limits.changes || log.bytes > self.limits.bytes {
                let Some(oldest) = log.changes.pop_front() else { break };
                log.bytes -= Log::size(&oldest.frames);
            }
        }
        self.pulse.send_modify(|pulse| pulse.seq = seq);
    }

    /// Forgets all changes and wakes the streams, which read the full data. `seq` must be one more than the last.
    pub(crate) fn restart(&self, seq: u64) {
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = Log { newest: seq, ..Log::default() };
        self.pulse.send_modify(|pulse| pulse.seq = seq);
    }

    /// Makes every stream send a heartbeat.
    pub(crate) fn beat(&self) {
        self.pulse.send_modify(|pulse| pulse.beat += 1);
    }

    /// The next frame for `cursor`; `full` renders everything, with the sequence number it stands for.
    pub(crate) fn next(
        &self,
        cursor: &mut Cursor,
        full: impl FnOnce(usize) -> Option<(u64, Option<Frame>)>,
    ) -> Option<Frame> {
        if let Some(position) = cursor.position {
            match self.find(cursor.channel, position) {
                Found::Frame(seq, frame) => {
                    cursor.position = Some(seq);
                    return Some(frame);
                }
                Found::UpToDate(seq) => {
                    cursor.position = Some(seq);
                    return self.heartbeat(cursor);
                }
                Found::Forgotten => cursor.position = None,
            }
        }
        // Listening began before this look, so no change falls between the two.
        match full(cursor.channel) {
            Some((seq, frame)) => {
                cursor.position = Some(seq);
                frame.or_else(|| self.heartbeat(cursor))
            }
            None => self.heartbeat(cursor),
        }
    }

    pub(crate) fn lag(&self, cursor: &Cursor) -> u64 {
        cursor.position.map_or(0, |position| self.pulse().seq.saturating_sub(position))
    }

    fn heartbeat(&self, cursor: &mut Cursor) -> Option<Frame> {
        let beat = self.pulse().beat;
        (beat != cursor.beat).then(|| {
            cursor.beat = beat;
            self.heartbeat.clone()
        })
    }

    fn find(&self, channel: usize, position: u64) -> Found {
        let log = self.log.read().unwrap_or_else(PoisonError::into_inner);
        let missed = log.newest.saturating_sub(position);
        if missed == 0 {
            return Found::UpToDate(position);
        }
        // Sequence numbers have no gaps, so the distance from the end is the index.
        let Some(start) = usize::try_from(missed).ok().and_then(|missed| log.changes.len().checked_sub(missed)) else {
            return Found::Forgotten;
        };
        log.changes
            .range(start..)
            .find_map(|entry| entry.frames.get(channel)?.clone().map(|frame| Found::Frame(entry.seq, frame)))
            .unwrap_or(Found::UpToDate(log.newest))
    }
}

impl Log {
    /// Bytes of a change, each allocation counted once per channel that shares it.
    fn size(frames: &[Option<Frame>]) -> usize {
        frames.iter().flatten().map(|frame| frame.chunk().len()).sum()
    }
}

/// Shared handles serve like what they point to.
impl<S: Source + ?Sized> Source for Arc<S> {
    fn next(&self, cursor: &mut Cursor) -> Option<Frame> {
        (**self).next(cursor)
    }

    fn pulses(&self) -> watch::Receiver<Pulse> {
        (**self).pulses()
    }

    fn lag(&self, cursor: &Cursor) -> u64 {
        (**self).lag(cursor)
    }
}
