//! Transfers from upstream by the second version of LaunchDarkly's delivery protocol ("FDv2"): events are collected, and a
//! change set is returned once it is complete. Until then nothing of it is visible (U048).
//!
//! A change set replaces all data or changes some of it. The service names the state that it leads to by a selector, which
//! the next request contains as its `basis`, so that only later changes are sent.

mod event;

use std::sync::Arc;
use std::time::Duration;

use yardarm_launchdarkly_eval::model::MAX_VERSION;
use yardarm_vendor::upstream::LogThrottle;

pub(crate) use self::event::{Goodbye, Intent, TransferEvent, parse};
use super::items::{Item, Items};
use super::message::{MessageError, RefusedItem};

/// Longest selector, in bytes, that is sent back: addresses that are much longer are rejected by proxies.
const MAX_SELECTOR: usize = 2048;
/// Largest transfer, in bytes: as large as the largest event of a stream.
const MAX_TRANSFER: usize = 128 << 20;
/// What an object takes besides the data of its event, in bytes.
const OBJECT_OVERHEAD: usize = 512;

/// Log lines about transfers that the service breaks off.
static DISCARDED: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// The name of a state of the data at upstream. It is opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Arc<str>);

/// A complete set of changes.
pub(crate) struct ChangeSet {
    /// Whether it replaces all data.
    pub(crate) is_full: bool,
    /// Objects and tombstones in the order in which they were sent.
    items: Vec<Item>,
    /// Objects that cannot be used. Present items under their keys stay.
    pub(crate) refused: Vec<RefusedItem>,
    /// The state that it leads to.
    pub(crate) selector: Option<Selector>,
}

/// What an event leads to.
pub(crate) enum Step {
    /// Nothing yet.
    Pending,
    /// The data that the request named is the newest.
    UpToDate,
    /// A change set is complete.
    Complete(ChangeSet),
    /// The connection should be closed.
    Goodbye(Goodbye),
}

/// Why a connection, or the response to a poll, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("an intent without a payload")]
    NoPayload,
    #[error("unknown intent code `{0}`")]
    IntentCode(String),
    #[error("the end of a transfer without an intent")]
    NoIntent,
    #[error("changes to data that was not sent")]
    NoBasis,
    #[error("a transfer larger than {} MiB", MAX_TRANSFER >> 20)]
    TooLarge,
    #[error("no complete transfer")]
    Incomplete,
}

/// The state of one connection, or of the response to one poll.
pub(crate) struct Transfer {
    /// `None` before the first intent.
    mode: Option<Mode>,
    /// Whether the receiver has the data that changes refer to.
    has_base: bool,
    /// Whether the service has discarded objects since the intent.
    has_discarded: bool,
    items: Vec<Item>,
    refused: Vec<RefusedItem>,
    /// Memory of what was collected, in bytes.
    size: usize,
}

/// What collected objects are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Everything,
    Changes,
}

