//! The newest data of one vendor environment: swapped first, announced afterwards.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::change_log::{ChangeLog, Cursor, LogLimits, UpdateSource, Version};
use crate::sse::Frame;

/// Flag data of one vendor, immutable once built.
pub trait Dataset: Sized + Send + Sync + 'static {
    /// One message from upstream.
    type Change;

    /// How many kinds of streams there are. Streams of one kind receive the same bytes.
    const CHANNELS: usize;

    /// Builds the data that follows `change`.
    fn apply(current: Option<&Self>, change: &Self::Change) -> Applied<Self>;

    /// Renders `change` for the streams of one channel, once for all of them; `None` if they do not hear of it.
    fn render_change(change: &Self::Change, channel: usize) -> Option<Frame>;

    /// Whether streams are to read the full data in place of `change` and of all changes before it, which are then
    /// kept for nobody.
    #[must_use]
    fn is_restart(_: &Self::Change) -> bool {
        false
    }

    /// Renders everything, as the first message of a stream.
    fn render_full(&self, channel: usize) -> Option<Frame>;

    /// What keeps a silent stream alive.
    #[must_use]
    fn heartbeat() -> Frame {
        Frame::heartbeat()
    }
}

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied<D> {
    /// It was news: this is the data from now on.
    News(D),
    /// It was older than what we hold, but streams hear of it all the same.
    AnnounceOnly,
    /// It was older than what we hold and nobody needs to know.
    Ignored,
}

/// Names an environment in logs, metrics, status and bindings. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentLabel {
    vendor: &'static str,
    name: Arc<str>,
}

impl EnvironmentLabel {
    /// Names the environment `name` of `vendor`.
    #[must_use]
    pub fn new(vendor: &'static str, name: impl Into<Arc<str>>) -> Self {
        Self { vendor, name: name.into() }
    }

    /// The vendor, in lower case.
    #[must_use]
    pub fn vendor(&self) -> &'static str {
        self.vendor
    }

    /// The configured name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl fmt::Display for EnvironmentLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.name)
    }
}

/// Data at one moment.
pub struct Snapshot<D> {
    seq: u64,
    rendered: Arc<Rendered<D>>,
}

/// Data with its full rendering per channel, made by whoever needs it first.
struct Rendered<D> {
    data: D,
    full: Box<[OnceLock<Option<Frame>>]>,
}

/// The reading side of an environment. Cheap to clone.
pub struct Environment<D: Dataset>(Arc<Shared<D>>);

/// The writing side of an environment. There is one, and it cannot be cloned.
pub struct Writer<D: Dataset>(Arc<Shared<D>>);

struct Shared<D> {
    current: ArcSwapOption<Snapshot<D>>,
    log: ChangeLog,
}

/// Makes an environment without data.
#[must_use]
pub fn environment<D: Dataset>() -> (Writer<D>, Environment<D>) {
    environment_with(LogLimits::LARGE)
}

/// Makes an environment without data that remembers more or fewer changes than usual.
#[must_use]
pub fn environment_with<D: Dataset>(limits: LogLimits) -> (Writer<D>, Environment<D>) {
    let log = ChangeLog::new(limits, D::heartbeat());
    let shared = Arc::new(Shared { current: ArcSwapOption::empty(), log });
    (Writer(Arc::clone(&shared)), Environment(shared))
}

impl<D: Dataset> Writer<D> {
    /// Swaps the snapshot, then tells the streams; says whether `change` was news.
    ///
    /// The order is a promise: an SDK that hears of a flag and asks for it at once gets the new flag.
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
        let frames = (!D::is_restart(change))
            .then(|| (0..D::CHANNELS).map(|channel| D::render_change(change, channel)).collect());
        if let Some(rendered) = rendered {
            self.0.current.store(Some(Arc::new(Snapshot { seq, rendered })));
        }
        match frames {
            Some(frames) => self.0.log.publish(seq, frames),
            None => self.0.log.restart(seq),
        }
        is_news
    }

    /// The data that the next change will be applied to.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot<D>>> {
        self.0.current.load_full()
    }
}

impl<D: Dataset> Environment<D> {
    /// The data of this moment. Load it once per request and keep it to the end.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot<D>>> {
        self.0.current.load_full()
    }

    /// Whether there is data.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.0.current.load().is_some()
    }

    /// What streams of this environment read from.
    #[must_use]
    pub fn update_source(&self) -> Arc<dyn UpdateSource> {
        Arc::clone(&self.0) as Arc<dyn UpdateSource>
    }

    /// Makes every stream of this environment send a heartbeat.
    pub fn heartbeat(&self) {
        self.0.log.heartbeat();
    }
}

impl<D> Snapshot<D> {
    /// The data.
    #[must_use]
    pub fn data(&self) -> &D {
        &self.rendered.data
    }

    /// Grows with each change that was announced.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

impl<D: Dataset> Rendered<D> {
    fn new(data: D) -> Self {
        Self { data, full: (0..D::CHANNELS).map(|_| OnceLock::new()).collect() }
    }

    fn full(&self, channel: usize) -> Option<Frame> {
        self.full.get(channel)?.get_or_init(|| self.data.render_full(channel)).clone()
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
