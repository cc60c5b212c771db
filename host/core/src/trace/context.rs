//! What identifies a span across processes, in the headers of W3C's Trace Context.

use std::sync::Arc;

/// Longest value of `tracestate` that is passed on, in bytes; the standard demands 512.
const MAX_STATE: usize = 512;

/// A span, its trace, and whether the trace is recorded. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    is_sampled: bool,
    is_remote: bool,
    /// Value of `tracestate`: what other vendors of tracing systems add.
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// Name of the header with the IDs.
    pub const HEADER: &str = "traceparent";
    /// Name of the header with the state.
    pub const STATE_HEADER: &str = "tracestate";

    /// Creates the context of a span of this process.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64, is_sampled: bool) -> Self {
        Self { trace_id, span_id, is_sampled, is_remote: false, state: None }
    }

    /// Returns the same context with a value of `tracestate`.
    #[must_use]
    pub fn with_state(self, state: Option<Arc<str>>) -> Self {
        Self { state: state.filter(|it| !it.is_empty() && it.len() <= MAX_STATE), ..self }
    }

    /// Reads the headers of a request; `None` if `traceparent` is not valid, in which case a new trace begins.
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let mut fields = parent.trim().split('-');
        let mut hex = |length: usize| {
            let field = fields.next()?;
            let is_hex = |it: u8| it.is_ascii_digit() || matches!(it, b'a'..=b'f');
            (field.len() == length && field.bytes().all(is_hex)).then_some(field)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // Later versions may have more fields.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|it| *it != 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|it| *it != 0)?;
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let context = Self { is_remote: true, ..Self::new(trace_id, span_id, is_sampled) };
        Some(context.with_state(state.map(Arc::from)))
    }

    /// Returns the value of `traceparent`.
    #[must_use]
    pub fn parent_header(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }

    /// Returns the value of `tracestate`, if there is one.
    #[must_use]
    pub fn state_header(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns the ID of the trace.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Returns the ID of the span.
    #[must_use]
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Whether the span is one of another process.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.is_remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn headers_are_read_and_written() {
        let context = TraceContext::parse(PARENT, Some("a=1,b=2")).expect("valid");
        assert_eq!(
            (context.trace_id(), context.span_id()),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)
        );
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!((context.parent_header().as_str(), context.state_header()), (PARENT, Some("a=1,b=2")));
        let long = "x".repeat(MAX_STATE + 1);
        assert_eq!(TraceContext::parse(PARENT, Some(&long)).expect("valid").state_header(), None);
        let own = TraceContext::new(1, 2, false);
        assert_eq!(own.parent_header(), "00-00000000000000000000000000000001-0000000000000002-00");
        assert!(!own.is_remote() && !own.is_sampled());
    }

    #[test]
    fn what_is_not_valid_begins_a_new_trace() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text, None), None, "{text}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(TraceContext::parse(later, None).is_some_and(|it| !it.is_sampled()));
    }
}