impl Selector {
    /// The selector in a text; `None` if it is empty or too long to be sent back.
    pub(crate) fn new(text: &str) -> Option<Self> {
        (1..=MAX_SELECTOR).contains(&text.len()).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Transfer {
    /// The state of a connection that was requested with a `basis` or without one.
    pub(crate) fn new(has_basis: bool) -> Self {
        Self { mode: None, has_base: has_basis, has_discarded: false, items: Vec::new(), refused: Vec::new(), size: 0 }
    }

    /// Processes one event. `size` is that of its data in bytes, all of which an object keeps in memory.
    ///
    /// # Errors
    /// When the event is not valid at this place. The connection should be closed then.
    pub(crate) fn push(&mut self, event: TransferEvent, size: usize) -> Result<Step, TransferError> {
        match event {
            TransferEvent::Intent(intent) => return self.begin(intent),
            // SDKs ignore objects before an intent, too.
            TransferEvent::Object(_) | TransferEvent::Refused(_) if self.mode.is_none() => (),
            TransferEvent::Object(item) => {
                self.grow(size)?;
                self.items.push(item);
            }
            TransferEvent::Refused(refused) => {
                self.grow(size)?;
                self.refused.push(refused);
            }
            TransferEvent::Transferred(selector) => {
                let is_full = self.mode.replace(Mode::Changes).ok_or(TransferError::NoIntent)? == Mode::Everything;
                // All data is not replaced by nothing because of an error of the service.
                if is_full && self.has_discarded && self.items.is_empty() {
                    return Err(TransferError::Incomplete);
                }
                (self.has_base, self.has_discarded, self.size) = (true, false, 0);
                let (items, refused) = (std::mem::take(&mut self.items), std::mem::take(&mut self.refused));
                return Ok(Step::Complete(ChangeSet { is_full, items, refused, selector }));
            }
            TransferEvent::Error(reason) => {
                if let Some(suppressed) = DISCARDED.next_line() {
                    tracing::warn!(reason, suppressed, "upstream discards the objects that it has sent");
                }
                self.discard();
                self.has_discarded = true;
            }
            TransferEvent::Goodbye(goodbye) => return Ok(Step::Goodbye(goodbye)),
            TransferEvent::Other => (),
        }
        Ok(Step::Pending)
    }

    fn begin(&mut self, intent: Intent) -> Result<Step, TransferError> {
        self.discard();
        self.has_discarded = false;
        if intent != Intent::Everything && !self.has_base {
            return Err(TransferError::NoBasis);
        }
        self.mode = Some(if intent == Intent::Everything { Mode::Everything } else { Mode::Changes });
        Ok(if intent == Intent::Nothing { Step::UpToDate } else { Step::Pending })
    }

    fn discard(&mut self) {
        (self.items, self.refused, self.size) = (Vec::new(), Vec::new(), 0);
    }

    fn grow(&mut self, size: usize) -> Result<(), TransferError> {
        self.size += size + OBJECT_OVERHEAD;
        if self.size > MAX_TRANSFER { Err(TransferError::TooLarge) } else { Ok(()) }
    }
}

/// Parses the response to a poll that was sent with a `basis` or without one. The steps are in order, none of them
/// pending.
///
/// # Errors
/// When it is malformed, or has no complete change set.
pub(crate) fn poll(body: String, has_basis: bool) -> Result<Vec<Step>, TransferError> {
    let mut transfer = Transfer::new(has_basis);
    let mut steps = Vec::new();
    event::parse_poll(body, |event, size| {
        match transfer.push(event, size)? {
            Step::Pending => (),
            step => steps.push(step),
        }
        Ok(())
    })?;
    let is_complete = steps.iter().any(|it| matches!(it, Step::UpToDate | Step::Complete(_)));
    if is_complete && transfer.size == 0 { Ok(steps) } else { Err(TransferError::Incomplete) }
}

impl ChangeSet {
    /// All data after the change set, which follows `held`.
    ///
    /// Changes count in the order in which they were sent, whatever the versions in objects are. The tombstone of an item
    /// gets a higher version than the item, because SDKs of the first version of the protocol compare the two.
    pub(crate) fn merged(&self, held: Option<&Items>) -> Items {
        let held = held.cloned().unwrap_or_default();
        let mut items = if self.is_full { Items::default() } else { held.clone() };
        if self.is_full {
            self.refused.iter().for_each(|it| items.keep(&held, it.kind, &it.key));
        }
        for item in &self.items {
            let not_older = held.find(item.kind(), item.key()).filter(|it| it.version() >= item.version());
            items.insert(match not_older.filter(|_| item.is_deleted()) {
                Some(tombstone) if tombstone.is_deleted() => tombstone,
                Some(live) if live.version() < MAX_VERSION => {
                    Item::tombstone(item.kind(), item.key(), live.version() + 1)
                }
                _ => item.clone(),
            });
        }
        items
    }
}

#[cfg(test)]
mod tests;
