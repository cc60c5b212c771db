//! Values with versions and lifetimes, in namespaces that several processes share.
//!
//! Each operation is one execution of a script, so it is atomic for all processes, and the clock of the database decides
//! when a value is gone. Needs Redis 5 or later.

mod link;

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, RedisResult, ServerErrorKind, cmd};

use self::link::{Link, Linked};
use super::RedisAddress;
use crate::{Place, StoreError, Trouble};

const SCRIPT: &str = include_str!("values/values.lua");

/// Values in a Redis database. An operation waits at most as long as its caller says.
///
/// The values of a namespace are at `<prefix>:kv:{<namespace>}` and `<prefix>:kv:{<namespace>}:ends`.
pub struct RedisValues {
    link: Link,
    place: Place,
    limits: ValueLimits,
}

/// What a namespace may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueLimits {
    /// Maximum number of keys.
    pub keys: usize,
    /// Maximum number of bytes of keys and values.
    pub bytes: usize,
}

/// A value with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedValue {
    /// The value.
    pub value: Vec<u8>,
    /// Grows with each write in the namespace.
    pub version: u64,
}

/// Why an operation on a value failed.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The value of a counter is no whole number of 64 bits.
    #[error("the value is not a number")]
    NotANumber,
    /// The namespace is at its limits.
    #[error("the namespace has no room")]
    Full,
    /// The database is not reachable, or refused the operation, which may have been executed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One operation, in the order of the script's arguments.
#[derive(Default)]
struct Operation<'a> {
    name: &'static str,
    key: &'a str,
    value: &'a [u8],
    ttl: Option<Duration>,
    expected: Option<u64>,
}

impl RedisValues {
    /// Creates values in the database at `address`. Nothing connects before [`Self::run`] runs.
    #[must_use]
    pub fn new(address: &RedisAddress, prefix: &str, limits: ValueLimits) -> Self {
        Self {
            link: Link::new(address),
            place: Place {
                database: "redis",
                server: Arc::clone(address.shown()),
                prefix: prefix.into(),
                table: "".into(),
            },
            limits,
        }
    }

    /// Returns the location of the database, for display.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Connects once a connection is needed, and again whenever it is lost; never returns. Calls `report` whenever the
    /// database becomes reachable, and whenever it no longer is.
    pub async fn run(&self, report: impl Fn(Result<(), &StoreError>)) {
        self.link.run(report).await;
    }

    /// Connects now instead of with the first operation.
    pub fn connect_soon(&self) {
        self.link.wake();
    }

