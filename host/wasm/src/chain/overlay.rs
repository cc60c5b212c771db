//! The input of the next plugin of a chain: the data with the edits of earlier plugins, without copies.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::hooks::{
    ItemHead, PayloadEdit, PayloadView, ReplacedResult, ResultChange, ResultEdits, ResultView, ViewedResult,
};

use crate::runtime::interface::{RawAddition, RawEdit, RawResultEdit};

/// Items replaced or dropped (`None`), by index of the base; items added, by kind and key.
#[derive(Clone, Default)]
struct PayloadChanges {
    by_index: BTreeMap<usize, Option<Bytes>>,
    added: BTreeMap<(String, String), AddedItem>,
}

/// An item that a plugin added.
#[derive(Clone)]
struct AddedItem {
    json: Bytes,
    /// Index in the base of the item that it is derived from.
    derived_from: Option<usize>,
}

/// Flag data and the edits so far.
pub(super) struct EditedPayload {
    base: Arc<dyn PayloadView>,
    changes: PayloadChanges,
    /// Index in the base of each item that has not been dropped.
    alive: Vec<usize>,
}

/// A view of flag data with edits applied.
struct PayloadOverlay {
    base: Arc<dyn PayloadView>,
    changes: PayloadChanges,
    alive: Vec<usize>,
    heads: Vec<ItemHead>,
}

/// Results and the edits so far.
pub(super) struct EditedResults(ResultOverlay);

/// A view of results with edits applied.
#[derive(Clone)]
struct ResultOverlay {
    base: Arc<dyn ResultView>,
    changes: BTreeMap<usize, ResultChange>,
    /// Index in the base of each result that has not been dropped, in order; added ones follow them, sorted by flag.
    alive: Vec<usize>,
    added: Vec<ViewedResult>,
}

impl EditedPayload {
    pub(super) fn new(base: Arc<dyn PayloadView>) -> Self {
        let alive = (0..base.heads().len()).collect();
        Self { base, changes: PayloadChanges::default(), alive }
    }

    /// Returns the view for the next plugin. Items added by an earlier plugin are found by name, and are not among the
    /// changed ones.
    pub(super) fn view(&self) -> Arc<dyn PayloadView> {
        if self.changes.by_index.is_empty() && self.changes.added.is_empty() {
            return Arc::clone(&self.base);
        }
        let heads = self.base.heads();
        Arc::new(PayloadOverlay {
            base: Arc::clone(&self.base),
            changes: self.changes.clone(),
            heads: self.alive.iter().map(|&index| heads[index].clone()).collect(),
            alive: self.alive.clone(),
        })
    }

    /// Adds validated edits of a plugin that was given [`Self::view`].
    pub(super) fn apply(&mut self, edits: Vec<RawEdit>) {
        for edit in edits {
            match edit {
                RawEdit::Drop(index) => {
                    self.changes.by_index.insert(self.alive[index as usize], None);
                }
                RawEdit::Replace(index, json) => {
                    self.changes.by_index.insert(self.alive[index as usize], Some(json.into()));
                }
                RawEdit::Add(RawAddition { kind, key, json, derived_from }) => {
                    let derived_from = derived_from.and_then(|index| self.alive.get(index as usize).copied());
                    self.changes.added.insert((kind, key), AddedItem { json: json.into(), derived_from });
                }
            }
        }
        let changes = &self.changes.by_index;
        self.alive.retain(|index| !matches!(changes.get(index), Some(None)));
    }

    /// Returns all edits, at most one per index of the base.
    pub(super) fn into_edits(self) -> Vec<PayloadEdit> {
        let changed = self.changes.by_index.into_iter().map(|(index, json)| match json {
            None => PayloadEdit::Drop(index),
            Some(json) => PayloadEdit::Replace(index, json),
        });
        let added = self
            .changes
            .added
            .into_iter()
            .map(|((kind, key), AddedItem { json, derived_from })| PayloadEdit::Add { kind, key, json, derived_from });
        changed.chain(added).collect()
    }
}

impl PayloadView for PayloadOverlay {
    fn heads(&self) -> &[ItemHead] {
        &self.heads
    }

    fn json(&self, index: usize) -> Option<Bytes> {
        let index = *self.alive.get(index)?;
        match self.changes.by_index.get(&index) {
            Some(changed) => changed.clone(),
            None => self.base.json(index),
        }
    }

    fn other(&self, kind: &str, key: &str) -> Option<Bytes> {
        // Also where a plugin has changed the item: the base records which items the chain reads.
        let unchanged = self.base.other(kind, key);
        if let Some(added) = self.changes.added.get(&(kind.to_owned(), key.to_owned())) {
            return Some(added.json.clone());
        }
        let changed = self.base.heads().iter().position(|head| head.kind == kind && *head.key == *key);
        match changed.and_then(|index| self.changes.by_index.get(&index)) {
            Some(changed) => changed.clone(),
            None => unchanged,
        }
    }

