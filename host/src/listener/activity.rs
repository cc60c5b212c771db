//! The phase of a connection and its deadline: waiting for a request, receiving a head, serving, or writing to a client
//! that does not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::connection_limit::CloseReason;

/// Longest time between the first byte of a request head and its end, as with ld-relay.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while new connections wait for a permit, so that unfinished heads delay them for a short time only.
const CROWDED_HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a connection with an unfinished head checks whether others wait for a permit.
const CROWD_CHECK: Duration = Duration::from_secs(1);

/// State of a connection, shared by its socket, its requests and the task that drives it. All of them run in that
/// task or, with HTTP/2, in tasks that it started; the values are independent of each other.
pub(super) struct Activity {
    start: Instant,
    /// Requests whose response has not been passed to the HTTP library completely.
    requests: AtomicUsize,
    /// When the first byte of the current head arrived; 0 when no head is being received.
    head_since: AtomicU64,
    /// When the socket stopped accepting bytes; 0 while it accepts them.
    blocked_since: AtomicU64,
    /// When the last byte was transferred or the last request ended.
    last: AtomicU64,
    /// The current head has both a length and a transfer coding.
    has_two_lengths: AtomicBool,
    was_cut: AtomicBool,
    probe: AtomicU8,
    /// The body of a stream was polled, so the response head has been encoded.
    is_head_encoded: AtomicBool,
    /// The socket was flushed after that, so the response head has been written.
    is_head_written: AtomicBool,
}

/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// What happens to a connection at its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The connection is idle and may be closed between two requests.
    Close,
    /// The connection is aborted, even during a request.
    Cut(CloseReason),
    /// Nothing; the deadline is computed again.
    Nothing,
}

/// A check for bytes in the socket of an idle connection, for which cached readiness is not reliable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Probe {
    None = 0,
    /// The next read has to query the operating system.
    Wanted = 1,
    /// The read did, and there were no bytes.
    Empty = 2,
}