    /// Returns whether there is a connection, or why there is none; `None` if none was needed so far.
    #[must_use]
    pub fn connection(&self) -> Option<Result<(), String>> {
        self.link.state()
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    /// If the database does not answer within `limit`.
    pub async fn get(&self, namespace: &str, key: &str, limit: Duration) -> Result<Option<VersionedValue>, ValueError> {
        let operation = Operation { name: "get", key, ..Operation::default() };
        match &self.execute(namespace, &operation, limit).await?[..] {
            [status, version, value] if status == b"value" => {
                Ok(Some(VersionedValue { value: value.clone(), version: number(version)? }))
            }
            [status] if status == b"none" => Ok(None),
            _ => Err(unexpected().into()),
        }
    }

    /// Writes a value.
    ///
    /// # Errors
    /// If there is no room, or the database does not answer within `limit`.
    pub async fn set(
        &self,
        namespace: &str,
        (key, value): (&str, &[u8]),
        ttl: Option<Duration>,
        limit: Duration,
    ) -> Result<(), ValueError> {
        let operation = Operation { name: "set", key, value, ttl, ..Operation::default() };
        self.execute(namespace, &operation, limit).await.map(drop)
    }

    /// Writes a value if the key has this version, or none for `None`; returns whether it was written.
    ///
    /// # Errors
    /// If there is no room, or the database does not answer within `limit`.
    pub async fn compare_and_set(
        &self,
        namespace: &str,
        expected: Option<u64>,
        (key, value): (&str, &[u8]),
        ttl: Option<Duration>,
        limit: Duration,
    ) -> Result<bool, ValueError> {
        let operation = Operation { name: "compare-and-set", key, value, ttl, expected };
        let reply = self.execute(namespace, &operation, limit).await?;
        Ok(reply.first().is_some_and(|status| status == b"written"))
    }

    /// Adds to a counter, a decimal text; returns its new value, which ends at the limits of 64 bits. `ttl` applies only if
    /// there was no value.
    ///
    /// # Errors
    /// If the value is no number, there is no room, or the database does not answer within `limit`.
    pub async fn increment(
        &self,
        namespace: &str,
        (key, delta): (&str, i64),
        ttl: Option<Duration>,
        limit: Duration,
    ) -> Result<i64, ValueError> {
        let delta = delta.to_string();
        let operation = Operation { name: "increment", key, value: delta.as_bytes(), ttl, ..Operation::default() };
        match &self.execute(namespace, &operation, limit).await?[..] {
            [status, sum] if status == b"sum" => number(sum),
            _ => Err(unexpected().into()),
        }
    }

    /// Removes a value; returns whether there was one.
    ///
    /// # Errors
    /// If the database does not answer within `limit`.
    pub async fn delete(&self, namespace: &str, key: &str, limit: Duration) -> Result<bool, ValueError> {
        let operation = Operation { name: "delete", key, ..Operation::default() };
        let reply = self.execute(namespace, &operation, limit).await?;
        Ok(reply.first().is_some_and(|status| status == b"deleted"))
    }

    async fn execute(
        &self,
        namespace: &str,
        operation: &Operation<'_>,
        limit: Duration,
    ) -> Result<Vec<Vec<u8>>, ValueError> {
        let run = async {
            let linked = self.link.connection().await?;
            let result = self.run_script(&linked, namespace, operation).await.map_err(StoreError::from);
            if let Err(error) = &result {
                match error.trouble() {
                    // The address may belong to another server by now.
                    Trouble::ReadOnly => self.link.replace(&linked),
                    _ => self.link.doubt(),
                }
            }
            result
        };
        let reply = match tokio::time::timeout(limit, run).await {
            Ok(result) => result?,
            Err(_) => {
                self.link.doubt();
                return Err(StoreError::TimedOut.into());
            }
        };
        match reply.first().map(Vec::as_slice) {
            Some(b"full") => Err(ValueError::Full),
            Some(b"not-a-number") => Err(ValueError::NotANumber),
            _ => Ok(reply),
        }
    }

    async fn run_script(
        &self,
        linked: &Linked,
        namespace: &str,
        operation: &Operation<'_>,
    ) -> RedisResult<Vec<Vec<u8>>> {
        let values = format!("{}:kv:{{{namespace}}}", self.place.prefix);
        let command = |name: &str, script: &str| {
            let mut command = cmd(name);
            command.arg(script).arg(2).arg(&values).arg(format!("{values}:ends"));
            command.arg(operation.name).arg(operation.key).arg(operation.value);
            let ttl = operation.ttl.map(|ttl| ttl.as_millis().to_string());
            let expected = operation.expected.map(|version| version.to_string());
            command.arg(ttl.unwrap_or_default()).arg(expected.unwrap_or_default());
            command.arg(self.limits.keys).arg(self.limits.bytes);
            command
        };
        let mut connection = linked.connection.clone();
        match command("EVALSHA", &linked.script).query_async(&mut connection).await {
            // The scripts of the database were removed.
            Err(error) if error.kind() == ServerErrorKind::NoScript.into() => {
                command("EVAL", SCRIPT).query_async(&mut connection).await
            }
            result => result,
        }
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, ValueError> {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| unexpected().into())
}

fn unexpected() -> StoreError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, "the reply is not one of the script")).into()
}

#[cfg(test)]
mod tests;
