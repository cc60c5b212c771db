//! Validation of guests' replies, which are treated like input from the network.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use yardarm_core::hooks::{ContextAttribute, ContextView, PayloadView, ResultView};

use crate::runtime::interface::{Decision, RawAddition, RawEdit, RawEventEdit, RawResultEdit};
use crate::vocabulary::{CallError, clean};

/// Maximum length of the name of a caller in bytes.
const LONGEST_PRINCIPAL: usize = 256;
/// Maximum number of tags of an identity.
const MOST_TAGS: usize = 32;
/// Maximum number of headers that one plugin may add to a response.
const MOST_HEADERS: usize = 16;
/// Headers that plugins may add to responses, besides those that begin with `x-`.
const RESPONSE_HEADERS: [&str; 8] = [
    "deprecation",
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "server-timing",
    "www-authenticate",
];
/// Beginnings of names that belong to proxies or browsers' security.
const RESERVED_HEADERS: [&str; 3] = ["x-accel-", "x-content-type-", "x-frame-"];

/// Attributes that identify a context, or decide what is recorded of it.
const FIXED_ATTRIBUTES: [&str; 4] = ["kind", "key", "anonymous", "_meta"];

/// A validated decision with its headers in the form for responses.
pub(crate) struct Checked {
    pub(crate) decision: Decision,
    pub(crate) response_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The two properties of an item that a plugin may not change.
#[derive(Deserialize)]
struct Marks<'a> {
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
}

/// Requires a short identity and headers that plugins may add, whose names begin with none of `vendor_headers`.
pub(crate) fn decision(decision: Decision, vendor_headers: &[&str]) -> Result<Checked, CallError> {
    let (decision, response_headers) = match decision {
        Decision::Allow { identity, response_headers } => {
            if let Some(identity) = &identity {
                if identity.principal.len() > LONGEST_PRINCIPAL {
                    return invalid(format!("a principal has at most {LONGEST_PRINCIPAL} bytes"));
                }
                if identity.tags.len() > MOST_TAGS {
                    return invalid(format!("an identity has at most {MOST_TAGS} tags"));
                }
            }
            (Decision::Allow { identity, response_headers: Vec::new() }, headers(response_headers, vendor_headers)?)
        }
        Decision::Deny { class, reason, retry_after, response_headers } => {
            let reason = reason.map(|reason| clean(&reason));
            let response_headers = headers(response_headers, vendor_headers)?;
            (Decision::Deny { class, reason, retry_after, response_headers: Vec::new() }, response_headers)
        }
        Decision::Abstain => (Decision::Abstain, Vec::new()),
    };
    Ok(Checked { decision, response_headers })
}

fn headers(
    headers: Vec<(String, Vec<u8>)>,
    vendor_headers: &[&str],
) -> Result<Vec<(HeaderName, HeaderValue)>, CallError> {
    if headers.len() > MOST_HEADERS {
        return invalid(format!("a response gets at most {MOST_HEADERS} headers from one plugin"));
    }
    headers.into_iter().map(|(name, value)| header(&name, &value, vendor_headers)).collect()
}

fn header(name: &str, value: &[u8], vendor_headers: &[&str]) -> Result<(HeaderName, HeaderValue), CallError> {
    let is_own =
        name.starts_with("x-") && !RESERVED_HEADERS.iter().chain(vendor_headers).any(|it| name.starts_with(it));
    if !is_own && !RESPONSE_HEADERS.contains(&name) {
        return invalid(format!("the header `{}` is not a plugin's to set", clean(name)));
    }
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => invalid(format!("the header `{}` is not valid", clean(name))),
    }
}

/// Requires at most one edit per event, and that all bodies are JSON objects.
pub(crate) fn event_edits(edits: Vec<RawEventEdit>, events: usize) -> Result<Vec<RawEventEdit>, CallError> {
    let mut seen = vec![false; events];
    let is_object = |index: u32, body: &[u8]| match object(body) {
        Ok(_) => Ok(()),
        Err(fault) => invalid(format!("event {index}: {fault}")),
    };
    for edit in &edits {
        match edit {
            RawEventEdit::Drop(index) => once(&mut seen, *index)?,
            RawEventEdit::Replace(index, bodies) => {
                once(&mut seen, *index)?;
                if bodies.is_empty() {
                    return invalid(format!("event {index}: a replacement has one body or more"));
                }
                bodies.iter().try_for_each(|body| is_object(*index, body))?;
            }
            RawEventEdit::Add(body) => {
                object(body).map_err(|fault| CallError::OutputInvalid(format!("added event: {fault}")))?;
            }
        }
    }
    Ok(edits)
}

