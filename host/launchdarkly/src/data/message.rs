//! Events of the upstream stream, parsed to changes.
//!
//! A malformed message changes nothing and the connection is reopened, as in the vendor's SDKs. If only one item is
//! unusable, because of its version, its depth or a number out of range, that item is refused and the rest is applied.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_launchdarkly_eval::model::{
    Flag, MAX_DEPTH, MAX_VERSION, Malformed, Segment, as_version, has_number_out_of_range, is_deeper_than,
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
    /// What is wrong with it, with its kind and key.
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
pub(crate) fn parse(event: &str, data: &str) -> Result<Message, MessageError> {
    match event {
        "put" => put(&normalize_json(data)),
        "patch" => patch(&normalize_json(data)),
        "delete" => delete(&normalize_json(data)),
        _ => {
            if let Some(suppressed) = UNEXPECTED.next_line() {
                let event = yardarm_vendor::upstream::shortened(event);
                tracing::info!(event, suppressed, "unexpected event in upstream stream");
            }
            Ok(Message::default())
        }
    }
}

fn put(data: &str) -> Result<Message, MessageError> {
    let data = serde_json::from_str::<Put<'_>>(data)?.data;
    // The vendor always sends both kinds. A message without either is malformed and must not empty an environment.
    if data.flags.is_none() && data.segments.is_none() {
        return Err(MessageError::Missing("flags"));
    }
    let mut refused = Vec::new();
    let items = data.read(&mut refused)?;
    Ok(Message { change: Some(Change::Put(items)), refused })
}

/// Parses the data of an environment in an archive. Items that cannot be used are left out and logged.
pub(crate) fn data(json: &[u8]) -> Result<Items, MessageError> {
    let text = std::str::from_utf8(json).map_err(|_| MessageError::Text)?;
    // Events on streams need data on one line.
    let line = normalize_json(text);
    let mut refused = Vec::new();
    let items = serde_json::from_str::<PutData<'_>>(&line)?.read(&mut refused)?;
    refused.iter().for_each(RefusedItem::log);
    Ok(items)
}

impl RefusedItem {
    fn log(&self) {
        tracing::error!(problem = self.problem, "an item cannot be used and is left out");
    }
}

impl PutData<'_> {
    fn read(self, refused: &mut Vec<RefusedItem>) -> Result<Items, MessageError> {
        let mut items = Items::default();
        for (key, json) in self.flags.unwrap_or_default() {
            items.flags.extend(kept(flag(&key, json), refused)?.map(Arc::new));
        }
        for (key, json) in self.segments.unwrap_or_default() {
            items.segments.extend(kept(segment(&key, json), refused)?.map(Arc::new));
        }
        Ok(items.sorted())
    }
}

/// Collects an item that cannot be used, unless the whole message is malformed.
fn kept<T>(item: Result<T, MessageError>, refused: &mut Vec<RefusedItem>) -> Result<Option<T>, MessageError> {
    item.map(Some).or_else(|error| {
        refused.push(error.refused_item()?);
        Ok(None)
    })
}

fn patch(data: &str) -> Result<Message, MessageError> {
    let patch: Patch<'_> = serde_json::from_str(data)?;
    let path = patch.path.ok_or(MessageError::Missing("path"))?;
    let json = || patch.data.ok_or(MessageError::Missing("data"));
    let item = match split(&path) {
        Some((ItemKind::Flag, key)) => flag(key, json()?).map(|it| Item::Flag(Arc::new(it))),
        Some((ItemKind::Segment, key)) => segment(key, json()?).map(|it| Item::Segment(Arc::new(it))),
        None => return Ok(Message::default()),
    };
    one(item)
}

