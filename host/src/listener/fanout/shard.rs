//! One fan-out thread.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake};

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use yardarm_core::Lifecycle;
use yardarm_core::feed::Source;
use yardarm_core::stream::OpenStream;

use super::{Ended, FanoutReport, Handed};

const WAKE: Token = Token(usize::MAX);
/// End of a chunked body.
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// What a thread is told.
pub(super) enum Message {
    Add(Box<Handed>),
    /// The source with this key may have something new.
    Pulse(usize),
    /// The stream with this token and identity has to end.
    End(usize, u64),
    Stop,
}

/// The way to talk to a thread.
#[derive(Clone)]
pub(super) struct ShardHandle(Arc<Inbox>);

struct Inbox {
    /// Bounded by what it holds: a stream is in here once before it is served, a source at most once at a time.
    messages: Mutex<Vec<Message>>,
    waker: Waker,
    streams: AtomicUsize,
    blocked: AtomicUsize,
    max_lag: AtomicU64,
    written: AtomicU64,
}

/// The thread's own state.
pub(super) struct Shard {
    poll: Poll,
    handle: ShardHandle,
    lifecycle: Lifecycle,
    runtime: tokio::runtime::Handle,
    streams: Slab<Connection>,
    groups: HashMap<usize, Group>,
    next_identity: u64,
    written: u64,
}

/// One stream.
struct Connection {
    socket: TcpStream,
    stream: OpenStream,
    /// What the socket has not taken yet: a slice of bytes that all streams share.
    unsent: Bytes,
    /// Tells apart streams that had the same token one after the other.
    identity: u64,
    /// Key of the source, and the place in its group.
    group: usize,
    position: usize,
    is_blocked: bool,
    is_ending: bool,
    peer: std::net::SocketAddr,
    place: OwnedSemaphorePermit,
    returning: Option<mpsc::Sender<Ended>>,
}

/// The streams of one source.
struct Group {
    tokens: Vec<usize>,
    /// Set from a pulse until the thread has looked, so that a burst of changes wakes it once.
    is_pulsed: Arc<AtomicBool>,
    /// Ends the task that forwards pulses.
    forwarder: tokio_util::sync::DropGuard,
}

/// Wakes a thread for a stream that has to end.
struct EndWaker {
    handle: ShardHandle,
    token: usize,
    identity: u64,
}

/// What became of a stream after writing.
#[derive(PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Broken,
}

impl ShardHandle {
    pub(super) fn send(&self, message: Message) {
        self.0.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        // Fails only if the epoll is gone, and then there is nobody to tell.
        let _ = self.0.waker.wake();
    }

    pub(super) fn report(&self) -> FanoutReport {
        FanoutReport {
            streams: self.0.streams.load(Ordering::Relaxed),
            blocked: self.0.blocked.load(Ordering::Relaxed),
            max_lag: self.0.max_lag.load(Ordering::Relaxed),
            written_bytes: self.0.written.load(Ordering::Relaxed),
        }
    }
}

impl Wake for EndWaker {
    fn wake(self: Arc<Self>) {
        self.handle.send(Message::End(self.token, self.identity));
    }
}

impl Shard {
    pub(super) fn start(index: usize, lifecycle: &Lifecycle) -> std::io::Result<ShardHandle> {
        let poll = Poll::new()?;
        let handle = ShardHandle(Arc::new(Inbox {
            messages: Mutex::default(),
            waker: Waker::new(poll.registry(), WAKE)?,
            streams: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
            max_lag: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }));
        let shard = Self {
            poll,
            handle: handle.clone(),
            lifecycle: lifecycle.clone(),
            runtime: tokio::runtime::Handle::current(),
            streams: Slab::new(),
            groups: HashMap::new(),
            next_identity: 0,
            written: 0,
        };
        std::thread::Builder::new().name(format!("fan-out {index}")).spawn(move || shard.run())?;
        // Streams still open when everything else has stopped are cut with the thread.
        let (stop, token) = (handle.clone(), lifecycle.token().clone());
        lifecycle.spawn_graceful("fan-out end", async move {
            token.cancelled().await;
            stop.send(Message::Stop);
        });
        Ok(handle)
    }

