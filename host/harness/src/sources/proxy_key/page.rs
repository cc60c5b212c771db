//! Pages of the environments that a proxy key leads to (F113).

use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_harness_eval::model::{count, or_default};

use crate::data::received::{ReadList, Received};
use crate::identity::ListedKeys;

/// A page. It is read completely when it is parsed, off the serving threads.
pub(super) struct Page {
    /// `None` if the page contains no list, which is not the same as an empty list.
    environments: Option<Vec<Listed>>,
    /// Number of entries that cannot be read. Each may be any environment.
    pub(super) unreadable: usize,
    pub(super) page_count: Option<u64>,
    pub(super) item_count: Option<u64>,
}

/// An environment of a page.
pub(super) struct Listed {
    pub(super) id: String,
    /// Identifiers of environment and project, which are empty unless an item names them.
    pub(super) environment: String,
    pub(super) project: String,
    /// `None` if the page does not list them.
    pub(super) keys: Option<ListedKeys>,
    /// The error if one of the lists of this environment is malformed.
    pub(super) items: Result<Received, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageWire<'a> {
    #[serde(borrow, default)]
    environments: Option<Vec<&'a RawValue>>,
    #[serde(default, deserialize_with = "count")]
    page_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    item_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    id: String,
    // Some services leave out empty lists.
    #[serde(borrow, default)]
    api_keys: Option<&'a RawValue>,
    #[serde(borrow, default)]
    feature_configs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    segments: Option<&'a RawValue>,
}

/// Returns the entries of a list; `None` if it is missing or `null`.
fn entries(list: Option<&RawValue>) -> Result<Option<Vec<&RawValue>>, serde_json::Error> {
    list.map_or(Ok(None), |list| serde_json::from_str(list.get()))
}

/// The environment and project that an item names.
#[derive(Default, Deserialize)]
struct ItemOrigin {
    #[serde(default, deserialize_with = "or_default")]
    environment: String,
    #[serde(default, deserialize_with = "or_default")]
    project: String,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// When it is no JSON object, or its list is no array.
    pub(super) fn read(json: &str) -> Result<Self, serde_json::Error> {
        let wire: PageWire<'_> = serde_json::from_str(json)?;
        let mut unreadable = 0;
        let environments = wire.environments.map(|entries| {
            let read: Vec<_> = entries.iter().filter_map(|it| Listed::read(it.get()).ok()).collect();
            unreadable = entries.len() - read.len();
            read
        });
        Ok(Self { environments, unreadable, page_count: wire.page_count, item_count: wire.item_count })
    }

    /// Returns the environments of the page, which has this index.
    ///
    /// # Errors
    /// When the page contains no list although it should: it must not remove environments.
    pub(super) fn entries(self, index: u64) -> Result<Vec<Listed>, &'static str> {
        let is_behind_the_last = index > 0 && self.page_count.is_none();
        let is_empty = self.page_count == Some(0) || self.item_count == Some(0);
        match self.environments {
            Some(environments) => Ok(environments),
            None if is_behind_the_last || is_empty => Ok(Vec::new()),
            None => Err("a page of the configuration does not list environments"),
        }
    }
}

