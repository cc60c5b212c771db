//! Flag data and results built from text, to test plugins natively.
//!
//! ```
//! use yardarm_plugin::testing::Payload;
//! use yardarm_plugin::Items;
//!
//! let items = Payload::default().changed("flag", "a", r#"{"key":"a","version":3}"#);
//! assert_eq!(items.find("flag", "a"), Some(0));
//! assert_eq!(items.heads()[0].version, 3);
//! ```

use crate::json::Object;
use crate::{Edit, Evaluation, ItemHead, Items, ResultEdit, Results};

/// Flag data with all grants.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    changed: Vec<(ItemHead, String)>,
    others: Vec<(String, String, String)>,
}

/// Evaluated results with all grants.
#[derive(Debug, Clone, Default)]
pub struct Evaluated(Vec<Evaluation>);

impl Payload {
    /// Adds an item that changed; its version is read from the JSON text, 0 if it has none.
    #[must_use]
    pub fn changed(mut self, kind: &str, key: &str, json: &str) -> Self {
        let object = Object::parse(json).unwrap_or_default();
        let version = object.get("version").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.changed.push((ItemHead { kind: kind.to_owned(), key: key.to_owned(), version }, json.to_owned()));
        self
    }

    /// Adds an item that did not change.
    #[must_use]
    pub fn unchanged(mut self, kind: &str, key: &str, json: &str) -> Self {
        self.others.push((kind.to_owned(), key.to_owned(), json.to_owned()));
        self
    }

    /// Returns the changed and added items as SDKs would receive them: kind, key and JSON text.
    #[must_use]
    pub fn edited(&self, edits: &[Edit]) -> Vec<(String, String, String)> {
        let kept = self.changed.iter().zip(0..).filter_map(|((head, json), at)| {
            let edit = edits.iter().find(|edit| match edit {
                Edit::Drop(index) | Edit::Replace { index, .. } => *index == at,
                Edit::Add { .. } => false,
            });
            let json = match edit {
                None => json.clone(),
                Some(Edit::Replace { json, .. }) => String::from_utf8_lossy(json).into_owned(),
                Some(_) => return None,
            };
            Some((head.kind.clone(), head.key.clone(), json))
        });
        let added = edits.iter().filter_map(|edit| match edit {
            Edit::Add { kind, key, json } => {
                Some((kind.clone(), key.clone(), String::from_utf8_lossy(json).into_owned()))
            }
            _ => None,
        });
        kept.chain(added).collect()
    }
}

impl Evaluated {
    /// Adds a result, with its value as JSON text.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        let (flag, value) = (flag.to_owned(), value.to_owned());
        self.0.push(Evaluation { flag, value, variation: Some(0), reason: "null".to_owned() });
        self
    }

    /// Returns the results as the SDK would receive them: flag and JSON text of the value.
    #[must_use]
    pub fn edited(&self, edits: &[ResultEdit]) -> Vec<(String, String)> {
        let sent = self.0.iter().zip(0..).filter_map(|(result, at)| {
            let edit = edits.iter().find(|edit| match edit {
                ResultEdit::Drop(index) | ResultEdit::Replace { index, .. } => *index == at,
            });
            let value = match edit {
                None => result.value.clone(),
                Some(ResultEdit::Replace { json, .. }) => String::from_utf8_lossy(json).into_owned(),
                Some(ResultEdit::Drop(_)) => return None,
            };
            Some((result.flag.clone(), value))
        });
        sent.collect()
    }
}

impl Items for Payload {
    fn heads(&self) -> Vec<ItemHead> {
        self.changed.iter().map(|(head, _)| head.clone()).collect()
    }

    fn json(&self, index: u32) -> Option<String> {
        self.changed.get(index as usize).map(|(_, json)| json.clone())
    }

    fn find(&self, kind: &str, key: &str) -> Option<u32> {
        let found = self.changed.iter().position(|(head, _)| head.kind == kind && head.key == key);
        found.and_then(|index| u32::try_from(index).ok())
    }

    fn other(&self, kind: &str, key: &str) -> Option<String> {
        let changed = self.find(kind, key).and_then(|index| self.json(index));
        let others = || self.others.iter().find(|it| it.0 == kind && it.1 == key).map(|it| it.2.clone());
        changed.or_else(others)
    }
}

impl Results for Evaluated {
    fn flags(&self) -> Vec<String> {
        self.0.iter().map(|result| result.flag.clone()).collect()
    }

    fn get(&self, index: u32) -> Option<Evaluation> {
        self.0.get(index as usize).cloned()
    }

    fn find(&self, flag: &str) -> Option<u32> {
        let found = self.0.iter().position(|result| result.flag == flag);
        found.and_then(|index| u32::try_from(index).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_applied() {
        let items =
            Payload::default().changed("flag", "a", "{}").changed("flag", "b", "{}").unchanged("flag", "c", "{}");
        let edits = [Edit::drop(0), Edit::replace(1, "{\"on\":true}"), Edit::add("flag", "d", "{}")];
        let text = |kind: &str, key: &str, json: &str| (kind.to_owned(), key.to_owned(), json.to_owned());
        assert_eq!(items.edited(&edits), [text("flag", "b", "{\"on\":true}"), text("flag", "d", "{}")]);
        assert_eq!(items.other("flag", "c").as_deref(), Some("{}"));
        assert_eq!(items.find("segment", "a"), None);

        let results = Evaluated::default().flag("a", "1").flag("b", "2");
        let edits = [ResultEdit::drop(0), ResultEdit::replace(1, "3")];
        assert_eq!(results.edited(&edits), [("b".to_owned(), "3".to_owned())]);
        assert_eq!(results.find("b"), Some(1));
    }
}
