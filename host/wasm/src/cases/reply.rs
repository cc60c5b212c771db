//! Replies of plugins as JSON, and how they differ from expected ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use yardarm_core::hooks::{ContextAttribute, DenialClass};

use crate::chain::check::Checked;
use crate::runtime::interface::{Decision, RawAddition, RawEdit, RawEventEdit, RawResultEdit};
use crate::vocabulary::CallError;

/// A reply, or the expectation of one: properties that an expectation does not have may have any value.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// `request-auth`: the request may proceed.
    Allow(AdmissionReply),
    /// `request-auth`: the request is denied.
    Deny(DenialReply),
    /// `request-auth`: no decision.
    Abstain,
    /// `route-resolver`: the name of the environment.
    Environment(String),
    /// `route-resolver`: the environment of the credential.
    None,
    /// `background`: values are published, these among others.
    Publish(BTreeMap<String, String>),
    /// `background`: what was published stays.
    Unchanged,
    /// `change-listener`: the call has ended well.
    Done,
    /// All other hooks: edits. Those by index come first, in order of index, then additions.
    Edits(Vec<EditReply>),
    /// The call failed.
    Failure(FailureReply),
}

/// An admission.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionReply {
    /// Name of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Tags of the caller, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Headers to add to the response, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<BTreeMap<String, String>>,
}

/// A denial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DenialReply {
    /// Class of the denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<DenialName>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
    /// Headers to add to the response, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<BTreeMap<String, String>>,
}

/// The class of a denial, as in the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialName {
    /// Not authenticated.
    Unauthorized,
    /// No permission.
    Forbidden,
    /// Too many requests.
    RateLimited,
    /// Temporarily unavailable.
    Unavailable,
}

/// An edit.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EditReply {
    /// What is at this index is dropped.
    Drop(u32),
    /// What is at an index is replaced.
    Replace(EditedContent),
    /// Something is added.
    Add(EditedContent),
    /// `context-enrichment`: an attribute is set.
    Set(EditedContent),
}

/// The content of an edit; which properties it has depends on the hook.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EditedContent {
    /// Index of what is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// `event-filter`: the events in place of another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bodies: Option<Vec<Value>>,
    /// The item, or the event that is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// `payload-transform`: kind of the item that is added. `context-enrichment`: kind of the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `payload-transform`: key of the item that is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `payload-transform`: index of the item that the added one is derived from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<u32>,
    /// `evaluation-transform`: key of the flag that is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// `context-enrichment`: name of the attribute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `evaluation-transform`, `context-enrichment`: the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// `evaluation-transform`: index of the variation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation: Option<u32>,
    /// `evaluation-transform`: the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Value>,
}

/// A failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FailureReply {
    /// Class of the failure, such as `trap`, `deadline` or `guest-error` (see "Error codes" in `plugins/README.md`).
    pub class: String,
    /// Kind of trap, or of error that the plugin returns: `invalid-input`, `temporary` or `internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The message; an expected one may be a part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A property of a reply that is not as expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Place in the reply, such as `deny.class`, or the limit that was exceeded.
    pub field: String,
    /// The expected value.
    pub expected: Value,
    /// The actual value; `null` if there is none.
    pub actual: Value,
}

impl Reply {
    /// Returns how an actual reply differs from this expected one.
    pub(super) fn differences(&self, actual: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        match (value(&self.sorted()), value(&actual.sorted())) {
            (Value::Object(expected), Value::Object(actual)) if expected.keys().eq(actual.keys()) => {
                for (name, expected) in &expected {
                    compare(name, expected, &actual[name], &mut found);
                }
            }
            (expected, actual) if expected == actual => (),
            (expected, actual) => found.push(Difference { field: "reply".to_owned(), expected, actual }),
        }
        found
    }

    /// Creates the reply for a call that failed.
    pub(super) fn of_error(error: &CallError) -> Self {
        let kind = match error {
            CallError::Trap { kind, .. } | CallError::Guest { kind, .. } => Some((*kind).to_owned()),
            _ => None,
        };
        let text = match error {
            CallError::Guest { text, .. } => text.clone(),
            error => error.to_string(),
        };
        Self::Failure(FailureReply { class: error.outcome().name().to_owned(), kind, text: Some(text) })
    }

