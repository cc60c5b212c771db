//! Group memberships: one item per subject with two sets, and one item with cursor and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, TransactWriteItem, Update};

use super::items::{key_values, number_of, set_of, text_of};
use super::{DynamoDb, within};
use crate::{Advanced, Failure, Membership, MembershipPatch, Progress, StoreError, Trouble};

/// Time limit of a lookup, which an SDK's request waits for.
const LOOK_UP: Duration = Duration::from_secs(1);
/// Most subjects that one transaction changes, beside the check of the cursor.
const MAX_CHANGES: usize = 24;

const CURSOR: &str = "lastVersion";
const SYNCHRONIZED_ON: &str = "synchronizedOn";
const INCLUDED: &str = "included";
const EXCLUDED: &str = "excluded";

/// What happens to one group in the sets of a subject.
#[derive(Default)]
struct Change {
    added_to: BTreeSet<&'static str>,
    removed_from: BTreeSet<&'static str>,
}

impl DynamoDb {
    pub(super) async fn read_membership(&self, subject: &str) -> Result<Membership, StoreError> {
        let item = within(LOOK_UP, self.table.get(&self.namespace(self.layout.subjects), subject)).await?;
        let item = item.unwrap_or_default();
        Ok(Membership { included: set_of(&item, INCLUDED), excluded: set_of(&item, EXCLUDED) })
    }

    pub(super) async fn read_progress(&self) -> Result<Progress, StoreError> {
        let metadata = self.namespace(self.layout.metadata);
        let item = self.table.get(&metadata, &metadata).await?.unwrap_or_default();
        Ok(Progress {
            cursor: text_of(&item, CURSOR).map(str::to_owned),
            synchronized_on: number_of(&item, SYNCHRONIZED_ON),
        })
    }

    pub(super) async fn write_synchronized(&self, at_ms: u64) -> Result<(), StoreError> {
        let client = self.table.client().await?;
        let metadata = self.namespace(self.layout.metadata);
        let update = client
            .update_item()
            .table_name(self.table.name())
            .set_key(Some(key_values(&metadata, &metadata)))
            .update_expression("SET #time = :time")
            .expression_attribute_names("#time", SYNCHRONIZED_ON)
            .expression_attribute_values(":time", AttributeValue::N(at_ms.to_string()));
        update.send().await.map(|_| ()).map_err(|error| self.table.failure(error))
    }

    /// Applies the changes in transactions that check the cursor, and then sets the cursor. If that fails in between, the
    /// cursor is still the one before the patch, which is applied again as a whole.
    pub(super) async fn apply_patch(&self, patch: &MembershipPatch) -> Result<Advanced, StoreError> {
        let client = self.table.client().await?;
        let updates = self.updates(patch)?;
        for chunk in updates.chunks(MAX_CHANGES) {
            let check = TransactWriteItem::builder().condition_check(self.check(patch)?).build();
            let mut operations = vec![check];
            operations.extend_from_slice(chunk);
            match client.transact_write_items().set_transact_items(Some(operations)).send().await {
                Ok(_) => (),
                Err(SdkError::ServiceError(error)) if is_refused(error.err()) => return self.refused().await,
                Err(error) => return Err(self.table.failure(error)),
            }
        }
        let metadata = self.namespace(self.layout.metadata);
        let update = client
            .update_item()
            .table_name(self.table.name())
            .set_key(Some(key_values(&metadata, &metadata)))
            .update_expression("SET #cursor = :version")
            .condition_expression(condition(patch))
            .expression_attribute_names("#cursor", CURSOR)
            .expression_attribute_values(":version", AttributeValue::S(patch.version.clone()))
            .expression_attribute_values(":previous", AttributeValue::S(patch.previous.clone()));
        match update.send().await {
            Ok(_) => Ok(Advanced::Applied),
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), UpdateItemError::ConditionalCheckFailedException(_)) =>
            {
                self.refused().await
            }
            Err(error) => Err(self.table.failure(error)),
        }
    }

    async fn refused(&self) -> Result<Advanced, StoreError> {
        Ok(Advanced::Refused { cursor: self.read_progress().await?.cursor })
    }

    fn check(&self, patch: &MembershipPatch) -> Result<ConditionCheck, StoreError> {
        let metadata = self.namespace(self.layout.metadata);
        ConditionCheck::builder()
            .table_name(self.table.name())
            .set_key(Some(key_values(&metadata, &metadata)))
            .condition_expression(condition(patch))
            .expression_attribute_names("#cursor", CURSOR)
            .expression_attribute_values(":previous", AttributeValue::S(patch.previous.clone()))
            .build()
            .map_err(incomplete)
    }

    /// Returns one update per subject: a transaction must not contain two operations on an item.
    fn updates(&self, patch: &MembershipPatch) -> Result<Vec<TransactWriteItem>, StoreError> {
        let namespace = self.namespace(self.layout.subjects);
        let update = |(subject, change): (&str, Change)| {
            let mut parts = Vec::new();
            for (verb, sets) in [("ADD", &change.added_to), ("DELETE", &change.removed_from)] {
                let sets: Vec<_> = sets.iter().map(|set| format!("#{set} :group")).collect();
                if !sets.is_empty() {
                    parts.push(format!("{verb} {}", sets.join(", ")));
                }
            }
            let mut update = Update::builder()
                .table_name(self.table.name())
                .set_key(Some(key_values(&namespace, subject)))
                .update_expression(parts.join(" "))
                .expression_attribute_values(":group", AttributeValue::Ss(vec![patch.group.clone()]));
            for set in change.added_to.iter().chain(&change.removed_from) {
                update = update.expression_attribute_names(format!("#{set}"), *set);
            }
            let update = update.build().map_err(incomplete)?;
            Ok(TransactWriteItem::builder().update(update).build())
        };
        changes(patch).into_iter().map(update).collect()
    }
}

/// What a patch does to each subject. A subject that is both added to a set and removed from it is removed, as in databases
/// that execute the additions first.
fn changes(patch: &MembershipPatch) -> BTreeMap<&str, Change> {
    let mut changes: BTreeMap<&str, Change> = BTreeMap::new();
    for (set, subjects) in [(INCLUDED, &patch.include), (EXCLUDED, &patch.exclude)] {
        for subject in subjects {
            changes.entry(subject).or_default().added_to.insert(set);
        }
    }
    for (set, subjects) in [(INCLUDED, &patch.forget_included), (EXCLUDED, &patch.forget_excluded)] {
        for subject in subjects {
            let change = changes.entry(subject).or_default();
            change.added_to.remove(set);
            change.removed_from.insert(set);
        }
    }
    changes
}

/// The condition under which a patch applies. Without a cursor, only a first patch does.
fn condition(patch: &MembershipPatch) -> &'static str {
    if patch.previous.is_empty() {
        "attribute_not_exists(#cursor) or #cursor = :previous"
    } else {
        "#cursor = :previous"
    }
}

/// Whether the cursor was another one, or another writer interfered.
fn is_refused(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = error else {
        return matches!(error, TransactWriteItemsError::TransactionInProgressException(_));
    };
    let mut codes = canceled.cancellation_reasons().iter().filter_map(|it| it.code());
    codes.any(|it| matches!(it, "ConditionalCheckFailed" | "TransactionConflict"))
}

fn incomplete(error: BuildError) -> StoreError {
    Failure::new(Trouble::Refused, error.to_string()).into()
}
