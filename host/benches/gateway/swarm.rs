//! Many concurrent streams: opens them, reads everything, and compares what each of them receives.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use crate::http;
use crate::http2::{Frames, Part};
use crate::transcript::{Place, Transcript};
use crate::transport::{self, Transport};

/// Time without progress after which waiting fails.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Streams of one server.
pub(crate) struct Swarm {
    poll: Poll,
    events: Events,
    streams: Vec<Stream>,
    state: Shared,
    address: SocketAddr,
    protocol: Protocol,
    tls: Option<Arc<ClientConfig>>,
}

/// How the streams of a swarm are transported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Plain,
    Tls,
    /// HTTP/2 over TLS, with a connection per stream.
    Http2,
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
    transport: Option<Transport>,
    phase: Phase,
    /// Set for HTTP/2.
    frames: Option<Frames>,
}

enum Phase {
    Connecting,
    Head(Vec<u8>),
    Body(Place),
}

impl Swarm {
    /// Creates a swarm without streams; each stream will send `request` in plain text.
    pub(crate) fn new(address: SocketAddr, request: Vec<u8>) -> Result<Self> {
        Self::of(Protocol::Plain, address, request)
    }

    /// Creates a swarm without streams; each stream will send `request`, in the form of the protocol.
    pub(crate) fn of(protocol: Protocol, address: SocketAddr, request: Vec<u8>) -> Result<Self> {
        let tls = match protocol {
            Protocol::Plain => None,
            Protocol::Tls => Some(transport::client_config("http/1.1")?),
            Protocol::Http2 => Some(transport::client_config("h2")?),
        };
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
            protocol,
            tls,
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
                    stream.transport = None;
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
        let transport = match &self.tls {
            Some(config) => Transport::client(socket, config)?,
            None => Transport::plain(socket),
        };
        let frames = (self.protocol == Protocol::Http2).then(Frames::default);
        self.streams.push(Stream { transport: Some(transport), phase: Phase::Connecting, frames });
        Ok(())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.streams.iter().filter_map(|it| it.transport.as_ref()).for_each(Transport::reset);
    }
}

impl Stream {
    /// Proceeds as far as possible; an error is the reason why the stream is lost.
    fn step(&mut self, state: &mut Shared) -> Result<usize, String> {
        let Some(transport) = &mut self.transport else { return Ok(0) };
        if matches!(self.phase, Phase::Connecting) {
            match transport.socket.take_error() {
                Ok(None) => (),
                Ok(Some(error)) | Err(error) => return Err(format!("not connected: {error}")),
            }
            match transport.write(&state.request) {
                Ok(count) if count == state.request.len() => self.phase = Phase::Head(Vec::new()),
                Ok(_) => return Err("the request was not taken at once".to_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {
                    return Ok(0);
                }
                Err(error) => return Err(format!("the request was not taken: {error}")),
            }
        }
        transport.flush().map_err(|error| format!("the connection failed: {error}"))?;
        let mut total = 0;
        loop {
            let Some(transport) = &mut self.transport else { return Ok(total) };
            let mut buffer = std::mem::take(&mut state.buffer);
            let result = match transport.read(&mut buffer) {
                Ok(0) => Err("the connection was closed".to_owned()),
                Ok(count) => self.accept(&buffer[..count], state).map(|()| count),
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

    fn accept(&mut self, data: &[u8], state: &mut Shared) -> Result<(), String> {
        let (Some(frames), Some(transport)) = (&mut self.frames, &mut self.transport) else {
            return self.phase.read(data, state);
        };
        for part in frames.read(data)? {
            match part {
                Part::Head => self.phase.begin(state),
                Part::Data(bytes) => {
                    self.phase.advance(state, |place, transcript| place.read_payload(&bytes, transcript))?;
                }
                Part::Reply(bytes) => {
                    transport.write(&bytes).map_err(|error| format!("the connection failed: {error}"))?;
                }
            }
        }
        Ok(())
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
                self.begin(state);
                &rest[..]
            }
        };
        self.advance(state, |place, transcript| place.read(data, transcript))
    }

    /// Begins the body, after the head of the response.
    fn begin(&mut self, state: &mut Shared) {
        *self = Self::Body(Place::start());
        // Without a first message, there is only the open stream to wait for.
        if state.wanted == 0 {
            state.satisfied += 1;
            state.satisfied_at.push(Instant::now());
        }
    }

    fn advance(
        &mut self,
        state: &mut Shared,
        read: impl FnOnce(&mut Place, &mut Transcript) -> Result<(), String>,
    ) -> Result<(), String> {
        let Self::Body(place) = self else { return Ok(()) };
        let before = place.received;
        read(place, &mut state.transcript)?;
        if before < state.wanted && place.received >= state.wanted {
            state.satisfied += 1;
            state.satisfied_at.push(Instant::now());
        }
        Ok(())
    }
}
