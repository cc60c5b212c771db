//! One fan-out thread.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use socket2::SockRef;
use tokio::time::Instant;
use yardarm_core::Lifecycle;
use yardarm_core::registry::EndReason;
use yardarm_core::supervisor::{self, fault_point};

use super::StreamHandoff;
use super::connection::{Connection, State};
use super::inbox::{Message, Notice, ShardHandle};
use super::subscription::Subscription;

const WAKE: Token = Token(usize::MAX);

/// State of a fan-out thread.
pub(super) struct Shard {
    poll: Poll,
    handle: ShardHandle,
    streams: Slab<Connection>,
    groups: HashMap<usize, Group>,
    next_identity: u64,
    written: u64,
    write_timeout: Duration,
    /// When blocked streams are checked next; `None` without blocked streams.
    next_sweep: Instant,
}

/// The streams of one source.
struct Group {
    tokens: Vec<usize>,
    subscription: Subscription,
}

impl Shard {
    pub(super) fn start(index: usize, lifecycle: &Lifecycle, write_timeout: Duration) -> std::io::Result<ShardHandle> {
        let poll = Poll::new()?;
        let handle = ShardHandle::new(Waker::new(poll.registry(), WAKE)?);
        let shard = Self {
            poll,
            handle: handle.clone(),
            streams: Slab::new(),
            groups: HashMap::new(),
            next_identity: 0,
            written: 0,
            write_timeout,
            next_sweep: Instant::now(),
        };
        // If the thread fails, its streams are lost and the process has to end. A panic in one stream is caught before.
        lifecycle.supervisor().vital_thread("fan-out", format!("fan-out {index}"), move || shard.run())?;
        // Streams that are still open when everything else has stopped end with the thread.
        let (stop, token) = (handle.clone(), lifecycle.token().clone());
        lifecycle.supervise_graceful("fan-out end", move || {
            let (stop, token) = (stop.clone(), token.clone());
            async move {
                token.cancelled().await;
                stop.send(Message::Stop);
            }
        });
        Ok(handle)
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            // All blocked streams are checked at intervals instead of by a timer for each.
            let has_blocked = self.handle.blocked() > 0;
            let timeout = has_blocked.then(|| self.next_sweep.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "fan-out thread cannot wait for its sockets");
                    return;
                }
                Ok(()) => (),
            }
            for event in &events {
                let Token(token) = event.token();
                if event.token() == WAKE || !self.streams.contains(token) {
                    continue;
                }
                if event.is_error() || event.is_read_closed() {
                    self.end_broken(token);
                } else if event.is_readable() && self.read(token) {
                    self.remove(token);
                } else if event.is_writable() || self.streams[token].wants_flush() {
                    self.write(token);
                }
            }
            self.sweep();
            if self.read_messages() {
                return;
            }
            self.publish_report();
        }
    }

    /// Handles a message; returns whether the thread has to stop.
    fn read_messages(&mut self) -> bool {
        for message in self.handle.take() {
            fault_point("fan-out stop");
            match message {
                Message::Add(handoff) => self.add(*handoff),
                Message::Notice(Notice::Pulse(key)) => self.write_group(key),
                Message::Notice(Notice::End(token, identity)) => {
                    if self.streams.get(token).is_some_and(|it| it.identity == identity) {
                        self.write(token);
                    }
                }
                Message::Stop => return true,
            }
        }
        false
    }

    fn add(&mut self, handoff: StreamHandoff) {
        let entry = self.streams.vacant_entry();
        let token = entry.key();
        let source = Arc::clone(handoff.stream.source());
        let key = Arc::as_ptr(&source).cast::<()>() as usize;
        let identity = self.next_identity;
        self.next_identity += 1;
        let mut connection = Connection::new(handoff, identity, key);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut connection.socket, Token(token), interest) {
            tracing::warn!(%error, "stream cannot be watched and is closed");
            return;
        }
        let group = self.groups.entry(key).or_insert_with(|| {
            let waker = self.handle.waker(Notice::Pulse(key));
            Group { tokens: Vec::new(), subscription: Subscription::new(source.versions(), waker) }
        });
        connection.position = group.tokens.len();
        group.tokens.push(token);
        let waker = self.handle.waker(Notice::End(token, identity));
        // A stream that has to end already is written to at once, detects the end there, and is closed like any other.
        let _ = connection.stream.poll_ending(&mut Context::from_waker(&waker));
        entry.insert(connection);
        // What the client sent together with its request may have ended the connection already.
        if self.read(token) {
            self.remove(token);
        } else {
            self.write(token);
        }
    }

    /// Reads what the client sends, if there is a need; returns whether the connection is over.
    fn read(&mut self, token: usize) -> bool {
        let Some(connection) = self.streams.get_mut(token) else { return false };
        let label = |it: &Connection| Some(it.stream.environment().clone());
        // A panic in one stream ends this stream only.
        supervisor::part("fan-out stream", connection, label, Connection::read).unwrap_or(true)
    }

    fn write_group(&mut self, key: usize) {
        let Some(group) = self.groups.get_mut(&key) else { return };
        group.subscription.renew();
        let tokens = group.tokens.clone();
        let mut max_lag = 0;
        for token in tokens {
            self.write(token);
            if let Some(connection) = self.streams.get(token)
                && connection.is_blocked()
            {
                max_lag = max_lag.max(connection.stream.lag());
            }
        }
        self.handle.set_max_lag(max_lag);
    }

    fn write(&mut self, token: usize) {
        let Some(connection) = self.streams.get_mut(token) else { return };
        let was_blocked = connection.is_blocked();
        let label = |it: &Connection| Some(it.stream.environment().clone());
        // A panic in one stream ends this stream only.
        let written = supervisor::part("fan-out stream", connection, label, |it| it.write(&mut self.written));
        let state = written.unwrap_or(State::Broken);
        match (was_blocked, connection.is_blocked()) {
            (false, true) => self.handle.add_blocked(),
            (true, false) => self.handle.remove_blocked(),
            _ => (),
        }
        match state {
            State::Open => (),
            State::Broken => drop(self.remove(token)),
            State::Ended => {
                if let Some(connection) = self.remove(token) {
                    connection.give_back();
                }
            }
        }
    }

    /// Ends streams whose sockets have accepted nothing for too long.
    fn sweep(&mut self) {
        let now = Instant::now();
        if self.next_sweep > now || self.handle.blocked() == 0 {
            return;
        }
        self.next_sweep = now + (self.write_timeout / 8).clamp(Duration::from_millis(20), Duration::from_secs(5));
        let timeout = self.write_timeout;
        let is_stuck = |it: &Connection| it.blocked_since.is_some_and(|since| now.duration_since(since) >= timeout);
        let stuck: Vec<_> = self.streams.iter().filter(|(_, it)| is_stuck(it)).map(|(token, _)| token).collect();
        for token in stuck {
            let Some(connection) = self.remove(token) else { continue };
            connection.stream.end(EndReason::Unresponsive);
            // Unacknowledged bytes are discarded at once instead of waiting in the kernel.
            let _ = SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Handles a readable socket: the client closed its side, or the connection failed.
    fn end_broken(&mut self, token: usize) {
        let Some(connection) = self.remove(token) else { return };
        if let Ok(Some(error)) = connection.socket.take_error()
            && error.kind() == ErrorKind::TimedOut
        {
            connection.stream.end(EndReason::Unresponsive);
        }
    }

    fn remove(&mut self, token: usize) -> Option<Connection> {
        let mut connection = self.streams.try_remove(token)?;
        if connection.is_blocked() {
            self.handle.remove_blocked();
        }
        // A socket that cannot be deregistered leaves the epoll when it is closed.
        let _ = self.poll.registry().deregister(&mut connection.socket);
        let group = self.groups.get_mut(&connection.group)?;
        group.tokens.swap_remove(connection.position);
        if let Some(moved) = group.tokens.get(connection.position)
            && let Some(moved) = self.streams.get_mut(*moved)
        {
            moved.position = connection.position;
        }
        if group.tokens.is_empty() {
            self.groups.remove(&connection.group);
        }
        Some(connection)
    }

    fn publish_report(&self) {
        self.handle.set_totals(self.streams.len(), self.written);
    }
}

#[cfg(test)]
mod tests;
