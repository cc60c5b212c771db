//! The connection of [`super::RedisValues`]: made by one task, apart from operations, whose time limits may be shorter than
//! a connection takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, cmd};
use tokio::sync::{Notify, watch};

use super::super::RedisAddress;
use super::SCRIPT;
use crate::StoreError;

/// Time limit for opening a connection, including TLS and authentication.
const CONNECT: Duration = Duration::from_secs(3);
/// Time limit of the check whether a connection still works.
const CHECK: Duration = Duration::from_secs(1);
/// Shortest time between two checks, and between two connections.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// Longest time between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The connection, and the signals of operations to the task that makes it.
pub(super) struct Link {
    client: Client,
    state: watch::Sender<State>,
    /// An operation needs a connection, or had a failure that may be one of the connection.
    signal: Notify,
    /// Number of connections so far.
    connections: AtomicU64,
}

#[derive(Clone)]
enum State {
    /// None was needed so far.
    Idle,
    /// The first one is being made.
    Connecting,
    Connected(Linked),
    /// The last one failed, or none could be made.
    Failed(StoreError),
}

/// A connection on which the script is loaded.
#[derive(Clone)]
pub(super) struct Linked {
    pub(super) connection: MultiplexedConnection,
    /// Digest of the script.
    pub(super) script: Arc<str>,
    /// Distinguishes it from other connections.
    number: u64,
}

impl Link {
    pub(super) fn new(address: &RedisAddress) -> Self {
        Self {
            client: address.client(),
            state: watch::Sender::new(State::Idle),
            signal: Notify::new(),
            connections: AtomicU64::new(0),
        }
    }

    /// Makes a connection if there is none.
    pub(super) fn wake(&self) {
        if !matches!(*self.state.borrow(), State::Connected(_)) {
            self.signal.notify_one();
        }
    }

    /// Checks the connection, which had a failure or no reply in time.
    pub(super) fn doubt(&self) {
        self.signal.notify_one();
    }

    /// Replaces a connection by another one.
    pub(super) fn replace(&self, old: &Linked) {
        let is_replaced = self.state.send_if_modified(|state| {
            let is_old = matches!(state, State::Connected(linked) if linked.number == old.number);
            if is_old {
                *state = State::Connecting;
            }
            is_old
        });
        if is_replaced {
            self.signal.notify_one();
        }
    }

    /// Returns whether there is a connection, or why there is none; `None` if none was needed so far.
    pub(super) fn state(&self) -> Option<Result<(), String>> {
        match &*self.state.borrow() {
            State::Idle | State::Connecting => None,
            State::Connected(_) => Some(Ok(())),
            State::Failed(error) => Some(Err(error.to_string())),
        }
    }

    /// Returns the connection. Waits for the first one only: while the database is not reachable, operations fail at once.
    pub(super) async fn connection(&self) -> Result<Linked, StoreError> {
        self.wake();
        let mut states = self.state.subscribe();
        loop {
            match &*states.borrow_and_update() {
                State::Connected(linked) => return Ok(linked.clone()),
                State::Failed(error) => return Err(error.clone()),
                State::Idle | State::Connecting => (),
            }
            if states.changed().await.is_err() {
                return Err(StoreError::TimedOut);
            }
        }
    }

    /// Makes and checks connections; never returns.
    pub(super) async fn run(&self, report: impl Fn(Result<(), &StoreError>)) {
        loop {
            self.signal.notified().await;
            let state = self.state.borrow().clone();
            match state {
                State::Connected(linked) => match check(&linked).await {
                    Ok(()) => {
                        tokio::time::sleep(SHORTEST_PAUSE).await;
                        continue;
                    }
                    Err(error) => self.fail(error, &report),
                },
                State::Idle => {
                    self.state.send_replace(State::Connecting);
                }
                State::Connecting | State::Failed(_) => (),
            }
            self.connect(&report).await;
        }
    }

    /// Makes a connection, however long it takes.
    async fn connect(&self, report: &impl Fn(Result<(), &StoreError>)) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.try_connect().await {
                Ok(linked) => {
                    let is_news = linked.number == 0 || matches!(*self.state.borrow(), State::Failed(_));
                    self.state.send_replace(State::Connected(linked));
                    if is_news {
                        report(Ok(()));
                    }
                    tokio::time::sleep(SHORTEST_PAUSE).await;
                    return;
                }
                Err(error) => self.fail(error, report),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn fail(&self, error: StoreError, report: &impl Fn(Result<(), &StoreError>)) {
        if !matches!(*self.state.borrow(), State::Failed(_)) {
            report(Err(&error));
        }
        self.state.send_replace(State::Failed(error));
    }

    async fn try_connect(&self) -> Result<Linked, StoreError> {
        // The time limit on replies is that of each operation.
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let connect = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            let script: String = cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut connection).await?;
            let number = self.connections.fetch_add(1, Ordering::Relaxed);
            Ok(Linked { connection, script: script.into(), number })
        };
        tokio::time::timeout(CONNECT, connect).await.unwrap_or(Err(StoreError::TimedOut))
    }
}

async fn check(linked: &Linked) -> Result<(), StoreError> {
    let mut connection = linked.connection.clone();
    let ping = async { Ok(cmd("PING").exec_async(&mut connection).await?) };
    tokio::time::timeout(CHECK, ping).await.unwrap_or(Err(StoreError::TimedOut))
}
