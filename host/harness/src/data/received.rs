//! Lists of flags and segments from a source, read item by item, so that an item that cannot be read does not affect others.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_harness_eval::model::{Flag, Malformed, Segment};

use super::item_list::{ItemList, ListItem};
use super::items::{Domain, Item, Items};

/// Longest description of a problem with an item, in bytes.
const MAX_PROBLEM: usize = 200;

/// Flags and segments of one environment, as a source sent them.
#[derive(Default)]
pub(crate) struct Received {
    /// `None` if the list itself is missing, which does not mean that there are no flags.
    pub(crate) flags: Option<ReadList<Flag>>,
    pub(crate) segments: Option<ReadList<Segment>>,
}

/// A list in upstream's order.
pub(crate) struct ReadList<T>(Vec<Result<Arc<T>, Unreadable>>);

/// An item, or a list, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) domain: Domain,
    /// `None` if the identifier cannot be read either.
    pub(crate) identifier: Option<String>,
    pub(crate) problem: String,
}

/// The result of fetching one item.
pub(crate) enum Fetched {
    Item(Item),
    Unreadable(Unreadable),
    /// The item does not exist any more.
    Gone,
}

/// An item that lists consist of.
pub(crate) trait Readable: ListItem + Sized {
    const DOMAIN: Domain;

    fn from_json(json: serde_json::Value) -> Result<Self, Malformed>;

    fn known(items: &Items) -> &ItemList<Self>;
}

impl Readable for Flag {
    const DOMAIN: Domain = Domain::Flag;

    fn from_json(json: serde_json::Value) -> Result<Self, Malformed> {
        Self::read(json)
    }

    fn known(items: &Items) -> &ItemList<Self> {
        &items.flags
    }
}

impl Readable for Segment {
    const DOMAIN: Domain = Domain::TargetSegment;

    fn from_json(json: serde_json::Value) -> Result<Self, Malformed> {
        Self::read(json)
    }

    fn known(items: &Items) -> &ItemList<Self> {
        &items.segments
    }
}

/// The property that names an item, which is read even if the rest of the item cannot be.
#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    feature: Option<String>,
    #[serde(default)]
    identifier: Option<String>,
}

/// Reads one item. Invalid Unicode must have been replaced before.
pub(crate) fn read_item<T: Readable>(json: &str) -> Result<Arc<T>, Unreadable> {
    let value = serde_json::from_str(json).map_err(|error| error.to_string());
    let read = value.and_then(|value| T::from_json(value).map_err(|error| error.to_string()));
    read.map(Arc::new).map_err(|mut problem| {
        // The text of an error may contain the value.
        problem.truncate(problem.floor_char_boundary(MAX_PROBLEM));
        let name = serde_json::from_str::<Name>(json).ok();
        let identifier = name.and_then(|it| if T::DOMAIN == Domain::Flag { it.feature } else { it.identifier });
        Unreadable { domain: T::DOMAIN, identifier, problem }
    })
}

impl<T: Readable> ReadList<T> {
    /// Reads a JSON array. Invalid Unicode must have been replaced before.
    ///
    /// # Errors
    /// When it is no array. `null` is an error as well: it must never mean that everything was deleted.
    pub(crate) fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::from_entries(&serde_json::from_str::<Vec<&RawValue>>(json)?))
    }

    /// Reads the entries of an array.
    pub(crate) fn from_entries(entries: &[&RawValue]) -> Self {
        Self(entries.iter().map(|it| read_item(it.get())).collect())
    }

    /// Returns the items to serve. An entry that cannot be read is added to `unreadable`, and its last good version is taken
    /// from `known`. An entry without a readable identifier may be any known item that is missing, so all of these stay.
    fn complete(self, known: &ItemList<T>, unreadable: &mut Vec<Unreadable>) -> ItemList<T> {
        let mut present: HashSet<Arc<str>> =
            self.0.iter().flatten().map(|item| Arc::clone(item.identifier())).collect();
        let mut is_any_anonymous = false;
        let mut items = Vec::with_capacity(self.0.len());
        for entry in self.0 {
            match entry {
                Ok(item) => items.push(item),
                Err(problem) => {
                    let last_good = problem.identifier.as_deref().and_then(|it| known.get(it));
                    is_any_anonymous |= problem.identifier.is_none();
                    if let Some(item) = last_good
                        && present.insert(Arc::clone(item.identifier()))
                    {
                        items.push(Arc::clone(item));
                    }
                    unreadable.push(problem);
                }
            }
        }
        if is_any_anonymous {
            items.extend(known.iter().filter(|it| !present.contains(it.identifier())).cloned());
        }
        // Items that have not changed stay as they are, with what was compiled from them.
        let reused = |item: Arc<T>| match known.get(item.identifier()) {
            Some(old) if old.json() == item.json() => Arc::clone(old),
            _ => item,
        };
        items.into_iter().map(reused).collect()
    }
}

impl Received {
    /// Returns the items to serve, with the last good version of items that could not be read, and those problems.
    pub(crate) fn complete(self, known: Option<&Items>) -> (Items, Vec<Unreadable>) {
        let mut unreadable = Vec::new();
        let items = Items {
            flags: completed(self.flags, known, &mut unreadable),
            segments: completed(self.segments, known, &mut unreadable),
        };
        (items, unreadable)
    }
}

