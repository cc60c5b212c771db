//! Where two replies to the same call differ. Values never appear, because they may be personal.

use std::collections::BTreeMap;

use serde_json::Value;
use yardarm_core::hooks::ContextAttribute;

use super::{Decision, RawEdit, RawEventEdit, RawResultEdit};

/// Maximum number of places that are named per reply.
const MOST: usize = 20;
/// Maximum depth at which JSON texts are compared.
const DEEPEST: usize = 32;

/// A place where two replies differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Differing {
    /// What differs, one of few names.
    pub(crate) field: &'static str,
    /// Where, such as an index and a JSON pointer.
    pub(crate) place: String,
}

/// Replies that can be compared.
pub(crate) trait Comparable {
    /// Returns where `other` differs; empty if both mean the same.
    fn differing(&self, other: &Self) -> Vec<Differing>;
}

/// The places found so far.
#[derive(Default)]
struct Places(Vec<Differing>);

impl Places {
    fn add(&mut self, field: &'static str, place: impl Into<String>) {
        if !self.is_full() {
            self.0.push(Differing { field, place: place.into() });
        }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    fn compare<T: PartialEq>(&mut self, field: &'static str, one: &T, other: &T) {
        if one != other {
            self.add(field, "");
        }
    }

    /// Compares two JSON texts, in which the order of keys means nothing.
    fn compare_json(&mut self, field: &'static str, place: &str, one: &[u8], other: &[u8]) {
        if one == other {
            return;
        }
        match (serde_json::from_slice(one), serde_json::from_slice(other)) {
            (Ok(one), Ok(other)) => self.compare_values(field, place, &one, &other, 0),
            _ => self.add(field, place),
        }
    }

    fn compare_values(&mut self, field: &'static str, place: &str, one: &Value, other: &Value, depth: usize) {
        match (one, other) {
            (Value::Object(one), Value::Object(other)) if depth < DEEPEST => {
                for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                    let [one, other] = [one, other].map(|it| it.get(key).unwrap_or(&Value::Null));
                    self.compare_values(field, &format!("{place}/{key}"), one, other, depth + 1);
                }
            }
            _ if one == other => (),
            _ => self.add(field, place),
        }
    }
}

impl Comparable for Decision {
    fn differing(&self, other: &Self) -> Vec<Differing> {
        let mut places = Places::default();
        match (self, other) {
            (
                Self::Allow { identity, response_headers },
                Self::Allow { identity: other_identity, response_headers: other_headers },
            ) => {
                places.compare("identity", identity, other_identity);
                places.compare("response-headers", response_headers, other_headers);
            }
            (
                Self::Deny { class, reason, retry_after, response_headers },
                Self::Deny {
                    class: other_class,
                    reason: other_reason,
                    retry_after: other_retry,
                    response_headers: more,
                },
            ) => {
                places.compare("class", class, other_class);
                places.compare("reason", reason, other_reason);
                places.compare("retry-after", retry_after, other_retry);
                places.compare("response-headers", response_headers, more);
            }
            (Self::Abstain, Self::Abstain) => (),
            _ => places.add("decision", format!("{} instead of {}", other.word(), self.word())),
        }
        places.0
    }
}

impl Decision {
    fn word(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Deny { .. } => "deny",
            Self::Abstain => "abstain",
        }
    }
}

/// An edit of a list of things with indexes.
trait IndexedEdit {
    /// Index of what is edited; `None` for an addition.
    fn index(&self) -> Option<u32>;

    /// Compares two edits of the same thing.
    fn compare(&self, other: &Self, place: &str, places: &mut Places);
}

/// Returns edits by index, and additions in order.
fn split<E: IndexedEdit>(edits: &[E]) -> (BTreeMap<u32, &E>, Vec<&E>) {
    let added = edits.iter().filter(|edit| edit.index().is_none()).collect();
    (edits.iter().filter_map(|edit| Some((edit.index()?, edit))).collect(), added)
}

