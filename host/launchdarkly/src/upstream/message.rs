//! One event of the upstream stream: text to a change.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dataset::{Change, Item, Items};
use crate::model::{Flag, Malformed, Segment};

/// Why an event could not be used. The connection is opened again then, as SDKs do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("malformed JSON ({0})")]
    Json(#[from] serde_json::Error),
    #[error("not a text in UTF-8")]
    Text,
    #[error("required property `{0}` is missing")]
    Missing(&'static str),
    #[error("{kind} `{key}`: {source}")]
    Item { kind: &'static str, key: String, source: Malformed },
}

#[derive(Deserialize)]
struct Put<'a> {
    #[serde(borrow)]
    data: PutData<'a>,
}

#[derive(Deserialize)]
struct PutData<'a> {
    #[serde(borrow, default)]
    flags: Option<HashMap<String, &'a RawValue>>,
    #[serde(borrow, default)]
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

/// Reads an event; `None` for one that does not concern us.
///
/// # Errors
/// When the event is one we should understand and cannot.
pub(crate) fn parse(event: &str, data: &str) -> Result<Option<Change>, MessageError> {
    // An event may come as several lines. Outside of strings a line break is white space, inside it is not JSON,
    // so turning it into a space loses nothing and keeps every item on one line when it is sent on.
    let one_line = data.contains(['\n', '\r']).then(|| data.replace(['\n', '\r'], " "));
    let data = one_line.as_deref().unwrap_or(data);
    match event {
        "put" => put(data).map(Some),
        "patch" => patch(data),
        "delete" => delete(data),
        _ => {
            tracing::info!(event, "unexpected event in upstream stream");
            Ok(None)
        }
    }
}

fn put(data: &str) -> Result<Change, MessageError> {
    let put: Put<'_> = serde_json::from_str(data)?;
    put.data.read().map(Change::Put)
}

/// Reads the data of an environment as it stands in an archive.
pub(crate) fn data(json: &[u8]) -> Result<Items, MessageError> {
    let text = std::str::from_utf8(json).map_err(|_| MessageError::Text)?;
    // What is sent on streams stands on one line.
    let one_line = text.replace(['\n', '\r'], " ");
    let data: PutData<'_> = serde_json::from_str(&one_line)?;
    data.read()
}

impl PutData<'_> {
    fn read(self) -> Result<Items, MessageError> {
        let mut items = Items::default();
        for (key, json) in self.flags.unwrap_or_default() {
            items.flags.push(Arc::new(flag(&key, json)?));
        }
        for (key, json) in self.segments.unwrap_or_default() {
            items.segments.push(Arc::new(segment(&key, json)?));
        }
        Ok(items.sorted())
    }
}

fn patch(data: &str) -> Result<Option<Change>, MessageError> {
    let patch: Patch<'_> = serde_json::from_str(data)?;
    let path = patch.path.ok_or(MessageError::Missing("path"))?;
    let json = || patch.data.ok_or(MessageError::Missing("data"));
    let item = match split(&path) {
        Some((Kind::Flag, key)) => Item::Flag(Arc::new(flag(key, json()?)?)),
        Some((Kind::Segment, key)) => Item::Segment(Arc::new(segment(key, json()?)?)),
        None => return Ok(None),
    };
    Ok(Some(Change::Patch(item)))
}

fn delete(data: &str) -> Result<Option<Change>, MessageError> {
    let patch: Patch<'_> = serde_json::from_str(data)?;
    let path = patch.path.ok_or(MessageError::Missing("path"))?;
    let version = || -> Result<i64, MessageError> {
        let number: f64 = serde_json::from_str(patch.version.ok_or(MessageError::Missing("version"))?.get())?;
        // Versions are whole numbers far below 2^53; a fraction is dropped as everywhere in this protocol.
        Ok(number as i64)
    };
    let item = match split(&path) {
        Some((Kind::Flag, key)) => Item::Flag(Arc::new(Flag::tombstone(key, version()?))),
        Some((Kind::Segment, key)) => Item::Segment(Arc::new(Segment::tombstone(key, version()?))),
        None => return Ok(None),
    };
    Ok(Some(Change::Patch(item)))
}