    /// Returns the reply with its edits in order.
    fn sorted(&self) -> Self {
        let Self::Edits(edits) = self else { return self.clone() };
        let mut edits = edits.clone();
        edits.sort_by_key(|edit| match edit {
            EditReply::Drop(index) => *index,
            EditReply::Replace(content) => content.index.unwrap_or(0),
            EditReply::Add(_) | EditReply::Set(_) => u32::MAX,
        });
        Self::Edits(edits)
    }
}

fn value(reply: &Reply) -> Value {
    serde_json::to_value(reply).unwrap_or_default()
}

/// Compares the content of a reply.
fn compare(field: &str, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    match (expected, actual) {
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare_edit(&format!("{field}[{index}]"), expected, actual, found);
            }
        }
        (Value::Object(_), Value::Object(_)) => compare_properties(field, expected, actual, found),
        _ => compare_exactly(field, expected, actual, found),
    }
}

fn compare_edit(field: &str, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    let content = |edit: &Value| -> Option<(String, Value)> {
        edit.as_object()?.iter().next().map(|(kind, content)| (kind.clone(), content.clone()))
    };
    match (content(expected), content(actual)) {
        (Some((kind, expected)), Some((same, actual))) if kind == same && expected.is_object() => {
            compare_properties(&format!("{field}.{kind}"), &expected, &actual, found);
        }
        _ => compare_exactly(field, expected, actual, found),
    }
}

/// Compares the properties that are expected; their values must be equal.
fn compare_properties(field: &str, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    for (key, expected) in expected.as_object().into_iter().flatten() {
        let actual = &actual[key];
        let is_part = || actual.as_str().zip(expected.as_str()).is_some_and(|(all, part)| all.contains(part));
        if (field, &**key) != ("failure", "text") || !is_part() {
            compare_exactly(&format!("{field}.{key}"), expected, actual, found);
        }
    }
}

fn compare_exactly(field: &str, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    if expected != actual {
        found.push(Difference { field: field.to_owned(), expected: expected.clone(), actual: actual.clone() });
    }
}

impl From<Checked> for Reply {
    fn from(checked: Checked) -> Self {
        let headers = checked.response_headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
        let response_headers = Some(headers.collect());
        match checked.decision {
            Decision::Allow { identity, .. } => {
                let (principal, tags) = identity.map(|it| (it.principal, it.tags.into_iter().collect())).unzip();
                Self::Allow(AdmissionReply { principal, tags, response_headers })
            }
            Decision::Deny { class, reason, retry_after, .. } => {
                let class = match class {
                    DenialClass::Unauthorized => DenialName::Unauthorized,
                    DenialClass::Forbidden => DenialName::Forbidden,
                    DenialClass::RateLimited => DenialName::RateLimited,
                    DenialClass::Unavailable => DenialName::Unavailable,
                };
                Self::Deny(DenialReply { class: Some(class), reason, retry_after, response_headers })
            }
            Decision::Abstain => Self::Abstain,
        }
    }
}

impl From<Option<BTreeMap<String, Bytes>>> for Reply {
    fn from(published: Option<BTreeMap<String, Bytes>>) -> Self {
        let text = |(key, value): (String, Bytes)| (key, String::from_utf8_lossy(&value).into_owned());
        published.map_or(Self::Unchanged, |values| Self::Publish(values.into_iter().map(text).collect()))
    }
}

impl From<RawEventEdit> for EditReply {
    fn from(edit: RawEventEdit) -> Self {
        match edit {
            RawEventEdit::Drop(index) => Self::Drop(index),
            RawEventEdit::Replace(index, bodies) => Self::Replace(EditedContent {
                index: Some(index),
                bodies: Some(bodies.iter().map(|body| json(body)).collect()),
                ..EditedContent::default()
            }),
            RawEventEdit::Add(body) => Self::Add(EditedContent { body: Some(json(&body)), ..EditedContent::default() }),
        }
    }
}

