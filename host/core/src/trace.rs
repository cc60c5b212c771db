//! Traces: spans of requests and of the work that they cause.
//!
//! Spans are recorded by the [`Tracer`] that is in use. Without one, every function here returns at once: nothing is
//! allocated, and no clock is read.

mod context;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;

pub use self::context::TraceContext;

/// The tracer in use.
static TRACER: ArcSwapOption<Box<dyn Tracer>> = ArcSwapOption::const_empty();
/// Whether there is one. Cheaper to read than the tracer.
static IS_TRACED: AtomicBool = AtomicBool::new(false);

tokio::task_local! {
    /// The span that the current task works for.
    static CURRENT: TraceContext;
}

/// Starts spans.
pub trait Tracer: Send + Sync {
    /// Starts a span. Without a parent it begins a trace, which may be left out by sampling.
    fn start(&self, name: &'static str, kind: SpanKind, parent: Option<&TraceContext>) -> Span;
}

/// Receives the details of a span that is recorded. Dropping it ends the span.
pub trait SpanRecord: Send + Sync {
    /// Replaces the name.
    fn rename(&mut self, name: String);

    /// Sets an attribute.
    fn set(&mut self, name: &'static str, value: AttributeValue);

    /// Marks the span as failed.
    fn set_failed(&mut self);
}

/// What a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// The answer to a request.
    Server,
    /// A request of ours.
    Client,
    /// Work inside the process.
    Internal,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text. It must not contain a credential or a context.
    Text(String),
    /// A fixed text.
    Fixed(&'static str),
    /// A number.
    Number(i64),
}

/// A span. It ends when it is dropped.
pub struct Span {
    context: TraceContext,
    /// `None` if sampling has left out the trace.
    record: Option<Box<dyn SpanRecord>>,
}

/// Replaces the tracer; `None` ends the recording of new spans.
pub fn set_tracer(tracer: Option<Box<dyn Tracer>>) {
    IS_TRACED.store(tracer.is_some(), Ordering::Relaxed);
    TRACER.store(tracer.map(Arc::new));
}

/// Starts a span that continues the trace of `parent`, or else begins one; `None` without a tracer.
#[must_use]
pub fn start(name: &'static str, kind: SpanKind, parent: Option<&TraceContext>) -> Option<Span> {
    if !IS_TRACED.load(Ordering::Relaxed) {
        return None;
    }
    TRACER.load().as_ref().map(|tracer| tracer.start(name, kind, parent))
}

/// Starts a span below that of the current task; `None` without a tracer, or if the task works for no recorded span.
#[must_use]
pub fn child(name: &'static str, kind: SpanKind) -> Option<Span> {
    let parent = current().filter(TraceContext::is_sampled)?;
    start(name, kind, Some(&parent))
}

/// Returns the span that the current task works for.
#[must_use]
pub fn current() -> Option<TraceContext> {
    if !IS_TRACED.load(Ordering::Relaxed) {
        return None;
    }
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs `work` for a span: spans that it starts are below this one.
pub async fn within<T>(span: Option<&Span>, work: impl Future<Output = T>) -> T {
    match span {
        // In the heap, so that work without a span does not take more room.
        Some(span) => Box::pin(CURRENT.scope(span.context.clone(), work)).await,
        None => work.await,
    }
}

/// Runs `work`, which does not wait, for a span: lines of the log belong to its trace.
pub fn in_scope<T>(span: Option<&Span>, work: impl FnOnce() -> T) -> T {
    match span {
        Some(span) => CURRENT.sync_scope(span.context.clone(), work),
        None => work(),
    }
}

/// Runs `work` for a span that begins a trace of its own.
pub async fn in_root<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let span = start(name, SpanKind::Internal, None);
    within(span.as_ref(), work).await
}

impl Span {
    /// Creates a span; without a record nothing of it is exported.
    #[must_use]
    pub fn new(context: TraceContext, record: Option<Box<dyn SpanRecord>>) -> Self {
        Self { context, record }
    }

    /// Returns what identifies the span.
    #[must_use]
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Replaces the name.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(record) = &mut self.record {
            record.rename(name());
        }
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<AttributeValue>) {
        if let Some(record) = &mut self.record {
            record.set(name, value.into());
        }
    }

    /// Marks the span as failed.
    pub fn set_failed(&mut self) {
        if let Some(record) = &mut self.record {
            record.set_failed();
        }
    }
}

impl From<&'static str> for AttributeValue {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u16> for AttributeValue {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Sends the names of spans, with the number of their parents.
    struct Recorder(mpsc::Sender<(&'static str, Option<u64>, u64)>);

    impl Tracer for Recorder {
        fn start(&self, name: &'static str, _: SpanKind, parent: Option<&TraceContext>) -> Span {
            let id = parent.map_or(1, |it| it.span_id() + 1);
            let _ = self.0.send((name, parent.map(TraceContext::span_id), id));
            let is_sampled = parent.is_none_or(TraceContext::is_sampled);
            Span::new(TraceContext::new(7, id, is_sampled), None)
        }
    }

    // One test, because the tracer is that of the process.
    #[tokio::test]
    async fn spans_of_a_task_are_below_its_own() {
        assert!(start("a", SpanKind::Server, None).is_none() && current().is_none());
        within(None, async { assert!(child("b", SpanKind::Internal).is_none()) }).await;
        let (sender, spans) = mpsc::channel();
        set_tracer(Some(Box::new(Recorder(sender))));
        assert!(child("outside", SpanKind::Internal).is_none());
        let span = start("outer", SpanKind::Server, None).expect("a span");
        within(Some(&span), async {
            let inner = child("inner", SpanKind::Internal).expect("a span");
            within(Some(&inner), async { drop(child("innermost", SpanKind::Client)) }).await;
            drop(child("sibling", SpanKind::Internal));
        })
        .await;
        let unsampled = Span::new(TraceContext::new(8, 9, false), None);
        within(Some(&unsampled), async { assert!(child("left out", SpanKind::Internal).is_none()) }).await;
        set_tracer(None);
        assert!(start("after", SpanKind::Server, None).is_none());
        let names: Vec<_> = spans.try_iter().collect();
        let expected = [("outer", None, 1), ("inner", Some(1), 2), ("innermost", Some(2), 3), ("sibling", Some(1), 2)];
        assert_eq!(names, expected);
    }
}
