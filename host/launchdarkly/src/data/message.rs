//! Events of the upstream stream, parsed to changes.
//!
//! A malformed message changes nothing and the connection is reopened, as in the vendor's SDKs. If only one item is
//! unusable, because of its version, its depth or a number out of range, that item is refused and the rest is applied.
//! Items share the bytes of the message that they came with.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_core::shared_text::shared_text;
use yardarm_launchdarkly_eval::model::{
    self, Body, Flag, MAX_DEPTH, MAX_VERSION, Malformed, Segment, as_version, has_number_out_of_range, is_deeper_than,
    normalize_json,
};
use yardarm_vendor::upstream::LogThrottle;

use super::items::{Change, Item, ItemKind, Items};

/// Log lines about unknown events.
static UNEXPECTED: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// Why an event could not be used. The connection is reopened then, as in SDKs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("malformed JSON ({0})")]
    Json(#[from] serde_json::Error),
    #[error("not a text in UTF-8")]
    Text,
    #[error("required property `{0}` is missing")]
    Missing(&'static str),
    #[error("{kind} `{key}`: {source}")]
    Item { kind: ItemKind, key: String, source: Malformed },
    #[error("{kind} `{key}`: nested more than {MAX_DEPTH} levels deep")]
    TooDeep { kind: ItemKind, key: String },
    #[error("{kind} `{key}`: a number does not fit 64 bits")]
    NumberRange { kind: ItemKind, key: String },
    #[error("{kind} `{key}`: `version` is not a whole number from 0 to {MAX_VERSION}")]
    Version { kind: ItemKind, key: String },
}

/// A parsed event.
#[derive(Default)]
pub(crate) struct Message {
    /// The change; `None` for an unknown event, or one whose only item was refused.
    pub(crate) change: Option<Change>,
    /// Items that cannot be used. Present items under their keys stay.
    pub(crate) refused: Vec<RefusedItem>,
}

/// An item that cannot be used.
#[derive(Debug)]
pub(crate) struct RefusedItem {
    pub(crate) kind: ItemKind,
    pub(crate) key: String,
    /// The error, with kind and key of the item.
    pub(crate) problem: String,
}

#[derive(Deserialize)]
struct Put<'a> {
    #[serde(borrow)]
    data: PutData<'a>,
}

/// A kind may be absent, and is empty then; `null` is rejected, as in the vendor's reader.
#[derive(Deserialize)]
struct PutData<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    flags: Option<HashMap<String, &'a RawValue>>,
    #[serde(borrow, default, deserialize_with = "present")]
    segments: Option<HashMap<String, &'a RawValue>>,
}

#[derive(Deserialize)]
struct Patch<'a> {
    #[serde(default)]
    path: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
}

fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Parses an event.
///
/// # Errors
/// When the event is known and malformed.
pub(crate) fn parse(event: &str, data: impl Into<String>) -> Result<Message, MessageError> {
    match event {
        "put" => put(&shared(data.into())),
        "patch" => patch(&shared(data.into())),
        "delete" => delete(&normalize_json(&data.into())),
        _ => {
            if let Some(suppressed) = UNEXPECTED.next_line() {
                let event = yardarm_vendor::upstream::shortened(event);
                tracing::info!(event, suppressed, "unexpected event in upstream stream");
            }
            Ok(Message::default())
        }
    }
}

/// The text of a message in the form that items share.
pub(super) fn shared(text: String) -> Bytes {
    let mut line = match normalize_json(&text) {
        Cow::Owned(line) => line,
        Cow::Borrowed(_) => text,
    };
    line.shrink_to_fit();
    line.into()
}

fn put(message: &Bytes) -> Result<Message, MessageError> {
    let data = serde_json::from_slice::<Put<'_>>(message)?.data;
    // The vendor always sends both kinds. A message without either is malformed and must not empty an environment.
    if data.flags.is_none() && data.segments.is_none() {
        return Err(MessageError::Missing("flags"));
    }
    let mut refused = Vec::new();
    let items = data.read(message, &mut refused)?;
    Ok(Message { change: Some(Change::Put(items)), refused })
}

/// Parses the data of an environment in an archive. Items that cannot be used are left out and logged.
pub(crate) fn data(json: &[u8]) -> Result<Items, MessageError> {
    let text = std::str::from_utf8(json).map_err(|_| MessageError::Text)?;
    // Events on streams need data on one line.
    let line = shared(text.to_owned());
    let mut refused = Vec::new();
    let items = serde_json::from_slice::<PutData<'_>>(&line)?.read(&line, &mut refused)?;
    refused.iter().for_each(RefusedItem::log);
    Ok(items)
}

impl RefusedItem {
    fn log(&self) {
        tracing::error!(problem = self.problem, "an item cannot be used and is left out");
    }
}

impl PutData<'_> {
    fn read(self, message: &Bytes, refused: &mut Vec<RefusedItem>) -> Result<Items, MessageError> {
        let mut items = Items::default();
        for (key, json) in self.flags.unwrap_or_default() {
            items.flags.extend(kept(flag_within(message, &key, json), refused)?.map(Arc::new));
        }
        for (key, json) in self.segments.unwrap_or_default() {
            items.segments.extend(kept(segment_within(message, &key, json), refused)?.map(Arc::new));
        }
        Ok(items)
    }
}

