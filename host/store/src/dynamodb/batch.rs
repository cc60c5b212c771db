//! Writes of many items, 25 at a time, until every one is stored.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemError;
use aws_sdk_dynamodb::types::{DeleteRequest, PutRequest, WriteRequest};
use tokio::time::sleep;

use super::items::Attributes;
use super::table::Table;
use crate::{Failure, StoreError, Trouble};

/// Most requests of a batch.
const MAX_BATCH: usize = 25;
/// First and longest delay before items that a table did not take are sent again.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// A request that writes an item.
pub(super) fn put(item: Attributes) -> Result<WriteRequest, StoreError> {
    let put = PutRequest::builder().set_item(Some(item)).build().map_err(incomplete)?;
    Ok(WriteRequest::builder().put_request(put).build())
}

/// A request that deletes an item.
pub(super) fn delete(key: Attributes) -> Result<WriteRequest, StoreError> {
    let delete = DeleteRequest::builder().set_key(Some(key)).build().map_err(incomplete)?;
    Ok(WriteRequest::builder().delete_request(delete).build())
}

fn incomplete(error: BuildError) -> StoreError {
    Failure::new(Trouble::Refused, error.to_string()).into()
}

impl Table {
    /// Executes requests in their order, batch by batch. A table that is at its capacity takes a part of a batch and returns
    /// the others in a successful response, so these are sent again until none is left; the caller's time limit ends
    /// the attempts.
    pub(super) async fn write_batches(&self, client: &Client, requests: Vec<WriteRequest>) -> Result<(), StoreError> {
        let mut rest = requests.into_iter();
        loop {
            let mut batch: Vec<_> = rest.by_ref().take(MAX_BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let mut delay = FIRST_DELAY;
            loop {
                let sent = client.batch_write_item().request_items(self.name(), batch.clone()).send().await;
                let left = match sent {
                    Ok(response) => {
                        let mut left = response.unprocessed_items.unwrap_or_default();
                        left.remove(self.name()).unwrap_or_default()
                    }
                    // None of them was taken.
                    Err(SdkError::ServiceError(error)) if is_throttled(error.err()) => std::mem::take(&mut batch),
                    Err(error) => return Err(self.failure(error)),
                };
                if left.is_empty() {
                    break;
                }
                batch = left;
                sleep(delay).await;
                delay = (delay * 2).min(MAX_DELAY);
            }
        }
    }
}

fn is_throttled(error: &BatchWriteItemError) -> bool {
    use aws_sdk_dynamodb::error::ProvideErrorMetadata;
    matches!(error, BatchWriteItemError::ProvisionedThroughputExceededException(_))
        || matches!(error.code(), Some("ThrottlingException" | "RequestLimitExceeded"))
}