/// Requires at most one edit per item, replacements with unchanged key and version, and additions of items that do not
/// exist.
pub(crate) fn payload_edits(edits: Vec<RawEdit>, view: &dyn PayloadView) -> Result<Vec<RawEdit>, CallError> {
    let heads = view.heads();
    let mut seen = vec![false; heads.len()];
    // Most plugins add nothing.
    let changed = LazyCell::new(|| heads.iter().map(|head| (head.kind, &*head.key)).collect::<HashSet<_>>());
    for edit in &edits {
        if let RawEdit::Drop(index) | RawEdit::Replace(index, _) = edit {
            once(&mut seen, *index)?;
        }
        match edit {
            RawEdit::Drop(_) => (),
            RawEdit::Replace(index, json) => {
                let index = *index as usize;
                let Some(old) = view.json(index) else {
                    return invalid(format!("item {index} was deleted and cannot be replaced"));
                };
                same_item(json, &old, heads[index].version)
                    .map_err(|fault| CallError::OutputInvalid(format!("item {index}: {fault}")))?;
            }
            RawEdit::Add(RawAddition { kind, key, json, derived_from }) => {
                if derived_from.is_some_and(|index| index as usize >= heads.len()) {
                    return invalid(format!("added `{key}`: there is nothing at index {}", derived_from.unwrap_or(0)));
                }
                added(kind, key, json).map_err(|fault| CallError::OutputInvalid(format!("added `{key}`: {fault}")))?;
                if changed.contains(&(&**kind, &**key)) {
                    return invalid(format!("added `{key}`: it is among the changed items, replace it"));
                }
            }
        }
    }
    Ok(edits)
}

/// Requires attributes of kinds that the context has, with names and values that it may have, each once.
pub(crate) fn attributes(
    attributes: Vec<ContextAttribute>,
    context: &dyn ContextView,
) -> Result<Vec<ContextAttribute>, CallError> {
    let mut seen = BTreeSet::new();
    for ContextAttribute { kind, name, value } in &attributes {
        let what = || format!("attribute `{}` of `{}`", clean(name), clean(kind));
        if context.key(kind).is_none() {
            return invalid(format!("{}: the context has no such kind", what()));
        }
        if name.is_empty() || FIXED_ATTRIBUTES.contains(&&**name) {
            return invalid(format!("{}: not a plugin's to set", what()));
        }
        if !seen.insert((kind, name)) {
            return invalid(format!("{}: set twice", what()));
        }
        json(Some(value), what)?;
        if value.trim_ascii() == b"null" {
            return invalid(format!("{}: attributes cannot be removed", what()));
        }
        if name == "name" && serde_json::from_slice::<Cow<'_, str>>(value).is_err() {
            return invalid(format!("{}: must be a string", what()));
        }
    }
    Ok(attributes)
}

/// Requires at most one edit per result, JSON texts, and additions of flags that have no result.
pub(crate) fn result_edits(edits: Vec<RawResultEdit>, view: &dyn ResultView) -> Result<Vec<RawResultEdit>, CallError> {
    let mut seen = vec![false; view.len()];
    let mut added: BTreeSet<&str> = BTreeSet::new();
    for edit in &edits {
        match edit {
            RawResultEdit::Drop(index) => once(&mut seen, *index)?,
            RawResultEdit::Replace { index, value, reason, .. } => {
                once(&mut seen, *index)?;
                json(value.as_deref(), || format!("value {index}"))?;
                json(reason.as_deref(), || format!("reason {index}"))?;
            }
            RawResultEdit::Add { flag, value, reason, .. } => {
                if flag.is_empty() || view.find(flag).is_some() || !added.insert(flag) {
                    return invalid(format!("added `{flag}`: a flag has one result, replace it"));
                }
                json(Some(value), || format!("value of `{flag}`"))?;
                json(reason.as_deref(), || format!("reason of `{flag}`"))?;
            }
        }
    }
    Ok(edits)
}