fn delete(data: &str) -> Result<Message, MessageError> {
    let patch: Patch<'_> = serde_json::from_str(data)?;
    let path = patch.path.ok_or(MessageError::Missing("path"))?;
    let Some((kind, key)) = split(&path) else { return Ok(Message::default()) };
    let text = patch.version.ok_or(MessageError::Missing("version"))?.get();
    let number = match text.parse::<f64>() {
        Ok(number) => number,
        // Fails with the type that was found.
        Err(_) => serde_json::from_str(text)?,
    };
    let version = as_version(number).ok_or_else(|| MessageError::Version { kind, key: key.to_owned() });
    one(version.map(|version| match kind {
        ItemKind::Flag => Item::Flag(Arc::new(Flag::tombstone(key, version))),
        ItemKind::Segment => Item::Segment(Arc::new(Segment::tombstone(key, version))),
    }))
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
    fn refused_item(self) -> Result<RefusedItem, Self> {
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
    let kind = ItemKind::Flag;
    check_limits(kind, key, json)?;
    let flag = Flag::parse(key, json).map_err(|source| MessageError::Item { kind, key: key.to_owned(), source })?;
    if flag.has_valid_version() { Ok(flag) } else { Err(MessageError::Version { kind, key: key.to_owned() }) }
}

/// Parses one segment and checks its limits.
pub(crate) fn segment(key: &str, json: &RawValue) -> Result<Segment, MessageError> {
    let kind = ItemKind::Segment;
    check_limits(kind, key, json)?;
    let segment =
        Segment::parse(key, json).map_err(|source| MessageError::Item { kind, key: key.to_owned(), source })?;
    if segment.has_valid_version() { Ok(segment) } else { Err(MessageError::Version { kind, key: key.to_owned() }) }
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
mod tests {
    use super::*;

    fn outcome(event: &str, data: &str) -> String {
        let Ok(Message { change, refused }) = parse(event, data) else { return "restart".to_owned() };
        let change = match change {
            None => "ignored".to_owned(),
            Some(Change::Put(items)) => format!("put {} {}", items.flags.len(), items.segments.len()),
            Some(Change::Patch(item)) if item.is_deleted() => format!("delete {} {}", item.key(), item.version()),
            Some(Change::Patch(item)) => format!("patch {} {}", item.key(), item.version()),
            Some(Change::SegmentsChanged) => "none of upstream's".to_owned(),
        };
        let refused = refused.iter().map(|it| format!(", refused {} {}", it.kind, it.key));
        change + &refused.collect::<String>()
    }

    #[test]
    fn events_are_read_or_restart_the_stream() {
        for (row, event, data, expected) in [
            ("U012", "put", r#"{"data":{"flags":{},"segments":{}}}"#, "put 0 0"),
            ("", "put", r#"{"path":"/","data":{"flags":{"a":{"version":1}},"other":7}}"#, "put 1 0"),
            // Sets of items are objects, and a message must contain at least one kind.
            ("", "put", r#"{"data":{"flags":null}}"#, "restart"),
            ("", "put", r#"{"data":{"flags":{},"segments":null}}"#, "restart"),
            ("", "put", r#"{"data":{"flags":[],"segments":{}}}"#, "restart"),
            ("", "put", r#"{"data":{"flags":{"a":null},"segments":{}}}"#, "restart"),
            ("", "put", r#"{"data":null}"#, "restart"),
            ("", "put", r#"{"data":{}}"#, "restart"),
            ("", "put", r#"{"data":[]}"#, "restart"),
            ("", "put", r#"{"data":{"other":{}}}"#, "restart"),
            ("", "put", "null", "restart"),
            ("", "put", "", "restart"),
            ("", "put", r#"{"data":{"segments":{}}}"#, "put 0 0"),
            ("", "patch", r#"{"path":"/flags/a","data":null}"#, "restart"),
            ("", "delete", r#"{"path":"/flags/a","version":null}"#, "restart"),
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
    fn an_item_with_an_invalid_version_is_refused_alone() {
        for (version, read) in [
            ("0", Some(0_i64)),
            ("7.0", Some(7)),
            ("1e3", Some(1000)),
            ("9007199254740991", Some(MAX_VERSION)),
            ("9007199254740992", None),
            ("9223372036854775807", None),
            ("18446744073709551616", None),
            ("1e308", None),
            ("1e999", None),
            ("-1", None),
            ("-1e308", None),
            ("1.5", None),
            ("1e-3", None),
        ] {
            let shown = |what: &str| read.map(|it| format!("{what} a {it}"));
            for (kind, path) in [("flag", "flags"), ("segment", "segments")] {
                let refused = format!("ignored, refused {kind} a");
                let patch = format!(r#"{{"path":"/{path}/a","data":{{"version":{version}}}}}"#);
                assert_eq!(outcome("patch", &patch), shown("patch").unwrap_or(refused.clone()), "{version}");
                let delete = format!(r#"{{"path":"/{path}/a","version":{version}}}"#);
                assert_eq!(outcome("delete", &delete), shown("delete").unwrap_or(refused), "{version}");
                let put = format!(r#"{{"data":{{"{path}":{{"a":{{"version":{version}}},"b":{{"version":1}}}}}}}}"#);
                let count = if read.is_some() { "2" } else { "1" };
                let counts = if kind == "flag" { format!("put {count} 0") } else { format!("put 0 {count}") };
                let refused = if read.is_some() { String::new() } else { format!(", refused {kind} a") };
                assert_eq!(outcome("put", &put), counts + &refused, "{version}");
            }
        }
        for version in [r#""3""#, "true", "[]", "{}"] {
            let put = format!(r#"{{"data":{{"flags":{{"a":{{"version":{version}}},"b":{{"version":1}}}}}}}}"#);
            assert_eq!(outcome("put", &put), "put 1 0, refused flag a", "{version}");
            let patch = format!(r#"{{"path":"/flags/a","data":{{"version":{version}}}}}"#);
            assert_eq!(outcome("patch", &patch), "restart", "U024 {version}");
        }
    }

    #[test]
    fn depth_is_limited_item_by_item() {
        let nested =
            |depth: usize| format!(r#"{{"version":1,"x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
        for (depth, is_fine) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false), (200_000, false)] {
            let patch = format!(r#"{{"path":"/flags/a","data":{}}}"#, nested(depth));
            assert_eq!(outcome("patch", &patch), if is_fine { "patch a 1" } else { "ignored, refused flag a" });
            let put = format!(r#"{{"data":{{"flags":{{"a":{},"b":{{}}}}}}}}"#, nested(depth));
            assert_eq!(outcome("put", &put), if is_fine { "put 2 0" } else { "put 1 0, refused flag a" });
        }
        // Unknown properties of the message may be of any depth.
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(outcome("put", &format!(r#"{{"x":{deep},"data":{{"flags":{{}},"y":{deep}}}}}"#)), "put 0 0");
        assert_eq!(outcome("put", &format!(r#"{{"data":{deep}}}"#)), "restart");
        assert_eq!(outcome("put", &deep), "restart");
    }

    #[test]
    fn numbers_out_of_range_are_refused_item_by_item() {
        for (number, is_fine) in [("1e308", true), ("1e309", false), (&"9".repeat(400), false), ("-1e999", false)] {
            let item = format!(r#"{{"version":1,"variations":[{{"deep":[{number}]}}]}}"#);
            let patch = format!(r#"{{"path":"/flags/a","data":{item}}}"#);
            assert_eq!(outcome("patch", &patch), if is_fine { "patch a 1" } else { "ignored, refused flag a" });
            let put = format!(r#"{{"data":{{"flags":{{"a":{item},"b":{{}}}}}}}}"#);
            assert_eq!(outcome("put", &put), if is_fine { "put 2 0" } else { "put 1 0, refused flag a" });
        }
    }

    #[test]
    fn control_characters_in_strings_are_passed_on_as_escapes() {
        let data = "{\"path\":\"/flags/a\",\"data\":{\"version\":2,\"description\":\"x\ty\u{1}\nz\"}}";
        let Message { change: Some(Change::Patch(item)), .. } = parse("patch", data).unwrap() else {
            panic!("not a patch")
        };
        assert_eq!(item.json(), r#"{"version":2,"description":"x\u0009y\u0001\u000az"}"#);
        let put = "{\"data\":{\"flags\":{\"a\u{1}\":{\"salt\":\"\u{0}\"}}}}";
        assert_eq!(outcome("put", put), "put 1 0");
        // Half a surrogate pair, as a key and in a path.
        assert_eq!(outcome("put", r#"{"data":{"flags":{"\ud800":{"salt":"\udc00"}}}}"#), "put 1 0");
        assert_eq!(outcome("patch", r#"{"path":"/flags/\ud800","data":{"version":2}}"#), "patch \u{fffd} 2");
    }

    #[test]
    fn an_event_of_several_lines_is_kept_on_one() {
        let data = "{\"path\":\"/flags/a\",\r\n\"data\":{\n\"version\":2}}";
        let Message { change: Some(Change::Patch(item)), .. } = parse("patch", data).unwrap() else {
            panic!("not a patch")
        };
        assert_eq!(item.json(), "{ \"version\":2}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(event in "(put|patch|delete)", data in "\\PC*") {
            let _ = parse(&event, &data);
        }
    }
}