fn completed<T: Readable>(
    list: Option<ReadList<T>>,
    known: Option<&Items>,
    unreadable: &mut Vec<Unreadable>,
) -> ItemList<T> {
    let known = known.map_or_else(ItemList::default, |it| T::known(it).clone());
    match list {
        Some(list) => list.complete(&known, unreadable),
        // Some services leave out empty lists.
        None if known.is_empty() => known,
        None => {
            let problem = "the list is missing".to_owned();
            unreadable.push(Unreadable { domain: T::DOMAIN, identifier: None, problem });
            known
        }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.domain.kind();
        match &self.identifier {
            Some(identifier) => write!(f, "{kind} `{identifier}` cannot be read: {}", self.problem),
            None => write!(f, "a {kind} without a readable identifier cannot be read: {}", self.problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn flag(name: &str, version: i64) -> Value {
        json!({"feature": name, "version": version, "state": "on"})
    }

    fn received(flags: &str) -> Received {
        Received { flags: Some(ReadList::from_json(flags).unwrap()), segments: None }
    }

    fn names(items: &Items) -> Vec<(String, i64)> {
        items.flags.iter().map(|it| (it.feature.to_string(), it.version)).collect()
    }

    fn known() -> Items {
        received(&json!([flag("a", 1), flag("b", 1), flag("c", 1)]).to_string()).complete(None).0
    }

    #[test]
    fn the_last_good_version_of_an_unreadable_item_stays() {
        let pairs = |all: &[(&str, i64)]| all.iter().map(|(name, it)| ((*name).to_owned(), *it)).collect::<Vec<_>>();
        let deep = format!(r#"{{"feature":"b","rules":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        for (bad, expected, count) in [
            (json!({"feature": "b", "rules": 7}).to_string(), &[("a", 2), ("b", 1), ("d", 1)][..], 1),
            (r#"{"feature":"b","version":1e999}"#.to_owned(), &[("a", 2), ("b", 1), ("d", 1)], 1),
            (deep, &[("a", 2), ("b", 1), ("d", 1)], 1),
            // It may be any of the items that are missing.
            ("7".to_owned(), &[("a", 2), ("d", 1), ("b", 1), ("c", 1)], 1),
            (json!({"feature": 7}).to_string(), &[("a", 2), ("d", 1), ("b", 1), ("c", 1)], 1),
            // There is no earlier version.
            (json!({"feature": "x", "state": []}).to_string(), &[("a", 2), ("d", 1)], 1),
            // Another entry of the same name can be read.
            (json!({"feature": "a", "state": []}).to_string(), &[("a", 2), ("d", 1)], 1),
            (flag("b", 2).to_string(), &[("a", 2), ("b", 2), ("d", 1)], 0),
        ] {
            let list = format!("[{}, {bad}, {}]", flag("a", 2), flag("d", 1));
            let (items, unreadable) = received(&list).complete(Some(&known()));
            assert_eq!((names(&items), unreadable.len()), (pairs(expected), count), "{bad:.60}");
        }
    }

    #[test]
    fn a_list_that_is_missing_deletes_nothing() {
        for list in ["null", "{}", "7", "", "[", "\"x\""] {
            assert!(ReadList::<Flag>::from_json(list).is_err(), "{list}");
        }
        let (items, unreadable) = Received::default().complete(Some(&known()));
        assert_eq!((items.flags.len(), unreadable.len()), (3, 1));
        let (items, unreadable) = Received::default().complete(None);
        assert_eq!((items.flags.len(), unreadable.len()), (0, 0));
        assert!(received("[]").complete(Some(&known())).0.flags.is_empty(), "an empty list deletes everything");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        let names = prop_oneof![
            Just("feature".to_owned()),
            Just("rules".to_owned()),
            Just("variations".to_owned()),
            Just("version".to_owned()),
            Just("defaultServe".to_owned()),
            Just("clauses".to_owned()),
            ".{0,4}",
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((names.clone(), inner), 0..6)
                    .prop_map(|all| Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_in_place_of_an_item_affects_that_item_only(bad in any_json(), place in 0_usize..3) {
            let mut list = vec![flag("a", 2), flag("c", 2)];
            list.insert(place.min(2), bad);
            let (items, unreadable) = received(&Value::from(list).to_string()).complete(Some(&known()));
            let found = names(&items);
            for name in ["a", "c"] {
                prop_assert!(found.iter().any(|it| it.0 == name), "{:?}", found);
            }
            prop_assert!(found.contains(&("a".to_owned(), 2)) && found.contains(&("c".to_owned(), 2)) || unreadable.is_empty());
            prop_assert!(unreadable.len() <= 1);
            let flags: Vec<_> = items.flags.iter().cloned().collect();
            let segments: Vec<_> = items.segments.iter().cloned().collect();
            let ruleset = yardarm_harness_eval::evaluation::Ruleset::build(&flags, &segments);
            ruleset.evaluate_all(&yardarm_harness_eval::model::Target::unknown("t"), &mut |_, _| ());
        }
    }
}
