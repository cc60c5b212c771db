//! A table, and requests that concern its items.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::AttributeValue;

use super::address::DynamoDbAddress;
use super::failure::failure;
use super::items::{NAMESPACE, key_values};
use crate::StoreError;

/// A table. Connections are opened, and credentials are searched, when needed.
pub(super) struct Table {
    address: DynamoDbAddress,
    name: Arc<str>,
}

impl Table {
    pub(super) fn new(address: &DynamoDbAddress, name: &str) -> Self {
        Self { address: address.clone(), name: name.into() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn client(&self) -> Result<&Client, StoreError> {
        self.address.client().await
    }

    pub(super) fn failure<E>(&self, error: SdkError<E>) -> StoreError
    where
        SdkError<E>: aws_sdk_dynamodb::error::ProvideErrorMetadata + std::error::Error,
    {
        failure(&error, self.name())
    }

    /// Returns all items of a namespace; those of `attributes` alone.
    pub(super) async fn query(
        &self,
        client: &Client,
        namespace: &str,
        attributes: &[&str],
    ) -> Result<Vec<HashMap<String, AttributeValue>>, StoreError> {
        let (mut items, mut start) = (Vec::new(), None);
        loop {
            let mut query = client
                .query()
                .table_name(self.name())
                .consistent_read(true)
                .key_condition_expression("#namespace = :namespace")
                .expression_attribute_names("#namespace", NAMESPACE)
                .expression_attribute_values(":namespace", AttributeValue::S(namespace.to_owned()))
                .set_exclusive_start_key(start);
            let names: Vec<_> = (0..attributes.len()).map(|index| format!("#a{index}")).collect();
            for (name, attribute) in names.iter().zip(attributes) {
                query = query.expression_attribute_names(name, *attribute);
            }
            let page = query.projection_expression(names.join(", ")).send().await;
            let page = page.map_err(|error| self.failure(error))?;
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key.filter(|it| !it.is_empty());
            if start.is_none() {
                return Ok(items);
            }
        }
    }

    pub(super) async fn put(&self, client: &Client, item: HashMap<String, AttributeValue>) -> Result<(), StoreError> {
        let put = client.put_item().table_name(self.name()).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| self.failure(error))
    }

    /// Returns an item, as it was last written.
    pub(super) async fn get(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<HashMap<String, AttributeValue>>, StoreError> {
        let client = self.client().await?;
        let get = client.get_item().table_name(self.name()).set_key(Some(key_values(namespace, key)));
        let found = get.consistent_read(true).send().await.map_err(|error| self.failure(error))?;
        Ok(found.item)
    }
}
