//! Many concurrent streams: opens them, reads everything, and compares what each of them receives.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::time::Instant;

use crate::http;
use crate::transcript::{Place, Transcript};

/// Time without progress after which waiting fails.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Streams of one server.
pub(crate) struct Swarm {
    poll: Poll,
    events: Events,
    streams: Vec<Stream>,
    state: Shared,
    address: SocketAddr,
}

/// State shared by all streams.
struct Shared {
    request: Vec<u8>,
    buffer: Vec<u8>,
    transcript: Transcript,
    /// Head of the first response.
    head: Vec<u8>,
    /// Number of events that streams wait for.
    wanted: usize,
    /// Number of streams that received them, and when the last of them did.
    satisfied: usize,
    satisfied_at: Vec<Instant>,
    lost: Vec<String>,
}

struct Stream {
    socket: Option<TcpStream>,
    phase: Phase,
}

enum Phase {
    Connecting,
    Head(Vec<u8>),
    Body(Place),
}

impl Swarm {
    /// Creates a swarm without streams; each stream will send `request`.
    pub(crate) fn new(address: SocketAddr, request: Vec<u8>) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            streams: Vec::new(),
            state: Shared {
                request,
                buffer: vec![0; 256 << 10],
                transcript: Transcript::default(),
                head: Vec::new(),
                wanted: 0,
                satisfied: 0,
                satisfied_at: Vec::new(),
                lost: Vec::new(),
            },
            address,
        })
    }

    /// Opens streams, at most `at_once` at a time, until each has received `events` events; returns when each had,
    /// relative to the start.
    pub(crate) fn open(&mut self, count: usize, at_once: usize, events: usize) -> Result<Vec<Duration>> {
        let goal = self.streams.len() + count;
        let start = Instant::now();
        self.want(events);
        let mut moved = Instant::now();
        while self.state.satisfied < goal {
            while self.streams.len() < goal && self.streams.len() - self.state.satisfied < at_once {
                self.connect()?;
            }
            let before = self.state.satisfied;
            let bytes = self.turn(Duration::from_millis(100))?;
            self.check()?;
            if self.state.satisfied > before || bytes > 0 {
                moved = Instant::now();
            }
            ensure!(
                moved.elapsed() < TIMEOUT,
                "only {} of {goal} streams were served, then nothing came",
                self.state.satisfied
            );
        }
        Ok(self.state.satisfied_at.iter().map(|it| it.duration_since(start)).collect())
    }

    /// Opens streams all at once until each has received an event or was rejected; returns the number of rejected ones,
    /// and the time.
    pub(crate) fn try_open(&mut self, count: usize) -> Result<(usize, Duration)> {
        let (goal, start) = (self.streams.len() + count, Instant::now());
        self.want(1);
        while self.streams.len() < goal {
            self.connect()?;
        }
        while self.state.satisfied + self.state.lost.len() < goal {
            self.turn(Duration::from_millis(100))?;
            ensure!(start.elapsed() < TIMEOUT, "only {} of {goal} streams were answered", self.state.satisfied);
        }
        Ok((self.state.lost.len(), start.elapsed()))
    }

    /// Waits until each stream has received this many events since it was opened.
    pub(crate) fn wait_for_events(&mut self, events: usize) -> Result<()> {
        self.want(events);
        let mut moved = Instant::now();
        while self.state.satisfied < self.streams.len() {
            if self.turn(Duration::from_millis(100))? > 0 {
                moved = Instant::now();
            }
            self.check()?;
            let (done, all) = (self.state.satisfied, self.streams.len());
            ensure!(
                moved.elapsed() < TIMEOUT,
                "only {done} of {all} streams received event {events}, then nothing came"
            );
        }
        Ok(())
    }

    /// Reads the available data; returns the number of bytes.
    pub(crate) fn turn(&mut self, timeout: Duration) -> Result<usize> {
        let Self { poll, events, streams, state, .. } = self;
        match poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            result => result?,
        }
        let mut bytes = 0;
        for event in events.iter() {
            let Some(stream) = streams.get_mut(event.token().0) else { continue };
            match stream.step(state) {
                Ok(count) => bytes += count,
                Err(reason) => {
                    // Closed at once, so that it is not reported twice.
                    stream.socket = None;
                    state.lost.push(reason);
                }
            }
        }
        Ok(bytes)
    }

    /// Returns what the streams have received.
    pub(crate) fn transcript(&self) -> &Transcript {
        &self.state.transcript
    }

    /// Returns the number of streams that were opened.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns the head of the response to the first stream.
    pub(crate) fn head(&self) -> &[u8] {
        &self.state.head
    }

    /// Returns the streams that ended or received other data than the rest, with the reason.
    pub(crate) fn lost(&self) -> &[String] {
        &self.state.lost
    }

    fn want(&mut self, events: usize) {
        self.state.wanted = events;
        self.state.satisfied_at.clear();
        let has_received = |stream: &&Stream| matches!(&stream.phase, Phase::Body(place) if place.received >= events);
        self.state.satisfied = self.streams.iter().filter(has_received).count();
    }

    fn check(&self) -> Result<()> {
        match self.state.lost.first() {
            None => Ok(()),
            Some(reason) => {
                bail!("{} of {} streams were lost, the first one: {reason}", self.state.lost.len(), self.streams.len())
            }
        }
    }

    fn connect(&mut self) -> Result<()> {
        let failed = || format!("stream {} cannot be opened; use fewer with `--streams`", self.streams.len() + 1);
        let mut socket = TcpStream::connect(self.address).with_context(failed)?;
        let token = Token(self.streams.len());
        self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        self.streams.push(Stream { socket: Some(socket), phase: Phase::Connecting });
        Ok(())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for socket in self.streams.iter().filter_map(|it| it.socket.as_ref()) {
            // Closed by a reset, so that ten thousand ports are not reserved for a minute.
            let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Stream {
    /// Proceeds as far as possible; an error is the reason why the stream is lost.
    fn step(&mut self, state: &mut Shared) -> Result<usize, String> {
        let Some(socket) = &mut self.socket else { return Ok(0) };
        if matches!(self.phase, Phase::Connecting) {
            match socket.take_error() {
                Ok(None) => (),
                Ok(Some(error)) | Err(error) => return Err(format!("not connected: {error}")),
            }
            match socket.write(&state.request) {
                Ok(count) if count == state.request.len() => self.phase = Phase::Head(Vec::new()),
                Ok(_) => return Err("the request was not taken at once".to_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {
                    return Ok(0);
                }
                Err(error) => return Err(format!("the request was not taken: {error}")),
            }
        }
        let mut total = 0;
        loop {
            let mut buffer = std::mem::take(&mut state.buffer);
            let read = socket.read(&mut buffer);
            let result = match read {
                Ok(0) => Err("the connection was closed".to_owned()),
                Ok(count) => self.phase.read(&buffer[..count], state).map(|()| count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
                Err(error) => Err(format!("the connection failed: {error}")),
            };
            let capacity = buffer.len();
            state.buffer = buffer;
            let count = result?;
            total += count;
            // Less than the buffer holds: the socket is empty, and the next byte begins a new event.
            if count < capacity {
                return Ok(total);
            }
        }
    }
}

impl Phase {
    fn read(&mut self, data: &[u8], state: &mut Shared) -> Result<(), String> {
        let rest;
        let data = match self {
            Self::Connecting => return Ok(()),
            Self::Body(_) => data,
            Self::Head(head) => {
                head.extend_from_slice(data);
                let Some(end) = http::head_end(head) else { return Ok(()) };
                rest = head.split_off(end);
                let text = String::from_utf8_lossy(head).into_owned();
                match http::status(&text) {
                    Ok(200) if text.to_ascii_lowercase().contains("transfer-encoding: chunked") => (),
                    _ => return Err(format!("answered `{}`", text.lines().next().unwrap_or_default())),
                }
                if state.head.is_empty() {
                    state.head.clone_from(head);
                }
                *self = Self::Body(Place::start());
                // Without a first message, there is only the open stream to wait for.
                if state.wanted == 0 {
                    state.satisfied += 1;
                    state.satisfied_at.push(Instant::now());
                }
                &rest[..]
            }
        };
        if let Self::Body(place) = self {
            let before = place.received;
            place.read(data, &mut state.transcript)?;
            if before < state.wanted && place.received >= state.wanted {
                state.satisfied += 1;
                state.satisfied_at.push(Instant::now());
            }
        }
        Ok(())
    }
}
