//! Reading the last good data of an environment, which a start waits for.

use std::sync::Arc;

use serde_json::value::RawValue;
use yardarm_core::data_store::{DataStore, Key, Record, StoreError};
use yardarm_core::{EnvironmentLabel, InternalError};

use yardarm_core::shared_text::shared_text;
use yardarm_core::supervisor::blocking;
use yardarm_launchdarkly_eval::model::{Flag, MAX_VERSION, Segment};
use yardarm_vendor::persisted::{SAVED_ITEMS, SavedItem};

use super::super::items::{Item, ItemKind, Items};
use super::super::message;
use super::super::transfer::Selector;
use super::{FactsOfKind, OWNER, OWNERS, RULES, SELECTOR, SELECTORS, SavedFacts, kind_part, owner, scope, selector};
use crate::config::EnvironmentConfig;

/// Name of the work on other threads.
const TASK: &str = "last good data";

/// Data that an earlier process persisted.
pub(crate) struct Restored {
    pub(crate) items: Items,
    /// Whether the store holds these items and no others.
    pub(super) is_complete: bool,
    /// The state of the items at upstream, if they are complete.
    pub(crate) selector: Option<Selector>,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Internal(#[from] InternalError),
}

/// Reads the data that an earlier process persisted; `None` without usable data, which is logged.
pub(crate) async fn read(store: &DataStore, label: &EnvironmentLabel, config: &EnvironmentConfig) -> Option<Restored> {
    let read = async {
        let scope = scope(label);
        let (records, keys) = (store.clone(), [scope.with(OWNER), scope.with(SELECTOR)]);
        let read = move || -> Result<_, StoreError> {
            Ok((records.get(OWNERS, &keys[0])?, records.get(SELECTORS, &keys[1])?))
        };
        let (Some(stored), saved_selector) = blocking(TASK, read).await?? else { return Ok(None) };
        if stored != owner(config) {
            tracing::warn!("kept data belongs to another SDK key and is ignored");
            return Ok(None);
        }
        let (items, unusable) = read_items(store, &scope).await?;
        Ok(Some((items, unusable, saved_selector)))
    };
    let (items, unusable, saved_selector) = match read.await {
        Ok(found) => found?,
        Err(RestoreError::Store(error)) => {
            tracing::warn!(%error, "kept data cannot be used");
            return None;
        }
        // A panic, which was logged where it was caught.
        Err(RestoreError::Internal(_)) => return None,
    };
    if unusable > 0 {
        tracing::warn!(unusable, "kept items do not fit this version and are left out");
    }
    let is_usable = unusable == 0 || !items.is_empty();
    let is_complete = unusable == 0;
    let selector = saved_selector.filter(|_| is_complete).and_then(|it| selector(&it));
    is_usable.then_some(Restored { items, is_complete, selector })
}

/// All usable items, and the number of unusable ones, which would be refused from upstream too.
pub(super) async fn read_items(store: &DataStore, scope: &Key) -> Result<(Items, usize), RestoreError> {
    let (store, scope) = (store.clone(), scope.clone());
    let read = move || -> Result<_, StoreError> {
        let (mut items, mut unusable) = (Items::default(), 0);
        store.read(SAVED_ITEMS, &scope, |record| match usable(record) {
            Some(Item::Flag(flag)) => items.flags.insert(flag),
            Some(Item::Segment(segment)) => items.segments.insert(segment),
            None => unusable += 1,
        })?;
        Ok((items, unusable))
    };
    Ok(blocking(TASK, read).await??)
}

/// The item of a record, if this version can use it.
fn usable(record: Record<'_, SavedItem<'static>>) -> Option<Item> {
    let [_, _, kind, key] = record.key else { return None };
    let kind = [ItemKind::Flag, ItemKind::Segment].into_iter().find(|it| *kind == kind_part(*it))?;
    let key = std::str::from_utf8(key).ok()?;
    let SavedItem { version, json, facts } = record.value?;
    let Some(json) = json else {
        return Some(match kind {
            ItemKind::Flag => Item::Flag(Arc::new(Flag::tombstone(key, valid(version)?))),
            ItemKind::Segment => Item::Segment(Arc::new(Segment::tombstone(key, valid(version)?))),
        });
    };
    let json = json.into_owned();
    let facts = facts.and_then(|it| serde_json::from_str::<SavedFacts>(&it).ok());
    // What was checked by the same rules needs no parsing: the store verifies what it reads.
    Some(match (kind, facts.filter(|it| it.rules == RULES).map(|it| it.kind)) {
        (ItemKind::Flag, Some(FactsOfKind::Flag(facts))) => {
            Item::Flag(Arc::new(Flag::with_facts(shared_text(key), version, json.into(), facts)))
        }
        (ItemKind::Segment, Some(FactsOfKind::Segment(facts))) => {
            Item::Segment(Arc::new(Segment::with_facts(shared_text(key), version, json.into(), facts)))
        }
        (ItemKind::Flag, _) => Item::Flag(Arc::new(message::flag(key, &RawValue::from_string(json).ok()?).ok()?)),
        (ItemKind::Segment, _) => {
            Item::Segment(Arc::new(message::segment(key, &RawValue::from_string(json).ok()?).ok()?))
        }
    })
}

/// The version of a deleted item, if it is valid; an invalid one would block every later version of the item.
fn valid(version: i64) -> Option<i64> {
    Some(version).filter(|it| (0..=MAX_VERSION).contains(it))
}