impl<E: IndexedEdit> Comparable for Vec<E> {
    fn differing(&self, other: &Self) -> Vec<Differing> {
        let mut places = Places::default();
        let (edits, added) = split(self);
        let (other_edits, other_added) = split(other);
        if added.len() != other_added.len() {
            places.add("add", format!("{} instead of {}", other_added.len(), added.len()));
        }
        for (number, (one, other)) in added.into_iter().zip(other_added).enumerate() {
            one.compare(other, &format!("addition {number}"), &mut places);
        }
        for (index, edit) in &edits {
            if places.is_full() {
                break;
            }
            match other_edits.get(index) {
                Some(other) => edit.compare(other, &format!("index {index}"), &mut places),
                None => places.add("edit", format!("index {index}: none")),
            }
        }
        for index in other_edits.keys().filter(|index| !edits.contains_key(*index)) {
            places.add("edit", format!("index {index}: another one"));
        }
        places.0
    }
}

impl IndexedEdit for RawEventEdit {
    fn index(&self) -> Option<u32> {
        match self {
            Self::Drop(index) | Self::Replace(index, _) => Some(*index),
            Self::Add(_) => None,
        }
    }

    fn compare(&self, other: &Self, place: &str, places: &mut Places) {
        match (self, other) {
            (Self::Replace(_, one), Self::Replace(_, other)) if one.len() == other.len() => {
                one.iter().zip(other).for_each(|(one, other)| places.compare_json("body", place, one, other));
            }
            (Self::Add(one), Self::Add(other)) => places.compare_json("body", place, one, other),
            (Self::Drop(_), Self::Drop(_)) => (),
            _ => places.add("edit", place),
        }
    }
}

impl IndexedEdit for RawEdit {
    fn index(&self) -> Option<u32> {
        match self {
            Self::Drop(index) | Self::Replace(index, _) => Some(*index),
            Self::Add(_) => None,
        }
    }

    fn compare(&self, other: &Self, place: &str, places: &mut Places) {
        match (self, other) {
            (Self::Replace(_, one), Self::Replace(_, other)) => places.compare_json("body", place, one, other),
            (Self::Add(one), Self::Add(other)) => {
                if (&one.kind, &one.key, one.derived_from) != (&other.kind, &other.key, other.derived_from) {
                    places.add("add", place);
                }
                places.compare_json("body", place, &one.json, &other.json);
            }
            (Self::Drop(_), Self::Drop(_)) => (),
            _ => places.add("edit", place),
        }
    }
}

impl IndexedEdit for RawResultEdit {
    fn index(&self) -> Option<u32> {
        match self {
            Self::Drop(index) | Self::Replace { index, .. } => Some(*index),
            Self::Add { .. } => None,
        }
    }

    fn compare(&self, other: &Self, place: &str, places: &mut Places) {
        let json = |text: &Option<Vec<u8>>| text.clone().unwrap_or_default();
        match (self, other) {
            (
                Self::Replace { value, variation, reason, .. },
                Self::Replace { value: other_value, variation: other_variation, reason: other_reason, .. },
            ) => {
                places.compare_json("value", place, &json(value), &json(other_value));
                places.compare_json("reason", place, &json(reason), &json(other_reason));
                if variation != other_variation {
                    places.add("variation", place);
                }
            }
            (Self::Add { flag, .. }, Self::Add { flag: other_flag, .. }) if flag != other_flag => {
                places.add("add", place);
            }
            (
                Self::Add { value, variation, reason, .. },
                Self::Add { value: other_value, variation: other_variation, reason: other_reason, .. },
            ) => {
                places.compare_json("value", place, value, other_value);
                places.compare_json("reason", place, &json(reason), &json(other_reason));
                if variation != other_variation {
                    places.add("variation", place);
                }
            }
            (Self::Drop(_), Self::Drop(_)) => (),
            _ => places.add("edit", place),
        }
    }
}

impl IndexedEdit for ContextAttribute {
    fn index(&self) -> Option<u32> {
        None
    }