/// Requires JSON text, if there is any.
fn json(json: Option<&[u8]>, what: impl Fn() -> String) -> Result<(), CallError> {
    let Some(json) = json else { return Ok(()) };
    let read = text(json).and_then(|text| well_formed(text).map(|_: IgnoredAny| ()));
    read.map_err(|fault| CallError::OutputInvalid(format!("{}: {fault}", what())))
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
    use yardarm_core::hooks::{SortedResults, ViewedResult};

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
    fn bodies_of_events_are_objects_and_each_event_has_one_edit() {
        let replace = |index, body: &[u8]| RawEventEdit::Replace(index, vec![body.to_vec()]);
        assert!(event_edits(vec![RawEventEdit::Drop(1), replace(0, b"{\"a\":1}")], 2).is_ok());
        assert!(event_edits(vec![RawEventEdit::Drop(0), replace(0, b"{}")], 2).is_err());
        assert!(event_edits(vec![RawEventEdit::Drop(2)], 2).is_err());
        assert!(event_edits(vec![RawEventEdit::Replace(0, Vec::new())], 1).is_err());
        assert!(event_edits(vec![RawEventEdit::Replace(0, vec![b"{}".to_vec(), b"{}".to_vec()])], 1).is_ok());
        assert!(event_edits(vec![RawEventEdit::Add(b"{}".to_vec())], 0).is_ok());
        for body in [&b"{"[..], b"", b"[]", b"{\"a\":\"\xff\"}", b"{} {}"] {
            assert!(event_edits(vec![replace(0, body)], 1).is_err(), "{body:?}");
            assert!(event_edits(vec![RawEventEdit::Add(body.to_vec())], 1).is_err(), "{body:?}");
        }
    }

    #[test]
    fn result_edits_point_at_results_once() {
        let view = SortedResults::new(vec![result("a"), result("b")]);
        let replace = |index, value: &str| RawResultEdit::Replace {
            index,
            value: Some(value.as_bytes().to_vec()),
            variation: None,
            reason: None,
        };
        let add = |flag: &str, value: &str| RawResultEdit::Add {
            flag: flag.to_owned(),
            value: value.as_bytes().to_vec(),
            variation: Some(1),
            reason: None,
        };
        for (edits, is_valid) in [
            (vec![replace(0, "true"), RawResultEdit::Drop(1)], true),
            (vec![replace(2, "true")], false),
            (vec![RawResultEdit::Drop(0), RawResultEdit::Drop(0)], false),
            (vec![replace(0, "tru")], false),
            (vec![add("c", "1"), add("d", "[]")], true),
            (vec![add("a", "1")], false),
            (vec![add("c", "1"), add("c", "2")], false),
            (vec![add("", "1")], false),
            (vec![add("c", "x")], false),
        ] {
            assert_eq!(result_edits(edits, &view).is_ok(), is_valid);
        }
    }

    fn result(flag: &str) -> ViewedResult {
        ViewedResult { flag: flag.into(), value: "1".into(), variation: None, reason: None }
    }

    #[test]
    fn only_some_headers_may_be_added() {
        for (name, value, is_valid) in [
            ("x-tenant", &b"acme"[..], true),
            ("ratelimit-remaining", b"3", true),
            ("x-tenant", b"a\r\nb: c", false),
            ("X-Tenant", b"acme", false),
            ("x-vendor-id", b"1", false),
            ("content-length", b"0", false),
            ("set-cookie", b"a=b", false),
            ("x-a b", b"1", false),
            ("", b"1", false),
        ] {
            assert_eq!(header(name, value, &["x-vendor-"]).is_ok(), is_valid, "{name}");
        }
        assert!(headers(vec![("x-a".to_owned(), Vec::new()); MOST_HEADERS + 1], &[]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_checks_panic(json in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = event_edits(vec![RawEventEdit::Add(json.clone())], 1);
            let _ = same_item(&json, b"{\"key\":\"a\"}", 1);
            let _ = added("flag", "a", &json);
            let _ = header(&String::from_utf8_lossy(&json), &json, &[]);
        }
    }
}
