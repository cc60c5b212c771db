//! Items as the content that the gateways of a fleet share: `features/KEY` and `segments/KEY`, with the texts of the
//! persistent store.

use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::supervisor::blocking;
use yardarm_fleet::{Content, Entry};

use super::layout::{self, FLAGS, SEGMENTS};
use crate::data::item_changes::{ItemChange, changes};
use crate::data::{ItemKind, Items};

impl Content for Items {
    fn changes(before: Option<&Self>, after: &Self) -> Vec<Entry> {
        let entry = |change| match change {
            ItemChange::Remove(kind, key) => (path(collection(kind), &key), None),
            ItemChange::Put(_, item) => {
                let (collection, record) = layout::record(&item);
                // Items are JSON, which is text.
                let text = String::from_utf8_lossy(&record.text);
                (path(collection, item.key()), Some(Arc::from(text)))
            }
        };
        changes(before, after).into_iter().map(entry).collect()
    }
}

fn path(collection: &str, key: &str) -> Arc<str> {
    format!("{collection}/{key}").into()
}

fn collection(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Flag => FLAGS,
        ItemKind::Segment => SEGMENTS,
    }
}

/// Parses all entries of a content off the serving threads. Entries that cannot be used are left out; `None` if that is so
/// for all of them.
pub(crate) async fn items(entries: Vec<Entry>) -> Option<Items> {
    blocking("shared content", move || with_changes(Items::default(), entries)).await.ok().flatten()
}

/// Applies changed entries to `items`; `None` if a changed entry cannot be used.
pub(crate) fn with_changes(mut items: Items, entries: Vec<Entry>) -> Option<Items> {
    let (mut flags, mut segments) = (Vec::new(), Vec::new());
    for (path, text) in entries {
        let Some((collection, key)) = path.split_once('/') else { continue };
        let (kind, changed) = match collection {
            FLAGS => (ItemKind::Flag, &mut flags),
            SEGMENTS => (ItemKind::Segment, &mut segments),
            // Of a later version.
            _ => continue,
        };
        match text {
            Some(text) => changed.push((key.to_owned(), Bytes::copy_from_slice(text.as_bytes()))),
            None => items.remove(kind, key),
        }
    }
    if flags.is_empty() && segments.is_empty() {
        return Some(items);
    }
    let changed = layout::items(flags, segments)?;
    changed.flags.iter().for_each(|it| items.flags.insert(Arc::clone(it)));
    changed.segments.iter().for_each(|it| items.segments.insert(Arc::clone(it)));
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Item;

    fn entry(path: &str, text: &str) -> Entry {
        (path.into(), Some(text.into()))
    }

    #[tokio::test]
    async fn what_is_published_is_read_as_it_was() {
        let all = vec![
            entry("features/a/b", r#"{"key":"a/b","version":3,"x-unknown":1.50}"#),
            entry("segments/s", r#"{"key":"s","version":2}"#),
        ];
        let mut first = items(all.clone()).await.expect("items");
        assert_eq!(Items::changes(None, &first), all, "byte for byte");
        let second = {
            let mut items = first.clone();
            items.upsert(&Item::tombstone(ItemKind::Flag, "a/b", 4));
            items.remove(ItemKind::Segment, "s");
            items
        };
        let changes = Items::changes(Some(&first), &second);
        assert_eq!(changes.len(), 2);
        first = with_changes(first, changes).expect("items");
        assert_eq!(first.flag_version("a/b"), Some(4));
        assert!(first.flag("a/b").is_none() && first.segment("s").is_none());
        assert_eq!(Items::changes(Some(&first), &second), []);
    }

    #[test]
    fn entries_of_later_versions_are_left_out() {
        let known = entry("features/a", r#"{"key":"a","version":1}"#);
        let items = with_changes(Items::default(), vec![entry("x/a", "{}"), entry("nonsense", "{}"), known]);
        assert_eq!(items.expect("items").flags.len(), 1);
        assert!(with_changes(Items::default(), vec![entry("features/a", "nonsense")]).is_none());
    }
}
