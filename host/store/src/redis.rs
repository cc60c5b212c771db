//! Redis: hashes for collections, sets for memberships, transactions for both.

mod address;
mod connection;
mod fleet;
mod item_set;
mod membership;
mod texts;
mod values;

pub use self::address::{InvalidAddress, InvalidCertificates, RedisAddress, RedisCertificates};
pub use self::fleet::RedisFleet;
pub use self::item_set::RedisItems;
pub use self::texts::{GroupMember, GroupMessage, RedisTexts, StreamEntry, StreamFollower, StreamNews, TextChange};
pub use self::values::{RedisValues, ValueError, ValueLimits, VersionedValue};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{cmd, pipe};

use self::connection::Connections;
use crate::{
    Advanced, Collection, Layout, Membership, MembershipPatch, Place, Progress, Record, Store, StoreError, TooLarge,
    Upserted,
};

/// Expiry of the probe's key in milliseconds, in case it is not removed by its transaction.
const PROBE_LIFE_MS: u64 = 10_000;
/// Time limit of an operation on whole collections: megabytes over a slow network.
const LARGE: Duration = Duration::from_secs(30);

/// One environment's part of a Redis database. Keys are `<prefix>:<name>`.
///
/// Sentinel and cluster mode are not supported.
pub struct Redis {
    connections: Connections,
    place: Place,
    layout: Layout,
}

impl Redis {
    /// Creates a store at `address`; connections are opened when needed.
    #[must_use]
    pub fn new(address: &RedisAddress, prefix: &str, layout: Layout) -> Self {
        Self {
            connections: Connections::new(address),
            place: Place {
                database: "redis",
                server: Arc::clone(address.shown()),
                prefix: prefix.into(),
                table: "".into(),
            },
            layout,
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.place.prefix)
    }
}

#[async_trait]
impl Store for Redis {
    fn place(&self) -> &Place {
        &self.place
    }

    fn is_atomic(&self) -> bool {
        true
    }

    fn has_memberships(&self) -> bool {
        true
    }

    async fn replace(&self, collections: &[Collection]) -> Result<Vec<TooLarge>, StoreError> {
        let mut transaction = pipe();
        transaction.atomic();
        for collection in collections {
            let key = self.key(collection.name);
            transaction.del(&key).ignore();
            for record in &collection.records {
                transaction.hset(&key, &*record.key, &record.text[..]).ignore();
            }
        }
        transaction.set(self.key(self.layout.marker), "").ignore();
        self.connections
            .alone(LARGE, async |mut connection| {
                let done = transaction.query_async::<()>(&mut connection).await;
                (connection, done)
            })
            .await?;
        Ok(Vec::new())
    }

    async fn upsert(&self, collection: &str, record: &Record) -> Result<Upserted, StoreError> {
        let key = self.key(collection);
        self.connections
            .alone(self.connections.limits.quick, async |mut connection| {
                let done = self.upsert_on(&mut connection, &key, record).await;
                (connection, done)
            })
            .await
    }

    async fn read(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let key = self.key(collection);
        let all: Vec<(String, Vec<u8>)> = self
            .connections
            .shared(LARGE, async |mut connection| cmd("HGETALL").arg(&key).query_async(&mut connection).await)
            .await?;
        Ok(all.into_iter().map(|(key, text)| (key, text.into())).collect())
    }

    async fn is_complete(&self) -> Result<bool, StoreError> {
        let key = self.key(self.layout.marker);
        self.connections
            .shared(self.connections.limits.quick, async |mut connection| {
                cmd("EXISTS").arg(&key).query_async(&mut connection).await
            })
            .await
    }

    async fn probe(&self, collections: &[&'static str]) -> Result<bool, StoreError> {
        let (marker, probe) = (self.key(self.layout.marker), self.key(self.layout.probe));
        let mut keys: Vec<String> = collections.iter().map(|it| self.key(it)).collect();
        keys.extend([marker.clone(), probe.clone()]);
        let mut transaction = pipe();
        transaction.atomic();
        transaction.cmd("EXISTS").arg(&marker);
        // All keys of a full write in one command, which a cluster rejects as it would reject the write.
        transaction.cmd("EXISTS").arg(&keys).ignore();
        // Rejected by a replica and by a database that is full. Other clients never see the key.
        transaction.cmd("SET").arg(&probe).arg("").arg("PX").arg(PROBE_LIFE_MS).ignore();
        transaction.del(&probe).ignore();
        let (is_complete,): (bool,) = self
            .connections
            .alone(self.connections.limits.quick, async |mut connection| {
                let done = transaction.query_async(&mut connection).await;
                (connection, done)
            })
            .await?;
        Ok(is_complete)
    }

    async fn membership(&self, subject: &str) -> Result<Membership, StoreError> {
        self.read_membership(subject).await
    }

    async fn progress(&self) -> Result<Progress, StoreError> {
        self.read_progress().await
    }

    async fn synchronized(&self, at_ms: u64) -> Result<(), StoreError> {
        let key = self.key(self.layout.synchronized_on);
        self.connections
            .shared(self.connections.limits.quick, async |mut connection| {
                cmd("SET").arg(&key).arg(at_ms).query_async(&mut connection).await
            })
            .await
    }

    async fn advance(&self, patch: &MembershipPatch) -> Result<Advanced, StoreError> {
        self.apply_patch(patch).await
    }
}

impl Redis {
    /// Compares and writes, and retries while other clients change the collection in between; the caller's time limit
    /// ends the retries.
    async fn upsert_on(
        &self,
        connection: &mut redis::aio::MultiplexedConnection,
        key: &str,
        record: &Record,
    ) -> redis::RedisResult<Upserted> {
        loop {
            cmd("WATCH").arg(key).exec_async(connection).await?;
            let present: Option<Vec<u8>> = cmd("HGET").arg(key).arg(&*record.key).query_async(connection).await?;
            let version = present.as_deref().and_then(self.layout.version_of);
            if version.is_some_and(|it| it >= record.version) {
                cmd("UNWATCH").exec_async(connection).await?;
                return Ok(Upserted::Older);
            }
            let mut transaction = pipe();
            transaction.atomic().hset(key, &*record.key, &record.text[..]).ignore();
            // `None`: another client changed the collection, and nothing was written.
            let executed: Option<()> = transaction.query_async(connection).await?;
            if executed.is_some() {
                return Ok(Upserted::Written);
            }
        }
    }
}

#[cfg(test)]
mod tests;