/// Counts a request as in progress until it is dropped.
pub(super) struct RequestGuard(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            requests: AtomicUsize::new(0),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            last: AtomicU64::new(0),
            has_two_lengths: AtomicBool::new(false),
            was_cut: AtomicBool::new(false),
            probe: AtomicU8::new(Probe::None as u8),
            is_head_encoded: AtomicBool::new(false),
            is_head_written: AtomicBool::new(false),
        })
    }

    /// Returns the milliseconds since the start of the connection, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn at(&self, moment: u64, later: Duration) -> Instant {
        self.start + Duration::from_millis(moment.saturating_sub(1)) + later
    }

    /// Records the beginning of a request, whose head is complete.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        RequestGuard(Arc::clone(self))
    }

    /// Records bytes that arrived from the client.
    pub(super) fn note_read(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Records bytes of a request head; returns whether they are its first ones.
    pub(super) fn note_head(&self) -> bool {
        let is_first = self.head_since.load(Ordering::Relaxed) == 0;
        if is_first {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
        is_first
    }

    /// Records that the socket accepted bytes.
    pub(super) fn note_written(&self) {
        self.blocked_since.store(0, Ordering::Relaxed);
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Records that the socket accepted nothing.
    pub(super) fn note_blocked(&self) {
        if self.blocked_since.load(Ordering::Relaxed) == 0 {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Records that the body of a stream was polled.
    pub(super) fn note_body_polled(&self) {
        self.is_head_encoded.store(true, Ordering::Relaxed);
    }

    /// Records that everything so far was passed to the operating system.
    pub(super) fn note_flushed(&self) {
        if self.is_head_encoded.load(Ordering::Relaxed) {
            self.is_head_written.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the head of a stream is on the wire, so that the connection has become a stream.
    pub(super) fn has_become_stream(&self) -> bool {
        self.is_head_written.load(Ordering::Relaxed)
    }

    /// Returns whether no request is in progress and no head is being received.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_requests()
            && self.head_since.load(Ordering::Relaxed) == 0
            && self.blocked_since.load(Ordering::Relaxed) == 0
    }

    pub(super) fn has_requests(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// When the last byte was transferred or the last request ended.
    pub(super) fn last(&self) -> Instant {
        self.at(self.last.load(Ordering::Relaxed).max(1), Duration::ZERO)
    }

    /// Returns the next deadline and what happens then. `is_crowded` is set while new connections wait for a permit.
    pub(super) fn due(&self, timeouts: &Timeouts, is_crowded: bool) -> (Instant, Due) {
        let blocked_since = self.blocked_since.load(Ordering::Relaxed);
        let head_since = self.head_since.load(Ordering::Relaxed);
        if blocked_since > 0 {
            (self.at(blocked_since, timeouts.write), Due::Cut(CloseReason::WriteTimeout))
        } else if self.has_requests() {
            // The router limits the time of a request; a stream has none.
            (Instant::now() + timeouts.idle, Due::Nothing)
        } else if head_since > 0 {
            let timeout = if is_crowded { CROWDED_HEAD_TIMEOUT } else { HEAD_TIMEOUT };
            let (end, check) = (self.at(head_since, timeout), Instant::now() + CROWD_CHECK);
            if end <= check { (end, Due::Cut(CloseReason::SlowStart)) } else { (check, Due::Nothing) }
        } else {
            (self.last() + timeouts.idle, Due::Close)
        }
    }

    pub(super) fn set_two_lengths(&self, has_two: bool) {
        self.has_two_lengths.store(has_two, Ordering::Relaxed);
    }

    /// Returns whether the head of the request has both a length and a transfer coding.
    pub(super) fn has_two_lengths(&self) -> bool {
        self.has_two_lengths.load(Ordering::Relaxed)
    }

    /// Records that the connection is aborted during its requests, by a deadline of the gateway or of the kernel.
    pub(super) fn set_cut(&self) {
        self.was_cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_cut(&self) -> bool {
        self.was_cut.load(Ordering::Relaxed)
    }

    pub(super) fn set_probe(&self, probe: Probe) {
        self.probe.store(probe as u8, Ordering::Relaxed);
    }

    pub(super) fn probe(&self) -> Probe {
        match self.probe.load(Ordering::Relaxed) {
            1 => Probe::Wanted,
            2 => Probe::Empty,
            _ => Probe::None,
        }
    }
}

impl RequestGuard {
    /// Returns whether the connection was aborted during the request.
    pub(super) fn was_cut(&self) -> bool {
        self.0.was_cut()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts { idle: Duration::from_secs(75), write: Duration::from_secs(120) };

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_deadline() {
        let activity = Activity::new();
        let start = Instant::now();
        let due = |after: u64| start + Duration::from_secs(after);
        assert_eq!(activity.due(&TIMEOUTS, false), (due(75), Due::Close));
        tokio::time::advance(Duration::from_secs(70)).await;
        activity.note_head();
        assert_eq!(activity.due(&TIMEOUTS, false), (due(71), Due::Nothing), "crowding is checked");
        tokio::time::advance(Duration::from_secs(5)).await;
        activity.note_head();
        assert_eq!(activity.due(&TIMEOUTS, true), (due(73), Due::Cut(CloseReason::SlowStart)), "others wait");
        tokio::time::advance(Duration::from_secs(4)).await;
        activity.note_head();
        assert_eq!(
            activity.due(&TIMEOUTS, false),
            (due(80), Due::Cut(CloseReason::SlowStart)),
            "more bytes do not extend the deadline"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        let request = activity.begin_request();
        assert_eq!(activity.due(&TIMEOUTS, true).1, Due::Nothing);
        activity.note_blocked();
        tokio::time::advance(Duration::from_secs(1)).await;
        activity.note_blocked();
        assert_eq!(activity.due(&TIMEOUTS, false), (due(200), Due::Cut(CloseReason::WriteTimeout)));
        drop(request);
        assert!(!activity.is_idle(), "the end of the response still waits for the client");
        activity.note_written();
        assert!(activity.is_idle());
        assert_eq!(activity.due(&TIMEOUTS, false), (due(156), Due::Close));
    }
}
