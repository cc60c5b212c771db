//! Requests over many keep-alive connections, as fast as they are answered or at a steady rate.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tokio::time::Instant;

use crate::http;

/// Time after which a request without a response counts as failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connections to one server.
pub(crate) struct Load {
    poll: Poll,
    events: Events,
    address: SocketAddr,
    connections: Vec<Connection>,
    idle: Vec<usize>,
}

/// The results of the requests.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Why the first failed request failed.
    pub(crate) first_failure: Option<String>,
    /// Microseconds from the moment a request was due until its response was complete.
    pub(crate) latencies: Vec<f64>,
}

/// Checks the response to the request with this number; an error makes it a failure.
pub(crate) type Check<'a> = &'a mut dyn FnMut(usize, &[u8]) -> Result<()>;

struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
    /// Number of the request in progress, and when it was due.
    pending: Option<(usize, Instant)>,
}

impl Load {
    /// Opens `count` connections.
    pub(crate) fn open(address: SocketAddr, count: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let connections =
            (0..count).map(|index| Connection::open(&poll, address, index)).collect::<Result<Vec<_>>>()?;
        Ok(Self { poll, events: Events::with_capacity(1024), address, connections, idle: (0..count).collect() })
    }

    /// Sends `requests` in turn, `count` altogether, a new one on each connection whose response is complete.
    pub(crate) fn closed(&mut self, requests: &[Vec<u8>], count: usize, check: Check<'_>) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut next = 0;
        while outcome.answered + outcome.failed < count as u64 {
            while next < count
                && let Some(index) = self.idle.pop()
            {
                self.send_request(index, &requests[next % requests.len()], (next, Instant::now()), &mut outcome)?;
                next += 1;
            }
            self.turn(Duration::from_secs(1), &mut outcome, check)?;
        }
        Ok(outcome)
    }

    /// Sends `requests` in turn, `rate` per second, until `is_over`, which is called about a thousand times a second.
    pub(crate) fn paced(
        &mut self,
        requests: &[Vec<u8>],
        rate: u32,
        is_over: &mut dyn FnMut() -> bool,
        check: Check<'_>,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let (mut due, mut waiting) = (0_u32, VecDeque::new());
        while !is_over() {
            let now = Instant::now();
            while start + Duration::from_secs(1) * due / rate <= now {
                waiting.push_back((due as usize, now));
                due += 1;
            }
            while let Some(request) = waiting.front().copied()
                && let Some(index) = self.idle.pop()
            {
                waiting.pop_front();
                self.send_request(index, &requests[request.0 % requests.len()], request, &mut outcome)?;
            }
            self.turn(Duration::from_millis(1), &mut outcome, check)?;
        }
        // Requests in progress are still awaited; requests that were never sent count as failed.
        let end = Instant::now();
        while self.idle.len() < self.connections.len() && end.elapsed() < TIMEOUT {
            self.turn(Duration::from_millis(10), &mut outcome, check)?;
        }
        if !waiting.is_empty() {
            outcome.fail(format!("{} requests found no free connection", waiting.len()));
            outcome.failed += waiting.len() as u64 - 1;
        }
        Ok(outcome)
    }

    fn send_request(
        &mut self,
        index: usize,
        request: &[u8],
        number: (usize, Instant),
        outcome: &mut Outcome,
    ) -> Result<()> {
        let connection = &mut self.connections[index];
        match connection.socket.write(request) {
            Ok(count) if count == request.len() => connection.pending = Some(number),
            Ok(_) => self.fail(index, "a request was not taken at once", outcome)?,
            Err(error) => self.fail(index, &format!("a request was not taken: {error}"), outcome)?,
        }
        Ok(())
    }

    fn turn(&mut self, timeout: Duration, outcome: &mut Outcome, check: Check<'_>) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let ready: Vec<usize> = self.events.iter().filter(|it| it.is_readable()).map(|it| it.token().0).collect();
        for index in ready {
            match self.connections[index].read(outcome, check) {
                Ok(true) => self.idle.push(index),
                Ok(false) => (),
                Err(error) => {
                    let was_idle = self.idle.iter().position(|it| *it == index);
                    match was_idle {
                        // No request was in progress: the connection is opened again.
                        Some(place) => {
                            self.idle.swap_remove(place);
                            self.reopen(index)?;
                        }
                        None => self.fail(index, &format!("{error:#}"), outcome)?,
                    }
                }
            }
        }
        let is_overdue = |it: &Connection| it.pending.is_some_and(|(_, due)| due.elapsed() > TIMEOUT);
        if let Some(index) = self.connections.iter().position(is_overdue) {
            self.fail(index, "no answer came in time", outcome)?;
        }
        Ok(())
    }

    fn fail(&mut self, index: usize, reason: &str, outcome: &mut Outcome) -> Result<()> {
        outcome.fail(reason.to_owned());
        self.reopen(index)
    }

    fn reopen(&mut self, index: usize) -> Result<()> {
        self.connections[index] = Connection::open(&self.poll, self.address, index)?;
        self.idle.push(index);
        Ok(())
    }
}

impl Connection {
    fn open(poll: &Poll, address: SocketAddr, index: usize) -> Result<Self> {
        let socket = std::net::TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut socket = TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
        Ok(Self { socket, received: Vec::new(), pending: None })
    }

    /// Reads the available data; returns whether a response is complete.
    fn read(&mut self, outcome: &mut Outcome, check: Check<'_>) -> Result<bool> {
        let mut piece = [0; 64 << 10];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) => anyhow::bail!("the connection was closed"),
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("the connection failed"),
            }
        }
        let Some(answer) = http::parse(&self.received)? else { return Ok(false) };
        let (number, due) = self.pending.take().context("a response without a request")?;
        ensure!(answer.body.end == self.received.len(), "more than one answer to a request");
        let body = &self.received[answer.body];
        if answer.status == 200 {
            outcome.latencies.push(due.elapsed().as_secs_f64() * 1e6);
            check(number, body)?;
            outcome.answered += 1;
        } else {
            outcome.fail(format!("answered {}: {:.200}", answer.status, String::from_utf8_lossy(body)));
        }
        self.received.clear();
        Ok(true)
    }
}

impl Outcome {
    /// Fails if any request failed.
    pub(crate) fn must_be_clean(&self) -> Result<()> {
        let reason = self.first_failure.as_deref().unwrap_or_default();
        ensure!(
            self.failed == 0,
            "{} of {} requests failed, the first one: {reason}",
            self.failed,
            self.failed + self.answered
        );
        Ok(())
    }

    fn fail(&mut self, reason: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(reason);
    }
}
