//! The floor: a bare epoll loop that writes the same bytes to the same number of sockets, and nothing else.
//!
//! It runs as a child of this program and reads commands from its standard input: `greet LENGTH` sets the response to
//! the request of each new connection, `send LENGTH` writes to all connections; the bytes follow the line.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, mpsc};

use anyhow::{Context, Result, bail};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::process::Process;

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);

/// A running floor. Killed when dropped.
pub(crate) struct Floor {
    child: Child,
    commands: ChildStdin,
    pub(crate) address: SocketAddr,
}

enum Order {
    Greet(Arc<[u8]>),
    Send(Arc<[u8]>),
    End,
}

struct Connection {
    socket: TcpStream,
    is_greeted: bool,
    /// Data that did not fit into the socket, and how much of it has been written.
    unsent: Vec<(Arc<[u8]>, usize)>,
}

impl Floor {
    /// Starts this program as a floor.
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut command = Command::new(program);
        command.arg("--floor-server").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("the floor does not start")?;
        let (Some(commands), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the floor has no pipes")
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().context("the floor printed no address")?;
        Ok(Self { child, commands, address })
    }

    /// Returns the process, to read its resource usage.
    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// Sets what each new connection receives.
    pub(crate) fn greet(&mut self, bytes: &[u8]) -> Result<()> {
        self.order("greet", bytes)
    }

    /// Sends bytes to all connections.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.order("send", bytes)
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
#[expect(clippy::print_stdout, reason = "the address goes to the parent")]
pub(crate) fn serve() -> Result<()> {
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
    let mut greeting: Arc<[u8]> = Arc::from([]);
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accept(&listener, &poll, &mut connections)?,
                WAKER => {
                    for order in received.try_iter() {
                        match order {
                            Order::Greet(bytes) => greeting = bytes,
                            Order::Send(bytes) => connections.iter_mut().for_each(|it| it.send(&bytes)),
                            Order::End => return Ok(()),
                        }
                    }
                }
                Token(index) => {
                    if let Some(connection) = connections.get_mut(index) {
                        connection.serve(&greeting);
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
        Some(if what == "greet" { Order::Greet(bytes.into()) } else { Order::Send(bytes.into()) })
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

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Vec<Connection>) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                socket.set_nodelay(true)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut socket, Token(connections.len()), interest)?;
                connections.push(Connection { socket, is_greeted: false, unsent: Vec::new() });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("the floor cannot accept"),
        }
    }
}

impl Connection {
    /// Answers the request, and continues writing what did not fit.
    fn serve(&mut self, greeting: &Arc<[u8]>) {
        if !self.is_greeted {
            let mut request = [0; 1024];
            // A client of this program sends a single small request.
            if matches!(self.socket.read(&mut request), Ok(count) if count > 0) {
                self.is_greeted = true;
                self.send(greeting);
            }
            return;
        }
        let unsent = std::mem::take(&mut self.unsent);
        for (bytes, written) in unsent {
            self.write(&bytes, written);
        }
    }

    fn send(&mut self, bytes: &Arc<[u8]>) {
        if self.is_greeted {
            self.write(bytes, 0);
        }
    }

    fn write(&mut self, bytes: &Arc<[u8]>, mut written: usize) {
        while self.unsent.is_empty() && written < bytes.len() {
            match self.socket.write(&bytes[written..]) {
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
