//! The floor: a bare epoll loop that writes the same bytes to the same number of sockets, and nothing else.
//!
//! It runs as a child of this program and reads commands from its standard input: `greet LENGTH` sets the response to
//! the request of each new connection, `send LENGTH` writes to all connections, `answer LENGTH` sets the response to
//! each request from then on; the bytes follow the line. It prints a line when a response is set, so that no client comes
//! before. With TLS, it encrypts what it writes by rustls.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, mpsc};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio_rustls::rustls::ServerConfig;

use crate::process::Process;
use crate::transport::{self, Transport};

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);

/// A running floor. Killed when dropped.
pub(crate) struct Floor {
    child: Child,
    commands: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

enum Order {
    Greet(Arc<[u8]>),
    Send(Arc<[u8]>),
    Answer(Arc<[u8]>),
    End,
}

/// What the requests of clients receive.
struct Responses {
    greeting: Arc<[u8]>,
    /// The response to each request; `None` if there is one per connection, the greeting.
    answer: Option<Arc<[u8]>>,
}

struct Connection {
    transport: Transport,
    is_greeted: bool,
    /// The last bytes of the request so far.
    tail: [u8; 3],
    /// Data that did not fit into the socket, and how much of it has been written.
    unsent: Vec<(Arc<[u8]>, usize)>,
}

impl Floor {
    /// Starts this program as a floor.
    pub(crate) fn start() -> Result<Self> {
        Self::run(false)
    }

    /// Starts this program as a floor that speaks TLS.
    pub(crate) fn start_tls() -> Result<Self> {
        Self::run(true)
    }

    fn run(has_tls: bool) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut command = Command::new(program);
        command.arg("--floor-server").stdin(Stdio::piped()).stdout(Stdio::piped());
        if has_tls {
            command.arg("--floor-tls");
        }
        let mut child = command.spawn().context("the floor does not start")?;
        let (Some(commands), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the floor has no pipes")
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.trim().parse().context("the floor printed no address")?;
        Ok(Self { child, commands, output, address })
    }

    /// Returns the process, to read its resource usage.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Sets what each new connection receives.
    pub(crate) fn greet(&mut self, bytes: &[u8]) -> Result<()> {
        self.set("greet", bytes)
    }

    /// Sends bytes to all connections.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.order("send", bytes)
    }

    /// Sets what each request receives from now on.
    pub(crate) fn answer(&mut self, bytes: &[u8]) -> Result<()> {
        self.set("answer", bytes)
    }

    fn set(&mut self, what: &str, bytes: &[u8]) -> Result<()> {
        self.order(what, bytes)?;
        let length = self.output.read_line(&mut String::new())?;
        ensure!(length > 0, "the floor is gone");
        Ok(())
    }

    fn order(&mut self, what: &str, bytes: &[u8]) -> Result<()> {
        writeln!(self.commands, "{what} {}", bytes.len())?;
        self.commands.write_all(bytes)?;
        self.commands.flush().context("the floor is gone")
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the child: serves until its standard input ends.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
pub(crate) fn serve(has_tls: bool) -> Result<()> {
    let tls = has_tls.then(transport::server_config).transpose()?;
    let mut poll = Poll::new()?;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(4096)?;
    let mut listener = TcpListener::from_std(socket.into());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let (orders, received) = mpsc::channel();
    std::thread::spawn(move || read_orders(&orders, &waker));
    println!("{}", listener.local_addr()?);

    let mut connections: Vec<Connection> = Vec::new();
    let mut responses = Responses { greeting: Arc::from([]), answer: None };
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accept(&listener, &poll, tls.as_ref(), &mut connections)?,
                WAKER => {
                    for order in received.try_iter() {
                        match order {
                            Order::Greet(bytes) => {
                                responses.greeting = bytes;
                                println!("set");
                            }
                            Order::Answer(bytes) => {
                                responses.answer = Some(bytes);
                                println!("set");
                            }
                            Order::Send(bytes) => connections.iter_mut().for_each(|it| it.send(&bytes)),
                            Order::End => return Ok(()),
                        }
                    }
                }
                Token(index) => {
                    if let Some(connection) = connections.get_mut(index) {
                        connection.serve(&responses);
                    }
                }
            }
        }
    }
}

fn read_orders(orders: &mpsc::Sender<Order>, waker: &Waker) {
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    let mut next = || -> Option<Order> {
        line.clear();
        input.read_line(&mut line).ok()?;
        let (what, length) = line.trim().split_once(' ')?;
        let mut bytes = vec![0; length.parse().ok()?];
        input.read_exact(&mut bytes).ok()?;
        Some(match what {
            "greet" => Order::Greet(bytes.into()),
            "answer" => Order::Answer(bytes.into()),
            _ => Order::Send(bytes.into()),
        })
    };
    loop {
        let order = next();
        let is_end = order.is_none();
        let is_heard = orders.send(order.unwrap_or(Order::End)).is_ok() && waker.wake().is_ok();
        if is_end || !is_heard {
            return;
        }
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    tls: Option<&Arc<ServerConfig>>,
    connections: &mut Vec<Connection>,
) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                socket.set_nodelay(true)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut socket, Token(connections.len()), interest)?;
                let transport = match tls {
                    Some(config) => Transport::server(socket, config)?,
                    None => Transport::plain(socket),
                };
                connections.push(Connection { transport, is_greeted: false, tail: [0; 3], unsent: Vec::new() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("the floor cannot accept"),
        }
    }
}

impl Connection {
    /// Answers requests, and continues writing what did not fit.
    fn serve(&mut self, responses: &Responses) {
        // A client that disconnected receives nothing more.
        let _ = self.transport.flush();
        if let Some(answer) = &responses.answer {
            for _ in 0..self.read_requests() {
                self.write(answer, 0);
            }
            return;
        }
        if !self.is_greeted {
            // A client of this program sends a single small request.
            if self.read_requests() > 0 {
                self.is_greeted = true;
                self.send(&responses.greeting);
            }
            return;
        }
        let unsent = std::mem::take(&mut self.unsent);
        for (bytes, written) in unsent {
            self.write(&bytes, written);
        }
    }

    /// Reads up to the blank line of a request; returns the number of requests, which have no bodies.
    fn read_requests(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let (start, mut count) = (self.tail.len(), 0);
        while let Ok(length @ 1..) = self.transport.read(&mut buffer[start..]) {
            buffer[..start].copy_from_slice(&self.tail);
            count += buffer[..start + length].windows(4).filter(|it| it == b"\r\n\r\n").count();
            self.tail.copy_from_slice(&buffer[length..length + start]);
            if start + length < buffer.len() {
                break;
            }
        }
        count
    }

    fn send(&mut self, bytes: &Arc<[u8]>) {
        if self.is_greeted {
            self.write(bytes, 0);
        }
    }

    fn write(&mut self, bytes: &Arc<[u8]>, mut written: usize) {
        while self.unsent.is_empty() && written < bytes.len() {
            match self.transport.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A client that disconnected receives nothing more.
                Err(_) => return,
            }
        }
        if written < bytes.len() {
            self.unsent.push((Arc::clone(bytes), written));
        }
    }
}