    fn list(&self, kind: &str) -> Vec<Arc<str>> {
        let heads = self.base.heads();
        let hidden = self.changes.by_index.iter().filter(|(_, json)| json.is_none());
        let hidden = hidden.filter_map(|(index, _)| heads.get(*index)).filter(|head| head.kind == kind);
        let hidden: HashSet<&str> = hidden.map(|head| &*head.key).collect();
        let mut keys: Vec<_> = self.base.list(kind).into_iter().filter(|key| !hidden.contains(&**key)).collect();
        keys.extend(self.changes.added.keys().filter(|(it, _)| it == kind).map(|(_, key)| Arc::from(&**key)));
        keys.sort();
        keys
    }
}

impl EditedResults {
    pub(super) fn new(base: Arc<dyn ResultView>) -> Self {
        let alive = (0..base.len()).collect();
        Self(ResultOverlay { base, changes: BTreeMap::new(), alive, added: Vec::new() })
    }

    /// Returns the view for the next plugin.
    pub(super) fn view(&self) -> Arc<dyn ResultView> {
        if self.0.changes.is_empty() && self.0.added.is_empty() {
            return Arc::clone(&self.0.base);
        }
        Arc::new(self.0.clone())
    }

    /// Adds validated edits of a plugin that was given [`Self::view`].
    pub(super) fn apply(&mut self, edits: Vec<RawResultEdit>) {
        let overlay = &mut self.0;
        let count = overlay.alive.len();
        let mut removed = BTreeSet::new();
        let mut added = Vec::new();
        for edit in edits {
            match edit {
                RawResultEdit::Drop(index) => match overlay.alive.get(index as usize) {
                    Some(index) => drop(overlay.changes.insert(*index, ResultChange::Drop)),
                    None => _ = removed.insert(index as usize - count),
                },
                RawResultEdit::Replace { index, value, variation, reason } => {
                    let replaced =
                        ReplacedResult { value: value.map(Bytes::from), variation, reason: reason.map(Bytes::from) };
                    match overlay.alive.get(index as usize) {
                        Some(index) => match overlay.changes.entry(*index).or_insert_with(empty_replacement) {
                            ResultChange::Replace(earlier) => replaced.merge_into(earlier),
                            ResultChange::Drop => (),
                        },
                        None => {
                            if let Some(result) = overlay.added.get_mut(index as usize - count) {
                                replaced.apply_to(result);
                            }
                        }
                    }
                }
                RawResultEdit::Add { flag, value, variation, reason } => added.push(ViewedResult {
                    flag: flag.into(),
                    value: value.into(),
                    variation,
                    reason: reason.map(Bytes::from),
                }),
            }
        }
        let kept = overlay.added.drain(..).enumerate().filter(|(index, _)| !removed.contains(index));
        added.extend(kept.map(|(_, result)| result));
        added.sort_by(|a, b| a.flag.cmp(&b.flag));
        overlay.added = added;
        let changes = &overlay.changes;
        overlay.alive.retain(|index| !matches!(changes.get(index), Some(ResultChange::Drop)));
    }

    /// Returns all edits, at most one per index of the base.
    pub(super) fn into_edits(self) -> ResultEdits {
        ResultEdits { changes: self.0.changes.into_iter().collect(), added: self.0.added }
    }
}

fn empty_replacement() -> ResultChange {
    ResultChange::Replace(ReplacedResult::default())
}

/// Changes of a result by a plugin, merged with those of earlier plugins or applied to a result.
trait Merge {
    fn merge_into(self, earlier: &mut ReplacedResult);
    fn apply_to(&self, result: &mut ViewedResult);
}

impl Merge for ReplacedResult {
    fn merge_into(self, earlier: &mut ReplacedResult) {
        earlier.value = self.value.or(earlier.value.take());
        earlier.variation = self.variation.or(earlier.variation);
        earlier.reason = self.reason.or(earlier.reason.take());
    }

    fn apply_to(&self, result: &mut ViewedResult) {
        if let Some(value) = &self.value {
            result.value = value.clone();
        }
        result.variation = self.variation.or(result.variation);
        if let Some(reason) = &self.reason {
            result.reason = Some(reason.clone());
        }
    }
}

impl ResultView for ResultOverlay {
    fn len(&self) -> usize {
        self.alive.len() + self.added.len()
    }

    fn flag(&self, index: usize) -> Option<&str> {
        match self.alive.get(index) {
            Some(index) => self.base.flag(*index),
            None => self.added.get(index - self.alive.len()).map(|it| &*it.flag),
        }
    }

    fn get(&self, index: usize) -> Option<ViewedResult> {
        let Some(base_index) = self.alive.get(index) else {
            return self.added.get(index - self.alive.len()).cloned();
        };
        let mut result = self.base.get(*base_index)?;
        if let Some(ResultChange::Replace(replaced)) = self.changes.get(base_index) {
            replaced.apply_to(&mut result);
        }
        Some(result)
    }

