//! The newest data of one vendor environment: swapped first, announced afterwards.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::change_log::{ChangeLog, Cursor, LogLimits, UpdateSource, Version};
use crate::sse::Frame;

/// Flag data of one vendor, immutable once built.
pub trait Dataset: Sized + Send + Sync + 'static {
    /// One message from upstream.
    type Change;

    /// How many kinds of streams there are. Streams of one kind receive the same bytes.
    const CHANNELS: usize;

    /// Whether changes are rendered and kept in the log while no stream reads it. A stream that comes later can then begin
    /// with the last changes instead of the full data.
    const IS_LOGGED_UNREAD: bool = true;

    /// Builds the data that results from `change`.
    fn apply(current: Option<&Self>, change: &Self::Change) -> Applied<Self>;

    /// Renders `change` for the streams of one channel, once for all of them; returns `None` if they are not sent the
    /// change.
    fn render_change(change: &Self::Change, channel: usize) -> Option<Frame>;

    /// Returns whether streams read the full data in place of `change` and of all changes before it, which are then
    /// removed from the log.
    #[must_use]
    fn is_restart(_: &Self::Change) -> bool {
        false
    }

    /// Renders the full data, the first message of a stream.
    fn render_full(&self, channel: usize) -> Option<Frame>;

    /// Returns the frame that keeps an idle stream alive.
    #[must_use]
    fn heartbeat() -> Frame {
        Frame::heartbeat()
    }
}

/// The outcome of applying a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied<D> {
    /// The change is newer: this is the data from now on.
    News(D),
    /// The change is older than the current data, but is announced to streams all the same.
    AnnounceOnly,
    /// The change is older than the current data and is not announced.
    Ignored,
}

/// Data at one moment.
pub struct Snapshot<D> {
    seq: u64,
    rendered: Arc<Rendered<D>>,
}

/// Data with its full rendering per channel, each rendered when it is needed.
struct Rendered<D> {
    data: D,
    full: Box<[Mutex<Rendering>]>,
}

/// The full rendering for one channel.
#[derive(Default)]
struct Rendering {
    /// `None` if it is not rendered; the inner value is `None` if streams of the channel have no full data.
    frame: Option<Option<Frame>>,
    /// Whether a stream has read it since the last call of [`Environment::release_unused`].
    is_used: bool,
}

/// The reading side of an environment. Cheap to clone.
pub struct Environment<D: Dataset>(Arc<Shared<D>>);

/// The writing side of an environment. There is exactly one, and it cannot be cloned.
pub struct Writer<D: Dataset>(Arc<Shared<D>>);

struct Shared<D> {
    current: ArcSwapOption<Snapshot<D>>,
    log: ChangeLog,
}

/// Creates an environment without data.
#[must_use]
pub fn environment<D: Dataset>() -> (Writer<D>, Environment<D>) {
    environment_with(LogLimits::LARGE)
}

/// Creates an environment without data, with a change log of the given size.
#[must_use]
pub fn environment_with<D: Dataset>(limits: LogLimits) -> (Writer<D>, Environment<D>) {
    let log = ChangeLog::new(limits, D::heartbeat());
    let shared = Arc::new(Shared { current: ArcSwapOption::empty(), log });
    (Writer(Arc::clone(&shared)), Environment(shared))
}

impl<D: Dataset> Writer<D> {
    /// Applies `change`: swaps the snapshot, then notifies the streams. Returns whether the change was newer than the
    /// data.
    ///
    /// The order is guaranteed: an SDK that is notified of a change and requests the flag at once receives the new
    /// flag.
    pub fn update(&mut self, change: &D::Change) -> bool {
        let current = self.0.current.load_full();
        let applied = D::apply(current.as_deref().map(Snapshot::data), change);
        let seq = self.0.log.version().seq + 1;
        let (rendered, is_news) = match (applied, current) {
            (Applied::News(data), _) => (Some(Arc::new(Rendered::new(data))), true),
            (Applied::AnnounceOnly, Some(snapshot)) => (Some(Arc::clone(&snapshot.rendered)), false),
            (Applied::AnnounceOnly, None) => (None, false),
            (Applied::Ignored, _) => return false,
        };
        let is_logged = (D::IS_LOGGED_UNREAD || self.0.log.has_readers()) && !D::is_restart(change);
        let frames = is_logged.then(|| (0..D::CHANNELS).map(|channel| D::render_change(change, channel)).collect());
        if let Some(rendered) = rendered {
            self.0.current.store(Some(Arc::new(Snapshot { seq, rendered })));
        }
        match frames {
            Some(frames) => self.0.log.publish(seq, frames),
            None => self.0.log.restart(seq),
        }
        is_news
    }

    /// Returns the data that the next change is applied to.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot<D>>> {
        self.0.current.load_full()
    }
}

impl<D: Dataset> Environment<D> {
    /// Returns the current data. Load it once per request and keep it to the end.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot<D>>> {
        self.0.current.load_full()
    }

    /// Returns whether there is data.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.0.current.load().is_some()
    }

    /// Returns the source that streams of this environment read from.
    #[must_use]
    pub fn update_source(&self) -> Arc<dyn UpdateSource> {
        Arc::clone(&self.0) as Arc<dyn UpdateSource>
    }

    /// Makes every stream of this environment send a heartbeat.
    pub fn heartbeat(&self) {
        self.0.log.heartbeat();
    }

    /// Frees the full renderings that no stream has read since the last call. The next stream that needs one renders it
    /// again.
    pub fn release_unused(&self) {
        if let Some(snapshot) = self.0.current.load_full() {
            snapshot.rendered.full.iter().for_each(|it| it.lock().release_unused());
        }
    }
}

impl<D> Snapshot<D> {
    /// Returns the data.
    #[must_use]
    pub fn data(&self) -> &D {
        &self.rendered.data
    }

    /// Returns the sequence number, which grows with each change that was announced.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

impl<D: Dataset> Rendered<D> {
    fn new(data: D) -> Self {
        Self { data, full: (0..D::CHANNELS).map(|_| Mutex::default()).collect() }
    }

    fn full(&self, channel: usize) -> Option<Frame> {
        // Held while it is rendered, so that streams that need the same wait for one rendering.
        let mut rendering = self.full.get(channel)?.lock();
        rendering.is_used = true;
        rendering.frame.get_or_insert_with(|| self.data.render_full(channel)).clone()
    }
}

impl Rendering {
    fn release_unused(&mut self) {
        if !std::mem::take(&mut self.is_used) {
            self.frame = None;
        }
    }
}

impl<D: Dataset> UpdateSource for Shared<D> {
    fn next(&self, cursor: &mut Cursor) -> Option<Frame> {
        self.log.next(cursor, |channel| {
            let snapshot = self.current.load_full()?;
            Some((snapshot.seq, snapshot.rendered.full(channel)))
        })
    }

    fn versions(&self) -> watch::Receiver<Version> {
        self.log.versions()
    }

    fn lag(&self, cursor: &Cursor) -> u64 {
        self.log.lag(cursor)
    }
}

impl<D: Dataset> Clone for Environment<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests;
