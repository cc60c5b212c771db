//! Validation of guests' replies, which are treated like input from the network.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use yardarm_core::hooks::PayloadView;

use crate::runtime::interface::{RawEdit, RawResultEdit, RawVerdict};
use crate::vocabulary::CallError;

/// The two properties of an item that a plugin may not change.
#[derive(Deserialize)]
struct Marks<'a> {
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
}

/// Requires one verdict per event, and that each replacement is a JSON object.
pub(super) fn verdicts(verdicts: Vec<RawVerdict>, events: usize) -> Result<Vec<RawVerdict>, CallError> {
    if verdicts.len() != events {
        return invalid(format!("{} verdicts for {events} events", verdicts.len()));
    }
    for (index, verdict) in verdicts.iter().enumerate() {
        if let RawVerdict::Replace(json) = verdict {
            object(json).map_err(|fault| CallError::OutputInvalid(format!("event {index}: {fault}")))?;
        }
    }
    Ok(verdicts)
}

/// Requires at most one edit per item, replacements with unchanged key and version, and additions of items that do not
/// exist.
pub(super) fn payload_edits(edits: Vec<RawEdit>, view: &dyn PayloadView) -> Result<Vec<RawEdit>, CallError> {
    let heads = view.heads();
    let mut seen = vec![false; heads.len()];
    for edit in &edits {
        if let RawEdit::Drop(index) | RawEdit::Replace(index, _) = edit {
            once(&mut seen, *index)?;
        }
        match edit {
            RawEdit::Drop(_) => (),
            RawEdit::Replace(index, json) => {
                let index = *index as usize;
                let old = view.json(index).unwrap_or_default();
                same_item(json, &old, heads[index].version)
                    .map_err(|fault| CallError::OutputInvalid(format!("item {index}: {fault}")))?;
            }
            RawEdit::Add { kind, key, json } => {
                added(kind, key, json).map_err(|fault| CallError::OutputInvalid(format!("added `{key}`: {fault}")))?;
                if heads.iter().any(|head| head.kind == kind && *head.key == **key) {
                    return invalid(format!("added `{key}`: it is among the changed items, replace it"));
                }
            }
        }
    }
    Ok(edits)
}

/// Requires at most one edit per result, each with a JSON value.
pub(super) fn result_edits(edits: Vec<RawResultEdit>, results: usize) -> Result<Vec<RawResultEdit>, CallError> {
    let mut seen = vec![false; results];
    for edit in &edits {
        once(&mut seen, edit.index)?;
        if let Some(json) = &edit.value {
            text(json)
                .and_then(|text| well_formed(text).map(|_: IgnoredAny| ()))
                .map_err(|fault| CallError::OutputInvalid(format!("result {}: {fault}", edit.index)))?;
        }
    }
    Ok(edits)
}

fn once(seen: &mut [bool], index: u32) -> Result<(), CallError> {
    match seen.get_mut(index as usize) {
        None => invalid(format!("there is nothing at index {index}")),
        Some(true) => invalid(format!("two edits for index {index}")),
        Some(seen) => {
            *seen = true;
            Ok(())
        }
    }
}

fn same_item(json: &[u8], old: &[u8], version: u64) -> Result<(), String> {
    let (new, old) = (object(json)?, object(old)?);
    if !same(new.key, old.key) {
        return Err("the key must stay".to_owned());
    }
    if !same(new.version, old.version) {
        return Err("the version must stay".to_owned());
    }
    match new.version.and_then(value).and_then(|version| version.as_u64()) {
        Some(own) if own != version => Err(format!("the version must be {version}")),
        _ => Ok(()),
    }
}

fn added(kind: &str, key: &str, json: &[u8]) -> Result<(), String> {
    let marks = object(json)?;
    if kind.is_empty() || key.is_empty() {
        return Err("an item has a kind and a key".to_owned());
    }
    match marks.key.and_then(value) {
        Some(own) if own != *key => Err("the key differs from the one in the JSON text".to_owned()),
        _ => Ok(()),
    }
}

fn same(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    a.map(RawValue::get) == b.map(RawValue::get) || a.and_then(value) == b.and_then(value)
}

fn value(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get()).ok()
}

/// Parses a JSON object; unknown properties are allowed.
fn object(json: &[u8]) -> Result<Marks<'_>, String> {
    let text = text(json)?;
    if !text.trim_start().starts_with('{') {
        return Err("not a JSON object".to_owned());
    }
    well_formed(text)
}

fn text(json: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(json).map_err(|error| error.to_string())
}

fn well_formed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn invalid<T>(text: String) -> Result<T, CallError> {
    Err(CallError::OutputInvalid(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_keeps_key_and_version() {
        let old = br#"{"key":"a","version":7,"on":true}"#;
        for (new, fault) in [
            (r#"{"key":"a","version":7,"on":false}"#, None),
            (r#" {"version": 7, "key": "\u0061"} "#, None),
            (r#"{"key":"b","version":7}"#, Some("the key must stay")),
            (r#"{"key":"a","version":6}"#, Some("the version must stay")),
            (r#"{"key":"a"}"#, Some("the version must stay")),
            (r#"{"version":7}"#, Some("the key must stay")),
            (r#"[1]"#, Some("not a JSON object")),
        ] {
            assert_eq!(same_item(new.as_bytes(), old, 7).err().as_deref(), fault, "{new}");
        }
        assert!(same_item(b"{\"key\":\"a\",\"version\":7,", old, 7).is_err());
        assert!(same_item(b"{\"key\":\"a\",\"version\":7,\"x\":\"\xff\"}", old, 7).is_err());
        assert_eq!(same_item(b"{}", b"{}", 7), Ok(()), "an item without these properties may do without them");
    }

    #[test]
    fn verdicts_are_counted_and_read() {
        let keep = || RawVerdict::Keep;
        assert!(verdicts(vec![keep(), keep()], 2).is_ok());
        assert!(verdicts(vec![keep()], 2).is_err());
        assert!(verdicts(vec![RawVerdict::Replace(b"{\"a\":1}".to_vec())], 1).is_ok());
        for json in [&b"{"[..], b"", b"[]", b"{\"a\":\"\xff\"}", b"{} {}"] {
            assert!(verdicts(vec![RawVerdict::Replace(json.to_vec())], 1).is_err(), "{json:?}");
        }
    }

    #[test]
    fn result_edits_point_at_results_once() {
        let edit = |index, value: Option<&str>| RawResultEdit { index, value: value.map(|it| it.as_bytes().to_vec()) };
        assert!(result_edits(vec![edit(0, Some("true")), edit(1, None)], 2).is_ok());
        assert!(result_edits(vec![edit(2, None)], 2).is_err());
        assert!(result_edits(vec![edit(0, None), edit(0, None)], 2).is_err());
        assert!(result_edits(vec![edit(0, Some("tru"))], 2).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_checks_panic(json in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = verdicts(vec![RawVerdict::Replace(json.clone())], 1);
            let _ = same_item(&json, b"{\"key\":\"a\"}", 1);
            let _ = added("flag", "a", &json);
        }
    }
}