/// Collects an item that cannot be used, unless the whole message is malformed.
fn kept<T>(item: Result<T, MessageError>, refused: &mut Vec<RefusedItem>) -> Result<Option<T>, MessageError> {
    item.map(Some).or_else(|error| {
        refused.push(error.refused_item()?);
        Ok(None)
    })
}

fn patch(message: &Bytes) -> Result<Message, MessageError> {
    let patch: Patch<'_> = serde_json::from_slice(message)?;
    let path = patch.path.ok_or(MessageError::Missing("path"))?;
    let json = || patch.data.ok_or(MessageError::Missing("data"));
    let item = match split(&path) {
        Some((ItemKind::Flag, key)) => flag_within(message, key, json()?).map(|it| Item::Flag(Arc::new(it))),
        Some((ItemKind::Segment, key)) => segment_within(message, key, json()?).map(|it| Item::Segment(Arc::new(it))),
        None => return Ok(Message::default()),
    };
    one(item)
}

fn delete(data: &str) -> Result<Message, MessageError> {
    let patch: Patch<'_> = serde_json::from_str(data)?;
    let path = patch.path.ok_or(MessageError::Missing("path"))?;
    let Some((kind, key)) = split(&path) else { return Ok(Message::default()) };
    one(tombstone(kind, key, patch.version.ok_or(MessageError::Missing("version"))?))
}

/// The tombstone of a deleted item.
pub(super) fn tombstone(kind: ItemKind, key: &str, version: &RawValue) -> Result<Item, MessageError> {
    let number = match version.get().parse::<f64>() {
        Ok(number) => number,
        // Fails with the type that was found.
        Err(_) => serde_json::from_str(version.get())?,
    };
    let version = as_version(number).ok_or_else(|| MessageError::Version { kind, key: key.to_owned() })?;
    Ok(Item::tombstone(kind, key, version))
}

/// A message about one item.
fn one(item: Result<Item, MessageError>) -> Result<Message, MessageError> {
    let mut refused = Vec::new();
    // A version that is not a number makes the message malformed; the reference restarts the stream too.
    let item = match item {
        Err(MessageError::Item { source, kind, key }) => return Err(MessageError::Item { source, kind, key }),
        item => kept(item, &mut refused)?,
    };
    Ok(Message { change: item.map(Change::Patch), refused })
}

impl MessageError {
    /// The item, if the error concerns nothing else; the error itself if the whole message cannot be used.
    pub(super) fn refused_item(self) -> Result<RefusedItem, Self> {
        let problem = self.to_string();
        match self {
            Self::Item { kind, key, source } if source.is_version() => Ok(RefusedItem { kind, key, problem }),
            Self::TooDeep { kind, key } | Self::NumberRange { kind, key } | Self::Version { kind, key } => {
                Ok(RefusedItem { kind, key, problem })
            }
            other => Err(other),
        }
    }
}

/// Splits a path into its prefix and the literal key.
fn split(path: &str) -> Option<(ItemKind, &str)> {
    path.strip_prefix("/flags/")
        .map(|key| (ItemKind::Flag, key))
        .or_else(|| path.strip_prefix("/segments/").map(|key| (ItemKind::Segment, key)))
}

/// Parses one flag and checks its limits.
pub(crate) fn flag(key: &str, json: &RawValue) -> Result<Flag, MessageError> {
    item(key, json, ItemKind::Flag, Flag::parse_owned)
}

/// Parses one segment and checks its limits.
pub(crate) fn segment(key: &str, json: &RawValue) -> Result<Segment, MessageError> {
    item(key, json, ItemKind::Segment, Segment::parse_owned)
}

pub(super) fn flag_within(message: &Bytes, key: &str, json: &RawValue) -> Result<Flag, MessageError> {
    item(key, json, ItemKind::Flag, |key, json| Flag::parse_within(message, key, json))
}

pub(super) fn segment_within(message: &Bytes, key: &str, json: &RawValue) -> Result<Segment, MessageError> {
    item(key, json, ItemKind::Segment, |key, json| Segment::parse_within(message, key, json))
}

fn item<B: Body>(
    key: &str,
    json: &RawValue,
    kind: ItemKind,
    parse: impl FnOnce(Arc<str>, &RawValue) -> Result<model::Item<B>, Malformed>,
) -> Result<model::Item<B>, MessageError> {
    check_limits(kind, key, json)?;
    let item =
        parse(shared_text(key), json).map_err(|source| MessageError::Item { kind, key: key.to_owned(), source })?;
    if item.has_valid_version() { Ok(item) } else { Err(MessageError::Version { kind, key: key.to_owned() }) }
}

/// Checks limits of SDKs, which parse items by recursion; some refuse a whole message because of one number.
fn check_limits(kind: ItemKind, key: &str, json: &RawValue) -> Result<(), MessageError> {
    if is_deeper_than(json.get(), MAX_DEPTH) {
        Err(MessageError::TooDeep { kind, key: key.to_owned() })
    } else if has_number_out_of_range(json.get()) {
        Err(MessageError::NumberRange { kind, key: key.to_owned() })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
