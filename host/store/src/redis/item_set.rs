//! A set of items as one hash.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Pipeline, cmd, pipe};

use super::connection::Connections;
use super::{LARGE, RedisAddress};
use crate::{ItemSet, Place, StoreError};

/// A hash in a Redis database, with a field for each item. Its key is the name of the set.
pub struct RedisItems {
    connections: Connections,
    place: Place,
}

impl RedisItems {
    /// Creates the set at `address`; connections are opened when needed.
    #[must_use]
    pub fn new(address: &RedisAddress, name: &str) -> Self {
        let place =
            Place { database: "redis", server: Arc::clone(address.shown()), prefix: name.into(), table: "".into() };
        Self { connections: Connections::new(address), place }
    }

    async fn execute(&self, transaction: Pipeline) -> Result<Vec<String>, StoreError> {
        self.connections
            .alone(LARGE, async |mut connection| {
                let done = transaction.query_async::<()>(&mut connection).await;
                (connection, done)
            })
            .await?;
        Ok(Vec::new())
    }
}

#[async_trait]
impl ItemSet for RedisItems {
    fn place(&self) -> &Place {
        &self.place
    }

    async fn read(&self) -> Result<Vec<(String, Bytes)>, StoreError> {
        let key = &*self.place.prefix;
        let all: Vec<(String, Vec<u8>)> = self
            .connections
            .shared(LARGE, async |mut connection| cmd("HGETALL").arg(key).query_async(&mut connection).await)
            .await?;
        Ok(all.into_iter().map(|(name, content)| (name, content.into())).collect())
    }

    async fn replace(&self, items: &[(String, Bytes)]) -> Result<Vec<String>, StoreError> {
        let key = &*self.place.prefix;
        let mut transaction = pipe();
        transaction.atomic().del(key).ignore();
        for (name, content) in items {
            transaction.hset(key, name, &content[..]).ignore();
        }
        self.execute(transaction).await
    }

    async fn change(&self, items: &[(String, Option<Bytes>)]) -> Result<Vec<String>, StoreError> {
        let key = &*self.place.prefix;
        let mut transaction = pipe();
        transaction.atomic();
        for (name, content) in items {
            match content {
                Some(content) => transaction.hset(key, name, &content[..]).ignore(),
                None => transaction.hdel(key, name).ignore(),
            };
        }
        self.execute(transaction).await
    }
}

#[cfg(test)]
mod tests {
    use yardarm_testkit::RedisServer;

    use super::*;

    #[tokio::test]
    async fn items_are_fields_of_a_hash() {
        let Some(server) = RedisServer::start() else { return };
        let address = RedisAddress::parse(&server.url(), false, None, None).expect("an address");
        let set = RedisItems::new(&address, "a name");
        let bytes = |text: &'static [u8]| Bytes::from_static(text);
        let sorted = async || {
            let mut all = set.read().await.expect("a reachable database");
            all.sort();
            all
        };
        assert_eq!(sorted().await, []);
        set.replace(&[("a".to_owned(), bytes(b"\xff\0")), ("b".to_owned(), bytes(b"1"))]).await.unwrap();
        set.change(&[("b".to_owned(), None), ("c".to_owned(), Some(bytes(b"2"))), ("d".to_owned(), None)])
            .await
            .unwrap();
        assert_eq!(sorted().await, [("a".to_owned(), bytes(b"\xff\0")), ("c".to_owned(), bytes(b"2"))]);
        assert_eq!(server.ask(&["HGET", "a name", "c"]).text().as_deref(), Some("2"));
        set.replace(&[]).await.unwrap();
        assert_eq!(sorted().await, []);
    }
}