enum Kind {
    Flag,
    Segment,
}

/// A literal prefix, and the rest is the key as it stands.
fn split(path: &str) -> Option<(Kind, &str)> {
    path.strip_prefix("/flags/")
        .map(|key| (Kind::Flag, key))
        .or_else(|| path.strip_prefix("/segments/").map(|key| (Kind::Segment, key)))
}

/// Reads one flag.
pub(crate) fn flag(key: &str, json: &RawValue) -> Result<Flag, MessageError> {
    Flag::parse(key, json).map_err(|source| MessageError::Item { kind: "flag", key: key.to_owned(), source })
}

/// Reads one segment.
pub(crate) fn segment(key: &str, json: &RawValue) -> Result<Segment, MessageError> {
    Segment::parse(key, json).map_err(|source| MessageError::Item { kind: "segment", key: key.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(event: &str, data: &str) -> String {
        match parse(event, data) {
            Err(_) => "restart".to_owned(),
            Ok(None) => "ignored".to_owned(),
            Ok(Some(Change::Put(items))) => format!("put {} {}", items.flags.len(), items.segments.len()),
            Ok(Some(Change::Patch(item))) if item.is_deleted() => format!("delete {} {}", item.key(), item.version()),
            Ok(Some(Change::Patch(item))) => format!("patch {} {}", item.key(), item.version()),
            Ok(Some(Change::SegmentsChanged)) => "none of upstream's".to_owned(),
        }
    }

    #[test]
    fn events_are_read_or_restart_the_stream() {
        for (row, event, data, expected) in [
            ("U012", "put", r#"{"data":{"flags":{},"segments":{}}}"#, "put 0 0"),
            ("", "put", r#"{"path":"/","data":{"flags":{"a":{"version":1}},"other":7}}"#, "put 1 0"),
            ("", "put", r#"{"data":{"flags":null}}"#, "put 0 0"),
            ("U022", "put", "{sorry", "restart"),
            ("U023", "put", r#"{"data":{"flags":true,"segments":{}}}"#, "restart"),
            ("", "put", r#"{"path":"/"}"#, "restart"),
            ("U013", "patch", r#"{"data":{"version":2},"path":"/flags/a"}"#, "patch a 2"),
            ("U014", "patch", r#"{"path":"/flags/a/b%2Fc","data":{"version":2}}"#, "patch a/b%2Fc 2"),
            ("U019", "patch", r#"{"path":"/flags/a","data":{"version":2,"deleted":true}}"#, "delete a 2"),
            ("U024", "patch", r#"{"path":"/flags/a","data":true}"#, "restart"),
            ("", "patch", r#"{"path":"/flags/a"}"#, "restart"),
            ("", "patch", r#"{"data":{}}"#, "restart"),
            ("U021", "patch", r#"{"path":"/cats/Jack","data":true}"#, "ignored"),
            ("", "delete", r#"{"path":"/segments/s","version":7}"#, "delete s 7"),
            ("U025", "delete", r#"{"path":"/flags/a"}"#, "restart"),
            ("", "delete", r#"{"path":"/flags/a","version":"no"}"#, "restart"),
            ("U020", "whatever", "not JSON", "ignored"),
        ] {
            assert_eq!(outcome(event, data), expected, "{row} {event} {data}");
        }
    }

    #[test]
    fn an_event_of_several_lines_is_kept_on_one() {
        let data = "{\"path\":\"/flags/a\",\r\n\"data\":{\n\"version\":2}}";
        let Ok(Some(Change::Patch(item))) = parse("patch", data) else { panic!("not a patch") };
        assert_eq!(item.json(), "{ \"version\":2}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(event in "(put|patch|delete)", data in "\\PC*") {
            let _ = parse(&event, &data);
        }
    }
}
