//! The input of the next plugin of a chain: the data with the edits of earlier plugins, without copies.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::hooks::{ItemHead, PayloadEdit, PayloadView, ResultChange, ResultEdit, ResultView, ViewedResult};

use crate::runtime::interface::{RawEdit, RawResultEdit};

/// Items replaced or dropped (`None`), by index of the base; items added, by kind and key.
#[derive(Clone, Default)]
struct PayloadChanges {
    by_index: BTreeMap<usize, Option<Bytes>>,
    added: BTreeMap<(String, String), Bytes>,
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
pub(super) struct EditedResults {
    base: Arc<dyn ResultView>,
    changes: BTreeMap<usize, Option<Bytes>>,
    alive: Vec<usize>,
}

/// A view of results with edits applied.
struct ResultOverlay {
    base: Arc<dyn ResultView>,
    changes: BTreeMap<usize, Option<Bytes>>,
    alive: Vec<usize>,
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
                RawEdit::Add { kind, key, json } => {
                    self.changes.added.insert((kind, key), json.into());
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
        let added = self.changes.added.into_iter().map(|((kind, key), json)| PayloadEdit::Add { kind, key, json });
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
            return Some(added.clone());
        }
        let changed = self.base.heads().iter().position(|head| head.kind == kind && *head.key == *key);
        match changed.and_then(|index| self.changes.by_index.get(&index)) {
            Some(changed) => changed.clone(),
            None => unchanged,
        }
    }
}

impl EditedResults {
    pub(super) fn new(base: Arc<dyn ResultView>) -> Self {
        let alive = (0..base.len()).collect();
        Self { base, changes: BTreeMap::new(), alive }
    }

    /// Returns the view for the next plugin.
    pub(super) fn view(&self) -> Arc<dyn ResultView> {
        if self.changes.is_empty() {
            return Arc::clone(&self.base);
        }
        let (changes, alive) = (self.changes.clone(), self.alive.clone());
        Arc::new(ResultOverlay { base: Arc::clone(&self.base), changes, alive })
    }

    /// Adds validated edits of a plugin that was given [`Self::view`].
    pub(super) fn apply(&mut self, edits: Vec<RawResultEdit>) {
        for edit in edits {
            self.changes.insert(self.alive[edit.index as usize], edit.value.map(Bytes::from));
        }
        let changes = &self.changes;
        self.alive.retain(|index| !matches!(changes.get(index), Some(None)));
    }

    /// Returns all edits, at most one per index of the base.
    pub(super) fn into_edits(self) -> Vec<ResultEdit> {
        let edit = |(index, value): (usize, Option<Bytes>)| ResultEdit {
            index,
            change: value.map_or(ResultChange::Drop, ResultChange::Replace),
        };
        self.changes.into_iter().map(edit).collect()
    }
}

impl ResultView for ResultOverlay {
    fn len(&self) -> usize {
        self.alive.len()
    }

    fn flag(&self, index: usize) -> Option<&str> {
        self.base.flag(*self.alive.get(index)?)
    }

    fn get(&self, index: usize) -> Option<ViewedResult> {
        let index = *self.alive.get(index)?;
        let result = self.base.get(index)?;
        match self.changes.get(&index) {
            Some(Some(value)) => Some(ViewedResult { value: value.clone(), ..result }),
            _ => Some(result),
        }
    }

    fn find(&self, flag: &str) -> Option<usize> {
        let index = self.base.find(flag)?;
        self.alive.iter().position(|alive| *alive == index)
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

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
    }

    #[test]
    fn each_plugin_sees_what_the_one_before_left() {
        let head = |key: &str| ItemHead { kind: "flag", key: key.into(), version: 1 };
        let items = Arc::new(Items(vec![head("a"), head("b"), head("c")], Mutex::default()));
        let mut edited = EditedPayload::new(Arc::clone(&items) as Arc<dyn PayloadView>);
        edited.apply(vec![RawEdit::Drop(0), RawEdit::Replace(2, b"new c".to_vec())]);
        let view = edited.view();
        assert_eq!(view.heads(), [head("b"), head("c")]);
        assert_eq!(view.json(0).as_deref(), Some(&b"b"[..]));
        assert_eq!(view.json(1).as_deref(), Some(&b"new c"[..]));
        assert_eq!(view.other("flag", "a"), None);
        assert_eq!(view.other("flag", "z").as_deref(), Some(&b"other z"[..]));
        let add = |json: &str| RawEdit::Add { kind: "flag".into(), key: "n".into(), json: json.into() };
        edited.apply(vec![RawEdit::Drop(1), add("1")]);
        assert_eq!(edited.view().other("flag", "n").as_deref(), Some(&b"1"[..]));
        assert_eq!(*items.1.lock(), ["a", "z", "n"], "reads of changed and added items count, too");
        edited.apply(vec![add("2")]);
        assert_eq!(
            edited.into_edits(),
            [
                PayloadEdit::Drop(0),
                PayloadEdit::Drop(2),
                PayloadEdit::Add { kind: "flag".into(), key: "n".into(), json: "2".into() },
            ]
        );
    }
}
