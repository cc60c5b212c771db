//! DynamoDB: an item per record in one table, with a namespace for each collection.
//!
//! The table has the partition key `namespace` and the sort key `key`, both texts, and is created by operators. A full
//! write is not atomic; its marker is written last.

mod address;
mod batch;
mod connector;
mod failure;
mod item_set;
mod items;
mod membership;
mod table;

pub use self::address::DynamoDbAddress;
pub use self::item_set::DynamoDbItems;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;

use self::items::{ITEM, KEY, NAMESPACE, VERSION, fits, key_of, key_values, record_item, text_of};
use self::table::Table;
use crate::http::{QUICK, within};
use crate::{
    Advanced, Collection, Layout, Membership, MembershipPatch, Place, Progress, Record, Store, StoreError, TooLarge,
    Upserted,
};

/// Time limit of an operation on whole collections, which a table with a low capacity slows down.
const LARGE: Duration = Duration::from_secs(120);

/// One environment's part of a table. Namespaces are `<prefix>:<name>`, or the name alone with an empty prefix.
pub struct DynamoDb {
    table: Table,
    place: Place,
    layout: Layout,
}

impl DynamoDb {
    /// Creates a store in `table`; connections are opened, and credentials are searched, when needed.
    #[must_use]
    pub fn new(address: &DynamoDbAddress, table: &str, prefix: &str, layout: Layout) -> Self {
        let place = Place { database: "dynamodb", server: address.shown(), prefix: prefix.into(), table: table.into() };
        Self { table: Table::new(address, table), place, layout }
    }

    fn namespace(&self, name: &str) -> String {
        match &*self.place.prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}:{name}"),
        }
    }

    async fn replace_all(&self, collections: &[Collection]) -> Result<Vec<TooLarge>, StoreError> {
        let client = self.table.client().await?;
        let mut stale = BTreeSet::new();
        for collection in collections {
            let namespace = self.namespace(collection.name);
            for item in self.table.query(client, &namespace, &[KEY]).await? {
                stale.extend(text_of(&item, KEY).map(|key| (namespace.clone(), key.to_owned())));
            }
        }
        let mut left_out = Vec::new();
        for collection in collections {
            let namespace = self.namespace(collection.name);
            let mut items = Vec::new();
            for record in &collection.records {
                let item = record_item(&namespace, record);
                if !fits(&item) {
                    left_out.push(TooLarge { collection: collection.name, key: std::sync::Arc::clone(&record.key) });
                    continue;
                }
                stale.remove(&(namespace.clone(), record.key.to_string()));
                items.push(batch::put(item)?);
            }
            // A batch has no order of its own, so one collection is complete before the next one begins.
            self.table.write_batches(client, items).await?;
        }
        let deletes = stale.into_iter().map(|(namespace, key)| batch::delete(key_values(&namespace, &key)));
        self.table.write_batches(client, deletes.collect::<Result<_, _>>()?).await?;
        let marker = self.namespace(self.layout.marker);
        self.table.put(client, key_values(&marker, &marker)).await?;
        Ok(left_out)
    }

    async fn upsert_one(&self, item: HashMap<String, AttributeValue>) -> Result<Upserted, StoreError> {
        let client = self.table.client().await?;
        let version = item.get(VERSION).cloned();
        let put = client
            .put_item()
            .table_name(self.table.name())
            .set_item(Some(item))
            .condition_expression(
                "attribute_not_exists(#namespace) or attribute_not_exists(#key) or :version > #version",
            )
            .expression_attribute_names("#namespace", NAMESPACE)
            .expression_attribute_names("#key", KEY)
            .expression_attribute_names("#version", VERSION)
            .set_expression_attribute_values(version.map(|it| HashMap::from([(":version".to_owned(), it)])));
        match put.send().await {
            Ok(_) => Ok(Upserted::Written),
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), PutItemError::ConditionalCheckFailedException(_)) =>
            {
                Ok(Upserted::Older)
            }
            Err(error) => Err(self.table.failure(error)),
        }
    }

    async fn probe_write(&self) -> Result<(), StoreError> {
        let client = self.table.client().await?;
        // No reader looks into this namespace. A transaction must not contain two operations on an item.
        let probe = self.namespace(self.layout.probe);
        self.table.put(client, key_values(&probe, &probe)).await?;
        let delete = client.delete_item().table_name(self.table.name()).set_key(Some(key_values(&probe, &probe)));
        delete.send().await.map(|_| ()).map_err(|error| self.table.failure(error))
    }
}

#[async_trait]
impl Store for DynamoDb {
    fn place(&self) -> &Place {
        &self.place
    }

    fn is_atomic(&self) -> bool {
        false
    }

    fn has_memberships(&self) -> bool {
        true
    }

    async fn replace(&self, collections: &[Collection]) -> Result<Vec<TooLarge>, StoreError> {
        within(LARGE, self.replace_all(collections)).await
    }

    async fn upsert(&self, collection: &str, record: &Record) -> Result<Upserted, StoreError> {
        let item = record_item(&self.namespace(collection), record);
        if !fits(&item) {
            return Ok(Upserted::TooLarge);
        }
        within(QUICK, self.upsert_one(item)).await
    }

    async fn read(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let namespace = self.namespace(collection);
        let read = async {
            let client = self.table.client().await?;
            self.table.query(client, &namespace, &[KEY, ITEM]).await
        };
        let items = within(LARGE, read).await?;
        let record = |item: &HashMap<_, _>| {
            let text = text_of(item, ITEM)?;
            Some((key_of(item)?, Bytes::copy_from_slice(text.as_bytes())))
        };
        Ok(items.iter().filter_map(record).collect())
    }

    async fn is_complete(&self) -> Result<bool, StoreError> {
        let marker = self.namespace(self.layout.marker);
        Ok(within(QUICK, self.table.get(&marker, &marker)).await?.is_some())
    }

    async fn probe(&self, _collections: &[&'static str]) -> Result<bool, StoreError> {
        within(QUICK, self.probe_write()).await?;
        self.is_complete().await
    }

    async fn membership(&self, subject: &str) -> Result<Membership, StoreError> {
        self.read_membership(subject).await
    }

    async fn progress(&self) -> Result<Progress, StoreError> {
        within(QUICK, self.read_progress()).await
    }

    async fn synchronized(&self, at_ms: u64) -> Result<(), StoreError> {
        within(QUICK, self.write_synchronized(at_ms)).await
    }

    async fn advance(&self, patch: &MembershipPatch) -> Result<Advanced, StoreError> {
        within(LARGE, self.apply_patch(patch)).await
    }
}

#[cfg(test)]
mod tests;