impl Listed {
    fn read(json: &str) -> Result<Self, serde_json::Error> {
        let wire: Wire<'_> = serde_json::from_str(json)?;
        let (flags, segments) = (entries(wire.feature_configs), entries(wire.segments));
        let origin = [&flags, &segments].into_iter().flatten().flatten().flatten().find_map(|item| {
            serde_json::from_str::<ItemOrigin>(item.get()).ok().filter(|it| !it.environment.is_empty())
        });
        let ItemOrigin { environment, project } = origin.unwrap_or_default();
        let items = flags.and_then(|flags| {
            Ok(Received {
                flags: flags.map(|it| ReadList::from_entries(&it)),
                segments: segments?.map(|it| ReadList::from_entries(&it)),
            })
        });
        Ok(Self {
            id: wire.id,
            environment,
            project,
            keys: entries(wire.api_keys)?.map(|it| it.iter().map(|key| serde_json::from_str(key.get()).ok()).collect()),
            items: items.map_err(|error| error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::data::items::Items;

    fn page(json: &Value) -> Result<Page, serde_json::Error> {
        Page::read(&json.to_string())
    }

    fn items(listed: Listed) -> Items {
        listed.items.unwrap().complete(None).0
    }

    #[test]
    fn lists_may_be_missing_and_ids_may_be_any_text() {
        // F113
        let flag = json!({"feature": "a", "environment": "prod", "project": "shop", "version": 1});
        let read = page(&json!({"environments": [
            {"id": "no uuid", "apiKeys": ["A".repeat(64), "short", 7, null], "featureConfigs": [flag], "segments": null, "new": 1},
            {"id": "e2", "segments": [{"identifier": "s", "environment": "test"}]},
            {"id": "e3"},
        ]}));
        let entries = read.unwrap().entries(0).unwrap();
        let seen: Vec<_> = entries
            .into_iter()
            .map(|it| {
                let (id, environment, project) = (it.id.clone(), it.environment.clone(), it.project.clone());
                let keys = it.keys.as_ref().map(|it| (it.hashes().len(), it.is_complete()));
                let items = items(it);
                (id, environment, project, keys, items.flags.len(), items.segments.len())
            })
            .collect();
        let text = str::to_owned;
        assert_eq!(
            seen,
            [
                (text("no uuid"), text("prod"), text("shop"), Some((1, false)), 1, 0),
                (text("e2"), text("test"), String::new(), None, 0, 1),
                (text("e3"), String::new(), String::new(), None, 0, 0),
            ]
        );
    }

    #[test]
    fn entries_that_cannot_be_read_do_not_affect_others() {
        let read = page(&json!({"environments": [
            {"id": "a", "featureConfigs": [{"feature": 7}, {"feature": "x"}]}, 7, {"id": 7}, {},
            {"id": "b", "segments": 7}, {"id": "c", "apiKeys": 7}, {"id": "d"},
        ]}));
        let read = read.unwrap();
        assert_eq!(read.unreadable, 4);
        let entries = read.entries(0).unwrap();
        let usable: Vec<_> = entries.iter().map(|it| (it.id.as_str(), it.items.is_ok())).collect();
        assert_eq!(usable, [("a", true), ("b", false), ("d", true)]);
        let first = entries.into_iter().next().unwrap();
        assert_eq!(items(first).flags.len(), 1, "one flag of two");
    }

    #[test]
    fn a_missing_list_is_not_an_empty_list() {
        for (json, index, is_usable) in [
            (json!({}), 0, false),
            (json!([]), 0, false),
            (json!({"environments": null, "pageCount": 2}), 1, false),
            (json!({"environments": null}), 1, true),
            (json!({"environments": null, "itemCount": 0}), 0, true),
            (json!({"pageCount": 0}), 0, true),
            (json!({"environments": []}), 0, true),
        ] {
            assert_eq!(page(&json).unwrap().entries(index).is_ok(), is_usable, "{json}");
        }
        for json in [json!(7), json!({"environments": "x"}), json!({"environments": {}})] {
            assert!(page(&json).is_err(), "{json}");
        }
        for number in [json!(-1), json!("2"), json!(1.5), json!(1e300), json!(null), json!([])] {
            let page = page(&json!({"environments": [], "pageCount": number, "itemCount": number})).unwrap();
            assert_eq!((page.page_count, page.item_count), (None, None), "{number}");
        }
    }

    proptest! {
        #[test]
        fn every_environment_of_a_page_is_read(ids in proptest::collection::vec(".{1,40}", 0..10), count in any::<u64>()) {
            let environments: Vec<_> = ids.iter().map(|id| json!({"id": id, "apiKeys": null})).collect();
            let page = page(&json!({"environments": environments, "pageCount": count})).unwrap();
            let read: Vec<_> = page.entries(3).unwrap().into_iter().map(|it| it.id).collect();
            prop_assert_eq!(read, ids);
        }
    }
}
