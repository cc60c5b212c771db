//! Texts under plain keys and streams of texts, in a layout that other programs read and write as well.

mod follow;
mod group;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{cmd, pipe};

pub(super) use self::follow::limited;
pub use self::follow::{StreamFollower, StreamNews};
pub use self::group::{GroupMember, GroupMessage};
use super::RedisAddress;
use super::connection::Connections;
use crate::StoreError;

/// Time limit of an operation on many keys: megabytes over a slow network.
const LARGE: Duration = Duration::from_secs(30);
/// Keys per command, so that no command occupies the server for long.
const CHUNK: usize = 256;
/// Keys that one step of a search looks at.
const SCAN_STEP: usize = 1000;
/// Keys that a search returns at most.
const MAX_FOUND: usize = 1_000_000;

/// Texts and streams of texts in a Redis database.
///
/// Sentinel and cluster mode are not supported. Needs Redis 5 or later.
pub struct RedisTexts {
    connections: Connections,
    server: Arc<str>,
}

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextChange {
    /// Sets the text of a key.
    Set(String, Bytes),
    /// Removes a key, if it exists.
    Remove(String),
    /// Appends an entry to a stream.
    Append(StreamEntry),
}

/// An entry of a stream, with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEntry {
    /// Key of the stream.
    pub stream: &'static str,
    /// Name of the field.
    pub field: &'static str,
    /// The text.
    pub text: Bytes,
    /// Number of entries that the stream keeps; the oldest are removed.
    pub max_length: usize,
}

impl RedisTexts {
    /// Creates access to the database at `address`; connections are opened when needed.
    #[must_use]
    pub fn new(address: &RedisAddress) -> Self {
        Self { connections: Connections::new(address), server: Arc::clone(address.shown()) }
    }

    /// Returns the address without a password.
    #[must_use]
    pub fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Returns the texts of keys, in order; `None` for a key that does not exist.
    ///
    /// # Errors
    /// If the database does not answer in time, or a key has a value of another type.
    pub async fn get(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut all = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let texts: Vec<Option<Vec<u8>>> = self
                .connections
                .shared(LARGE, async |mut connection| cmd("MGET").arg(chunk).query_async(&mut connection).await)
                .await?;
            all.extend(texts.into_iter().map(|it| it.map(Bytes::from)));
        }
        Ok(all)
    }

    /// Returns the text of a key within `limit`; `None` if it does not exist.
    ///
    /// # Errors
    /// If the database does not answer in time, or the key has a value of another type.
    pub async fn get_one(&self, key: &str, limit: Duration) -> Result<Option<Bytes>, StoreError> {
        let text: Option<Vec<u8>> = self
            .connections
            .shared(limit, async |mut connection| cmd("GET").arg(key).query_async(&mut connection).await)
            .await?;
        Ok(text.map(Bytes::from))
    }

    /// Returns how many of these keys exist.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn count(&self, keys: &[String]) -> Result<usize, StoreError> {
        let mut sum = 0;
        for chunk in keys.chunks(CHUNK) {
            let found: usize = self
                .connections
                .shared(LARGE, async |mut connection| cmd("EXISTS").arg(chunk).query_async(&mut connection).await)
                .await?;
            sum += found;
        }
        Ok(sum)
    }

    /// Returns the keys that match a pattern of Redis, without duplicates, in order.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn matching(&self, pattern: &str) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys): (String, Vec<Vec<u8>>) = self
                .connections
                .shared(LARGE, async |mut connection| {
                    let mut scan = cmd("SCAN");
                    scan.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_STEP);
                    scan.query_async(&mut connection).await
                })
                .await?;
            // A key that is no text belongs to another program.
            found.extend(keys.into_iter().filter_map(|it| String::from_utf8(it).ok()));
            if next == "0" || found.len() >= MAX_FOUND {
                break;
            }
            cursor = next;
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Executes all changes in order, atomically for all readers.
    ///
    /// # Errors
    /// If the database does not answer in time, or refuses a change. The changes may have been executed.
    pub async fn apply(&self, changes: &[TextChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut transaction = pipe();
        transaction.atomic();
        for change in changes {
            match change {
                TextChange::Set(key, text) => transaction.set(key, &text[..]).ignore(),
                TextChange::Remove(key) => transaction.del(key).ignore(),
                TextChange::Append(StreamEntry { stream, field, text, max_length }) => {
                    let append = transaction.cmd("XADD").arg(stream).arg("MAXLEN").arg(*max_length);
                    append.arg("*").arg(field).arg(&text[..]).ignore()
                }
            };
        }
        self.connections
            .alone(LARGE, async |mut connection| {
                let done = transaction.query_async::<()>(&mut connection).await;
                (connection, done)
            })
            .await
    }

    /// Starts to follow streams from their present ends, on a connection of its own.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn follow(&self, streams: &'static [&'static str]) -> Result<StreamFollower, StoreError> {
        StreamFollower::new(self.connections.dedicated().await?, streams).await
    }

    /// Joins a group of readers of a stream, on a connection of its own. Each entry goes to one member of the group. A
    /// group that does not exist starts at the present end of the stream, or at its beginning if `from_beginning`.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn join(
        &self,
        stream: &'static str,
        group: &'static str,
        from_beginning: bool,
    ) -> Result<GroupMember, StoreError> {
        GroupMember::new(self.connections.dedicated().await?, stream, group, from_beginning).await
    }
}

#[cfg(test)]
mod tests;