impl From<RawEdit> for EditReply {
    fn from(edit: RawEdit) -> Self {
        match edit {
            RawEdit::Drop(index) => Self::Drop(index),
            RawEdit::Replace(index, body) => {
                Self::Replace(EditedContent { index: Some(index), body: Some(json(&body)), ..EditedContent::default() })
            }
            RawEdit::Add(RawAddition { kind, key, json: body, derived_from }) => Self::Add(EditedContent {
                kind: Some(kind),
                key: Some(key),
                body: Some(json(&body)),
                derived_from,
                ..EditedContent::default()
            }),
        }
    }
}

impl From<ContextAttribute> for EditReply {
    fn from(attribute: ContextAttribute) -> Self {
        Self::Set(EditedContent {
            kind: Some(attribute.kind),
            name: Some(attribute.name),
            value: Some(json(&attribute.value)),
            ..EditedContent::default()
        })
    }
}

impl From<RawResultEdit> for EditReply {
    fn from(edit: RawResultEdit) -> Self {
        let texts = |value: Option<Vec<u8>>| value.map(|value| json(&value));
        match edit {
            RawResultEdit::Drop(index) => Self::Drop(index),
            RawResultEdit::Replace { index, value, variation, reason } => Self::Replace(EditedContent {
                index: Some(index),
                value: texts(value),
                variation,
                reason: texts(reason),
                ..EditedContent::default()
            }),
            RawResultEdit::Add { flag, value, variation, reason } => Self::Add(EditedContent {
                flag: Some(flag),
                value: Some(json(&value)),
                variation,
                reason: texts(reason),
                ..EditedContent::default()
            }),
        }
    }
}

/// Parses a JSON text of a reply that was validated.
fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn differences(expected: Value, actual: Value) -> Vec<(String, Value, Value)> {
        let parse = |value| serde_json::from_value::<Reply>(value).unwrap();
        let found = parse(expected).differences(&parse(actual));
        found.into_iter().map(|it| (it.field, it.expected, it.actual)).collect()
    }

    #[test]
    fn expected_properties_are_compared_and_others_are_not() {
        let actual = json!({"deny": {"class": "forbidden", "reason": "no token", "response_headers": {}}});
        assert_eq!(differences(json!({"deny": {"class": "forbidden"}}), actual.clone()), []);
        assert_eq!(differences(json!({"deny": {}}), actual.clone()), []);
        let expected = json!({"deny": {"class": "unavailable", "retry_after": 5, "reason": "no"}});
        assert_eq!(
            differences(expected, actual.clone()),
            [
                ("deny.class".to_owned(), json!("unavailable"), json!("forbidden")),
                ("deny.reason".to_owned(), json!("no"), json!("no token")),
                ("deny.retry_after".to_owned(), json!(5), json!(null)),
            ]
        );
        assert_eq!(differences(json!("abstain"), actual.clone()), [("reply".to_owned(), json!("abstain"), actual)]);
        let failed = json!({"failure": {"class": "guest-error", "kind": "internal", "text": "the disk is gone"}});
        assert_eq!(differences(json!({"failure": {"class": "guest-error", "text": "disk"}}), failed), []);
    }

    #[test]
    fn edits_are_compared_in_order_of_index() {
        let replace = |body: Value| json!({"replace": {"index": 1, "bodies": [body]}});
        let actual = json!({"edits": [replace(json!({"a": 1})), {"drop": 0}, {"add": {"body": {"b": 2}}}]});
        let expected = json!({"edits": [{"drop": 0}, replace(json!({"a": 1})), {"add": {"body": {"b": 2}}}]});
        assert_eq!(differences(expected, actual.clone()), []);
        let expected = json!({"edits": [{"drop": 0}, replace(json!({"a": 2})), {"add": {"body": {"b": 2}}}]});
        let field = "edits[1].replace.bodies".to_owned();
        assert_eq!(differences(expected, actual.clone()), [(field, json!([{"a": 2}]), json!([{"a": 1}]))]);
        assert_eq!(differences(json!({"edits": []}), actual)[0].0, "edits");
    }
}
