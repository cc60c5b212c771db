//! Events of FDv2 and bodies of its polls, parsed. The order of events is checked elsewhere.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_launchdarkly_eval::model::normalize_json;
use yardarm_vendor::upstream::{LogThrottle, shortened};

use super::super::items::{Item, ItemKind};
use super::super::message::{MessageError, RefusedItem, flag_within, segment_within, shared, tombstone};
use super::{Selector, TransferError};

/// Log lines about objects of unknown kinds.
static UNKNOWN_KINDS: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// A parsed event.
pub(crate) enum TransferEvent {
    /// The next objects are of this use.
    Intent(Intent),
    /// An object, or the tombstone of a deleted one.
    Object(Item),
    /// An object that cannot be used.
    Refused(RefusedItem),
    /// All objects since the intent have been sent. The service names the state without a selector if it has none.
    Transferred(Option<Selector>),
    /// What has been sent since the intent is void.
    Error(String),
    /// The service closes the connection.
    Goodbye(Goodbye),
    /// An event that changes nothing.
    Other,
}

/// What a service is about to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Nothing: the receiver is up to date.
    Nothing,
    /// All objects.
    Everything,
    /// The objects that differ from the receiver's state.
    Changes,
}

/// An announced end of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Goodbye {
    pub(crate) reason: String,
    /// The time, in seconds, for which FDv1 should be used, if the service directs it; `0` if it cannot be read.
    pub(crate) fallback_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct IntentData {
    payloads: Vec<Payload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    intent_code: String,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TransferredData {
    state: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reason {
    reason: Option<String>,
    #[serde(rename = "protocolFallbackTTL")]
    fallback_ttl: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Poll<'a> {
    #[serde(borrow)]
    events: Vec<PollEvent<'a>>,
}

#[derive(Deserialize)]
struct PollEvent<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Parses an event of a stream.
///
/// # Errors
/// When the event is known and malformed.
pub(crate) fn parse(name: &str, data: impl Into<String>) -> Result<TransferEvent, TransferError> {
    match name {
        "put-object" => {
            let message = shared(data.into());
            object(&message, serde_json::from_slice(&message).map_err(MessageError::from)?)
        }
        _ => small(name, &normalize_json(&data.into())),
    }
}

/// Parses the body of a poll and calls `take` with each event and the size of its data in bytes.
///
/// # Errors
/// When an event is malformed, or `take` fails.
pub(super) fn parse_poll(
    body: String,
    mut take: impl FnMut(TransferEvent, usize) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let message = shared(body);
    let poll: Poll<'_> = serde_json::from_slice(&message).map_err(MessageError::from)?;
    for PollEvent { event, data } in poll.events {
        let data = data.map_or("", RawValue::get);
        let parsed = match &*event {
            "put-object" => object(&message, serde_json::from_str(data).map_err(MessageError::from)?)?,
            name => small(name, data)?,
        };
        take(parsed, data.len())?;
    }
    Ok(())
}

/// Parses any event without an object.
fn small(name: &str, data: &str) -> Result<TransferEvent, TransferError> {
    let malformed = MessageError::from;
    Ok(match name {
        "server-intent" => {
            let data: IntentData = serde_json::from_str(data).map_err(malformed)?;
            // Only the first payload is in use, as in the vendor's SDKs.
            let payload = data.payloads.first().ok_or(TransferError::NoPayload)?;
            TransferEvent::Intent(match &*payload.intent_code {
                "none" => Intent::Nothing,
                "xfer-full" => Intent::Everything,
                "xfer-changes" => Intent::Changes,
                code => return Err(TransferError::IntentCode(shortened(code))),
            })
        }
        "delete-object" => {
            let deleted: Object<'_> = serde_json::from_str(data).map_err(malformed)?;
            let Some(kind) = known_kind(&deleted.kind) else { return Ok(TransferEvent::Other) };
            let version = deleted.version.ok_or(MessageError::Missing("version"))?;
            usable(tombstone(kind, &deleted.key, version))?
        }
        "payload-transferred" => {
            let data: TransferredData = serde_json::from_str(data).map_err(malformed)?;
            TransferEvent::Transferred(Selector::new(&data.state))
        }
        "error" => TransferEvent::Error(reason(data).reason),
        "goodbye" => TransferEvent::Goodbye(reason(data)),
        _ => TransferEvent::Other,
    })
}

/// Parses the data of `put-object`, which is part of `message`.
fn object(message: &Bytes, put: Object<'_>) -> Result<TransferEvent, TransferError> {
    let Some(kind) = known_kind(&put.kind) else { return Ok(TransferEvent::Other) };
    // The version of the event counts changes of all objects. SDKs compare the one in the object.
    let json = put.object.ok_or(MessageError::Missing("object"))?;
    usable(match kind {
        ItemKind::Flag => flag_within(message, &put.key, json).map(|it| Item::Flag(Arc::new(it))),
        ItemKind::Segment => segment_within(message, &put.key, json).map(|it| Item::Segment(Arc::new(it))),
    })
}

/// An item, or the reason why it cannot be used while others can.
fn usable(item: Result<Item, MessageError>) -> Result<TransferEvent, TransferError> {
    match item {
        Ok(item) => Ok(TransferEvent::Object(item)),
        Err(error) => Ok(TransferEvent::Refused(error.refused_item()?)),
    }
}

fn known_kind(kind: &str) -> Option<ItemKind> {
    match kind {
        "flag" => Some(ItemKind::Flag),
        "segment" => Some(ItemKind::Segment),
        _ => {
            if let Some(suppressed) = UNKNOWN_KINDS.next_line() {
                tracing::warn!(kind = shortened(kind), suppressed, "objects of an unknown kind are left out");
            }
            None
        }
    }
}

/// The data of an event that may have none.
fn reason(data: &str) -> Goodbye {
    let data: Reason = serde_json::from_str(data).unwrap_or_default();
    let fallback_seconds = data.fallback_ttl.map(|it| it.as_u64().unwrap_or(0));
    Goodbye { reason: shortened(&data.reason.unwrap_or_default()), fallback_seconds }
}