    fn compare(&self, other: &Self, place: &str, places: &mut Places) {
        if (&self.kind, &self.name) == (&other.kind, &other.name) {
            places.compare_json("value", &format!("{}/{}", self.kind, self.name), &self.value, &other.value);
        } else {
            places.add("attribute", place);
        }
    }
}

impl Comparable for Option<String> {
    fn differing(&self, other: &Self) -> Vec<Differing> {
        let mut places = Places::default();
        places.compare("environment", self, other);
        places.0
    }
}

impl Comparable for Option<Vec<(String, Vec<u8>)>> {
    fn differing(&self, other: &Self) -> Vec<Differing> {
        let mut places = Places::default();
        places.compare("publication", self, other);
        places.0
    }
}

impl Comparable for () {
    fn differing(&self, _: &Self) -> Vec<Differing> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use yardarm_core::hooks::{DenialClass, Identity};

    use super::*;

    fn texts<T: Comparable>(one: &T, other: &T) -> Vec<String> {
        one.differing(other).into_iter().map(|it| format!("{} {}", it.field, it.place)).collect()
    }

    #[test]
    fn the_order_of_keys_means_nothing_and_values_do_not_appear() {
        let edits = |body: &str| vec![RawEventEdit::Replace(3, vec![body.as_bytes().to_vec()])];
        let one = edits(r#"{"user":{"email":"secret-canary","key":"a"},"kind":"custom"}"#);
        assert_eq!(texts(&one, &edits(r#"{"kind":"custom", "user":{"key":"a","email":"secret-canary"}}"#)), [""; 0]);
        let other = edits(r#"{"kind":"custom","user":{"key":"a"}}"#);
        assert_eq!(texts(&one, &other), ["body index 3/user/email"]);
        assert_eq!(texts(&other, &edits("[")), ["body index 3"]);
    }

    #[test]
    fn edits_are_compared_by_index_in_any_order() {
        let one = vec![RawEdit::Drop(1), RawEdit::Replace(2, b"{}".to_vec())];
        let other = vec![RawEdit::Replace(2, b"{ }".to_vec()), RawEdit::Drop(1)];
        assert_eq!(texts(&one, &other), [""; 0]);
        assert_eq!(texts(&one, &vec![RawEdit::Replace(1, b"{}".to_vec())]), ["edit index 1", "edit index 2: none"]);
        assert_eq!(texts(&Vec::new(), &one), ["edit index 1: another one", "edit index 2: another one"]);
        let add = |key: &str| {
            let (kind, key) = ("flag".to_owned(), key.to_owned());
            vec![RawEdit::Add(super::super::RawAddition { kind, key, json: b"{}".to_vec(), derived_from: None })]
        };
        assert_eq!(texts(&add("a"), &add("b")), ["add addition 0"]);
        assert_eq!(texts(&add("a"), &Vec::new()), ["add 0 instead of 1"]);
        let attribute = |value: &'static str| {
            let (kind, name) = ("user".to_owned(), "plan".to_owned());
            vec![ContextAttribute { kind, name, value: value.into() }]
        };
        assert_eq!(texts(&attribute("1"), &attribute("2")), ["value user/plan"]);
    }

    #[test]
    fn decisions_differ_by_what_they_mean() {
        let allow = |principal: &str| Decision::Allow {
            identity: Some(Identity { principal: principal.to_owned(), tags: Vec::new() }),
            response_headers: Vec::new(),
        };
        let deny = |class| Decision::Deny { class, reason: None, retry_after: None, response_headers: Vec::new() };
        assert_eq!(texts(&allow("a"), &allow("a")), [""; 0]);
        assert_eq!(texts(&allow("a"), &allow("b")), ["identity "]);
        assert_eq!(texts(&deny(DenialClass::Forbidden), &deny(DenialClass::Unavailable)), ["class "]);
        assert_eq!(texts(&allow("a"), &Decision::Abstain), ["decision abstain instead of allow"]);
    }
}