    fn find(&self, flag: &str) -> Option<usize> {
        let added = self.added.binary_search_by(|it| (*it.flag).cmp(flag)).ok().map(|index| self.alive.len() + index);
        added.or_else(|| self.alive.binary_search(&self.base.find(flag)?).ok())
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use yardarm_core::hooks::SortedResults;

    use super::*;

    /// Items, and the keys that were read by [`PayloadView::other`].
    struct Items(Vec<ItemHead>, Mutex<Vec<String>>);

    impl PayloadView for Items {
        fn heads(&self) -> &[ItemHead] {
            &self.0
        }

        fn json(&self, index: usize) -> Option<Bytes> {
            self.0.get(index).map(|head| head.key.to_string().into())
        }

        fn other(&self, _: &str, key: &str) -> Option<Bytes> {
            self.1.lock().push(key.to_owned());
            Some(Bytes::from(format!("other {key}")))
        }

        fn list(&self, _: &str) -> Vec<Arc<str>> {
            self.0.iter().map(|head| Arc::clone(&head.key)).collect()
        }
    }

    #[test]
    fn each_plugin_sees_what_the_one_before_left() {
        let head = |key: &str| ItemHead { kind: "flag", key: key.into(), version: 1, is_deleted: false };
        let items = Arc::new(Items(vec![head("a"), head("b"), head("c")], Mutex::default()));
        let mut edited = EditedPayload::new(Arc::clone(&items) as Arc<dyn PayloadView>);
        edited.apply(vec![RawEdit::Drop(0), RawEdit::Replace(2, b"new c".to_vec())]);
        let view = edited.view();
        assert_eq!(view.heads(), [head("b"), head("c")]);
        assert_eq!(view.json(0).as_deref(), Some(&b"b"[..]));
        assert_eq!(view.json(1).as_deref(), Some(&b"new c"[..]));
        assert_eq!(view.other("flag", "a"), None);
        assert_eq!(view.other("flag", "z").as_deref(), Some(&b"other z"[..]));
        assert_eq!(view.list("flag"), ["b", "c"].map(Arc::from));
        let add = |json: &str| {
            RawEdit::Add(RawAddition { kind: "flag".into(), key: "n".into(), json: json.into(), derived_from: Some(0) })
        };
        edited.apply(vec![RawEdit::Drop(1), add("1")]);
        assert_eq!(edited.view().list("flag"), ["b", "n"].map(Arc::from));
        assert_eq!(edited.view().other("flag", "n").as_deref(), Some(&b"1"[..]));
        assert_eq!(*items.1.lock(), ["a", "z", "n"], "reads of changed and added items count, too");
        edited.apply(vec![add("2")]);
        assert_eq!(
            edited.into_edits(),
            [
                PayloadEdit::Drop(0),
                PayloadEdit::Drop(2),
                PayloadEdit::Add { kind: "flag".into(), key: "n".into(), json: "2".into(), derived_from: Some(1) },
            ]
        );
    }

    #[test]
    fn each_plugin_sees_the_results_that_the_one_before_left() {
        let result = |flag: &str, value: &'static str| ViewedResult {
            flag: flag.into(),
            value: Bytes::from_static(value.as_bytes()),
            variation: Some(0),
            reason: None,
        };
        let replace = |index, value: Option<&str>, variation| RawResultEdit::Replace {
            index,
            value: value.map(|it| it.as_bytes().to_vec()),
            variation,
            reason: None,
        };
        let add = |flag: &str| RawResultEdit::Add {
            flag: flag.to_owned(),
            value: b"9".to_vec(),
            variation: None,
            reason: None,
        };
        let base = SortedResults::new(vec![result("a", "1"), result("b", "2"), result("c", "3")]);
        let mut edited = EditedResults::new(Arc::new(base));
        edited.apply(vec![RawResultEdit::Drop(0), replace(1, Some("20"), None), add("z"), add("y")]);
        let view = edited.view();
        let flags: Vec<_> = (0..view.len()).map(|index| view.flag(index).unwrap().to_owned()).collect();
        assert_eq!(flags, ["b", "c", "y", "z"]);
        assert_eq!((view.find("a"), view.find("c"), view.find("z")), (None, Some(1), Some(3)));
        assert_eq!((view.get(0).unwrap().value, view.get(2).unwrap().value), ("20".into(), "9".into()));
        edited.apply(vec![replace(0, None, Some(7)), RawResultEdit::Drop(3), replace(2, Some("10"), Some(1))]);
        let edits = edited.into_edits();
        let replaced = ReplacedResult { value: Some("20".into()), variation: Some(7), reason: None };
        assert_eq!(edits.changes, [(0, ResultChange::Drop), (1, ResultChange::Replace(replaced))]);
        assert_eq!(edits.added, [ViewedResult { variation: Some(1), ..result("y", "10") }]);
    }
}
