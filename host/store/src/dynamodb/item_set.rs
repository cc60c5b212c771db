//! A set of items as one partition of a table.

use std::collections::BTreeSet;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::WriteRequest;
use bytes::Bytes;

use super::items::{Attributes, ITEM, KEY, fits, key_of, key_values};
use super::table::Table;
use super::{DynamoDbAddress, LARGE, batch};
use crate::http::within;
use crate::{ItemSet, Place, StoreError};

/// A partition of a table, whose key is the name of the set. The items are binary attributes.
pub struct DynamoDbItems {
    table: Table,
    place: Place,
}

impl DynamoDbItems {
    /// Creates the set in `table`; connections are opened, and credentials are searched, when needed.
    #[must_use]
    pub fn new(address: &DynamoDbAddress, table: &str, name: &str) -> Self {
        let place = Place { database: "dynamodb", server: address.shown(), prefix: name.into(), table: table.into() };
        Self { table: Table::new(address, table), place }
    }

    fn name(&self) -> &str {
        &self.place.prefix
    }

    fn item(&self, name: &str, content: &Bytes) -> Attributes {
        let mut item = key_values(self.name(), name);
        item.insert(ITEM.to_owned(), AttributeValue::B(content.to_vec().into()));
        item
    }

    /// Returns the request that writes an item; its name if it is too large.
    fn put(&self, name: &str, content: &Bytes) -> Result<Result<WriteRequest, String>, StoreError> {
        let item = self.item(name, content);
        if fits(&item) { batch::put(item).map(Ok) } else { Ok(Err(name.to_owned())) }
    }

    async fn replace_all(&self, items: &[(String, Bytes)]) -> Result<Vec<String>, StoreError> {
        let client = self.table.client().await?;
        let present = self.table.query(client, self.name(), &[KEY]).await?;
        let mut stale: BTreeSet<_> = present.iter().filter_map(key_of).collect();
        let (mut requests, mut left_out) = (Vec::new(), Vec::new());
        for (name, content) in items {
            match self.put(name, content)? {
                Ok(request) => {
                    stale.remove(name);
                    requests.push(request);
                }
                Err(name) => left_out.push(name),
            }
        }
        for name in stale {
            requests.push(batch::delete(key_values(self.name(), &name))?);
        }
        self.table.write_batches(client, requests).await?;
        Ok(left_out)
    }

    async fn change_some(&self, items: &[(String, Option<Bytes>)]) -> Result<Vec<String>, StoreError> {
        let client = self.table.client().await?;
        let (mut requests, mut left_out) = (Vec::new(), Vec::new());
        for (name, content) in items {
            let put = content.as_ref().map(|it| self.put(name, it)).transpose()?;
            match put {
                Some(Ok(request)) => requests.push(request),
                Some(Err(name)) => left_out.push(name),
                None => requests.push(batch::delete(key_values(self.name(), name))?),
            }
        }
        self.table.write_batches(client, requests).await?;
        Ok(left_out)
    }
}

#[async_trait]
impl ItemSet for DynamoDbItems {
    fn place(&self) -> &Place {
        &self.place
    }

    async fn read(&self) -> Result<Vec<(String, Bytes)>, StoreError> {
        let read = async {
            let client = self.table.client().await?;
            self.table.query(client, self.name(), &[KEY, ITEM]).await
        };
        let items = within(LARGE, read).await?;
        let content = |item: &Attributes| {
            let content = item.get(ITEM)?.as_b().ok()?;
            Some((key_of(item)?, Bytes::copy_from_slice(content.as_ref())))
        };
        Ok(items.iter().filter_map(content).collect())
    }

    async fn replace(&self, items: &[(String, Bytes)]) -> Result<Vec<String>, StoreError> {
        within(LARGE, self.replace_all(items)).await
    }

    async fn change(&self, items: &[(String, Option<Bytes>)]) -> Result<Vec<String>, StoreError> {
        within(LARGE, self.change_some(items)).await
    }
}
