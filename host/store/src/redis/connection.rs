//! Connections that are opened on demand and closed after any failure.
//!
//! A connection that failed, or whose operation was dropped, is not reused: it may still watch keys, or return the
//! reply of the dropped operation.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::sync::Mutex;

use super::RedisAddress;
use super::address::TimeLimits;
use crate::StoreError;

pub(super) struct Connections {
    client: Client,
    pub(super) limits: TimeLimits,
    /// For transactions. `WATCH` applies to the connection, so one task at a time uses it, and it is taken out while in
    /// use: an operation that is dropped midway drops the connection too.
    alone: Mutex<Option<MultiplexedConnection>>,
    /// For all other operations, many of which may be in progress at once.
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    connection: Option<MultiplexedConnection>,
    /// Number of the connection, so that a late failure of an old one does not close a new one.
    number: u64,
}

impl Connections {
    pub(super) fn new(address: &RedisAddress) -> Self {
        Self { client: address.client(), limits: address.limits, alone: Mutex::default(), shared: Mutex::default() }
    }

    /// Runs an operation that needs exclusive use of a connection, and keeps the connection if it succeeds.
    pub(super) async fn alone<T>(
        &self,
        limit: Duration,
        operation: impl AsyncFnOnce(MultiplexedConnection) -> (MultiplexedConnection, RedisResult<T>),
    ) -> Result<T, StoreError> {
        let run = async {
            let mut place = self.alone.lock().await;
            let connection = match place.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let (connection, result) = operation(connection).await;
            if result.is_ok() {
                *place = Some(connection);
            }
            Ok(result?)
        };
        tokio::time::timeout(limit, run).await.unwrap_or(Err(StoreError::TimedOut))
    }

    /// Runs an operation on the shared connection.
    pub(super) async fn shared<T>(
        &self,
        limit: Duration,
        operation: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let mut number = None;
        let run = async {
            let connection = {
                let mut shared = self.shared.lock().await;
                let connection = match shared.connection.clone() {
                    Some(connection) => connection,
                    None => {
                        let connection = self.connect().await?;
                        shared.number += 1;
                        shared.connection = Some(connection.clone());
                        connection
                    }
                };
                number = Some(shared.number);
                connection
            };
            Ok(operation(connection).await?)
        };
        let result = tokio::time::timeout(limit, run).await.unwrap_or(Err(StoreError::TimedOut));
        if result.is_err()
            && let Some(number) = number
        {
            let mut shared = self.shared.lock().await;
            if shared.number == number {
                shared.connection = None;
            }
        }
        result
    }

    /// Opens a connection for one user, who may block it.
    pub(super) async fn dedicated(&self) -> Result<MultiplexedConnection, StoreError> {
        tokio::time::timeout(self.limits.connect, self.connect()).await.unwrap_or(Err(StoreError::TimedOut))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        // The time limit on replies is that of the whole operation.
        let connect = Some(self.limits.connect);
        let config = AsyncConnectionConfig::new().set_connection_timeout(connect).set_response_timeout(None);
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}