    fn run(mut self) {
        // Forwarders of pulses are tasks of the runtime.
        let runtime = self.runtime.clone();
        let _entered = runtime.enter();
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
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
                if (event.is_readable() || event.is_error()) && self.has_hung_up(token) {
                    self.remove(token);
                } else if event.is_writable() {
                    self.write(token);
                }
            }
            if self.read_messages() {
                return;
            }
            self.publish_report();
        }
    }

    /// Says whether the thread has to stop.
    fn read_messages(&mut self) -> bool {
        let messages = std::mem::take(&mut *self.handle.0.messages.lock().unwrap_or_else(PoisonError::into_inner));
        for message in messages {
            match message {
                Message::Add(handed) => self.add(*handed),
                Message::Pulse(key) => self.write_group(key),
                Message::End(token, identity) => {
                    if self.streams.get(token).is_some_and(|it| it.identity == identity) {
                        self.write(token);
                    }
                }
                Message::Stop => return true,
            }
        }
        false
    }

    fn add(&mut self, handed: Handed) {
        let Handed { socket, stream, peer, place, returning } = handed;
        let mut socket = TcpStream::from_std(socket);
        let key = Arc::as_ptr(stream.source()).cast::<()>() as usize;
        let entry = self.streams.vacant_entry();
        let token = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut socket, Token(token), interest) {
            tracing::warn!(%error, "stream cannot be watched and is closed");
            return;
        }
        let group =
            self.groups.entry(key).or_insert_with(|| Group::start(key, stream.source(), &self.handle, &self.lifecycle));
        let identity = self.next_identity;
        self.next_identity += 1;
        let position = group.tokens.len();
        group.tokens.push(token);
        let waker = Arc::new(EndWaker { handle: self.handle.clone(), token, identity }).into();
        // One that has to end already is noticed when it is written to, which is at once, and is written its end like any.
        let _ = stream.poll_ending(&mut Context::from_waker(&waker));
        entry.insert(Connection {
            socket,
            stream,
            unsent: Bytes::new(),
            identity,
            group: key,
            position,
            is_blocked: false,
            is_ending: false,
            peer,
            place,
            returning,
        });
        self.write(token);
    }

    fn write_group(&mut self, key: usize) {
        let Some(group) = self.groups.get(&key) else { return };
        group.is_pulsed.store(false, Ordering::Release);
        let tokens = group.tokens.clone();
        let mut max_lag = 0;
        for token in tokens {
            self.write(token);
            if let Some(connection) = self.streams.get(token)
                && connection.is_blocked
            {
                max_lag = max_lag.max(connection.stream.lag());
            }
        }
        self.handle.0.max_lag.store(max_lag, Ordering::Relaxed);
    }

    fn write(&mut self, token: usize) {
        let Some(connection) = self.streams.get_mut(token) else { return };
        let was_blocked = connection.is_blocked;
        let state = connection.write(&mut self.written);
        match (was_blocked, connection.is_blocked) {
            (false, true) => self.handle.0.blocked.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.handle.0.blocked.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        match state {
            State::Open => (),
            State::Broken => drop(self.remove(token)),
            State::Ended => self.give_back(token),
        }
    }

    /// Takes what the peer sends, which is nothing of interest, to learn whether it is still there.
    fn has_hung_up(&mut self, token: usize) -> bool {
        let Some(connection) = self.streams.get_mut(token) else { return false };
        let mut ignored = [0; 512];
        // A peer that keeps sending is not listening; its bytes are bounded like its patience.
        for _ in 0..64 {
            match connection.socket.read(&mut ignored) {
                Ok(0) => return true,
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(_) => return true,
            }
        }
        true
    }

    fn remove(&mut self, token: usize) -> Option<Connection> {
        let mut connection = self.streams.try_remove(token)?;
        if connection.is_blocked {
            self.handle.0.blocked.fetch_sub(1, Ordering::Relaxed);
        }
        // A socket that cannot be taken out of the epoll leaves it when it is closed.
        let _ = self.poll.registry().deregister(&mut connection.socket);
        let group = self.groups.get_mut(&connection.group)?;
        group.tokens.swap_remove(connection.position);
        if let Some(moved) = group.tokens.get(connection.position)
            && let Some(moved) = self.streams.get_mut(*moved)
        {
            moved.position = connection.position;
        }
        if group.tokens.is_empty()
            && let Some(group) = self.groups.remove(&connection.group)
        {
            drop(group.forwarder);
        }
        Some(connection)
    }

    /// The stream has ended well: the connection may serve another request.
    fn give_back(&mut self, token: usize) {
        let Some(connection) = self.remove(token) else { return };
        if let Some(returning) = connection.returning {
            let ended = Ended { socket: connection.socket.into(), peer: connection.peer, place: connection.place };
            // Nobody there, or too many at once: the connection is closed, which clients must expect at any time.
            let _ = returning.try_send(ended);
        }
    }

    fn publish_report(&self) {
        self.handle.0.streams.store(self.streams.len(), Ordering::Relaxed);
        self.handle.0.written.store(self.written, Ordering::Relaxed);
    }
}

impl Connection {
    /// Writes until there is nothing left or the socket is full.
    fn write(&mut self, written: &mut u64) -> State {
        loop {
            while !self.unsent.is_empty() {
                match self.socket.write(&self.unsent) {
                    Ok(0) => return State::Broken,
                    Ok(count) => {
                        *written += count as u64;
                        self.unsent.advance(count);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.is_blocked = true;
                        return State::Open;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => (),
                    Err(_) => return State::Broken,
                }
            }
            self.is_blocked = false;
            if self.is_ending {
                return State::Ended;
            }
            if self.stream.ending().is_some() {
                self.is_ending = true;
                self.unsent = LAST_CHUNK;
            } else if let Some(frame) = self.stream.next_frame() {
                self.unsent = frame.chunk().clone();
            } else {
                return State::Open;
            }
        }
    }
}

impl Group {
    fn start(key: usize, source: &Arc<dyn Source>, handle: &ShardHandle, lifecycle: &Lifecycle) -> Self {
        let is_pulsed = Arc::new(AtomicBool::new(false));
        let token = lifecycle.token().child_token();
        let (mut pulses, handle, flag, ending) =
            (source.pulses(), handle.clone(), Arc::clone(&is_pulsed), token.clone());
        lifecycle.spawn("fan-out pulses", async move {
            loop {
                let changed = tokio::select! {
                    changed = pulses.changed() => changed,
                    () = ending.cancelled() => return,
                };
                if changed.is_err() {
                    return;
                }
                if !flag.swap(true, Ordering::AcqRel) {
                    handle.send(Message::Pulse(key));
                }
            }
        });
        Self { tokens: Vec::new(), is_pulsed, forwarder: token.drop_guard() }
    }
}

#[cfg(test)]
mod tests;
