//! Drives an HTTP connection until it ends, becomes a stream, or is aborted.
//!
//! A connection is closed between two requests only: the socket is first checked for a request that has already
//! arrived. HTTP/2 announces the end of a connection by a frame instead.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use tokio::time::{Instant, sleep_until};

use super::Serving;
use super::activity::{Activity, Due, Probe};
use super::connection_limit::CloseReason;

/// Longest time for a client without requests in progress to confirm the end of its connection.
const FAREWELL: Duration = Duration::from_millis(500);
/// Shortest idle time after which a connection may be closed in favour of a new one.
const IDLE_ENOUGH: Duration = Duration::from_millis(250);

/// The outcome of driving a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The connection has been shut down.
    Ended,
    /// The head of a stream is on the wire.
    BecameStream,
    /// A deadline passed, and nothing more is written.
    Cut(CloseReason),
}

/// A connection of the HTTP library.
pub(super) trait HttpConnection: Future {
    /// Returns whether the socket must be checked before the connection is closed between two requests.
    const NEEDS_PROBE: bool;

    /// Ends the connection after the requests in progress.
    fn close(self: Pin<&mut Self>);
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<I, B, S> HttpConnection for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    const NEEDS_PROBE: bool = true;

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S, E> HttpConnection for http2::Connection<I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    const NEEDS_PROBE: bool = false;

    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Progress of closing a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// The connection closes if no request waits in the socket.
    Probing(Option<CloseReason>),
    /// The HTTP library is closing the connection.
    Yes(Instant),
}

/// Drives a connection until it ends, becomes a stream, or is aborted.
pub(super) async fn drive<C: HttpConnection>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    serving: &Serving,
) -> Outcome {
    let mut timer = pin!(sleep_until(activity.due(&serving.timeouts, false).0));
    let mut stopping = pin!(serving.lifecycle.token().cancelled());
    let mut room = Room::new(serving);
    let (mut closing, mut is_stopping) = (Closing::No, false);
    poll_fn(|context| {
        loop {
            let has_ended = connection.as_mut().poll(context).is_ready();
            if activity.has_become_stream() {
                return Poll::Ready(Outcome::BecameStream);
            }
            if has_ended && activity.was_cut() {
                // The kernel timed out first.
                serving.limit.count_closed(CloseReason::WriteTimeout);
                return Poll::Ready(Outcome::Cut(CloseReason::WriteTimeout));
            }
            if has_ended {
                return Poll::Ready(Outcome::Ended);
            }
            if let Closing::Probing(reason) = closing {
                // A probe that was not executed counts as empty: everything that was read has been served.
                let is_quiet = activity.probe() != Probe::None && activity.is_idle();
                activity.set_probe(Probe::None);
                if is_quiet || is_stopping {
                    if let Some(reason) = reason.filter(|_| is_quiet) {
                        serving.limit.count_closed(reason);
                    }
                    connection.as_mut().close();
                    closing = Closing::Yes(Instant::now());
                    continue;
                }
                closing = Closing::No;
            }
            if !is_stopping && stopping.as_mut().poll(context).is_ready() {
                is_stopping = true;
                if closing == Closing::No {
                    closing = begin_closing(connection.as_mut(), activity, serving, None);
                    continue;
                }
            }
            if closing == Closing::No && room.poll_wanted(activity, context).is_ready() {
                closing = begin_closing(connection.as_mut(), activity, serving, Some(CloseReason::MadeRoom));
                continue;
            }
            let (at, due) = match (activity.due(&serving.timeouts, serving.limit.is_full()), closing) {
                ((_, Due::Close), Closing::Yes(since)) => (since.max(activity.last()) + FAREWELL, Due::Close),
                (next, _) => next,
            };
            // Deadlines are mostly extended, and a timer that fires too early costs less than resetting it every time.
            if at < timer.deadline() {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset(at);
            if at > Instant::now() {
                continue;
            }
            match (due, closing) {
                (Due::Cut(reason), _) => {
                    serving.limit.count_closed(reason);
                    activity.set_cut();
                    return Poll::Ready(Outcome::Cut(reason));
                }
                (Due::Close, Closing::Yes(_)) => return Poll::Ready(Outcome::Ended),
                (Due::Close, _) => {
                    closing = begin_closing(connection.as_mut(), activity, serving, Some(CloseReason::Idle));
                }
                (Due::Nothing, _) => (),
            }
        }
    })
    .await
}

fn begin_closing<C: HttpConnection>(
    connection: Pin<&mut C>,
    activity: &Activity,
    serving: &Serving,
    reason: Option<CloseReason>,
) -> Closing {
    if C::NEEDS_PROBE && activity.is_idle() {
        activity.set_probe(Probe::Wanted);
        return Closing::Probing(reason);
    }
    if let Some(reason) = reason {
        serving.limit.count_closed(reason);
    }
    connection.close();
    Closing::Yes(Instant::now())
}

/// A pending request of a new connection that an idle one makes room.
struct Room<'a> {
    serving: &'a Serving,
    wanted: Pin<Box<tokio::sync::futures::OwnedNotified>>,
    is_registered: bool,
}

impl<'a> Room<'a> {
    fn new(serving: &'a Serving) -> Self {
        Self { serving, wanted: Box::pin(serving.limit.room_wanted()), is_registered: false }
    }

    /// Ready when the connection should close in favour of another one.
    fn poll_wanted(&mut self, activity: &Activity, context: &mut Context<'_>) -> Poll<()> {
        let limit = &self.serving.limit;
        // All connections share the lock behind this request, so it is taken once, and later only when needed.
        let is_needed = if self.is_registered { limit.is_full() } else { activity.is_idle() };
        if !is_needed {
            return Poll::Pending;
        }
        self.is_registered = true;
        while self.wanted.as_mut().poll(context).is_ready() {
            self.wanted.set(limit.room_wanted());
            if !activity.is_idle() {
                self.is_registered = false;
                limit.pass_on();
                return Poll::Pending;
            }
            if limit.is_full() && activity.last().elapsed() >= IDLE_ENOUGH {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
