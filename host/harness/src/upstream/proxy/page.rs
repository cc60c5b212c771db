//! Pages of what a proxy key leads to (section 6.2).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::credential::KeyHash;
use crate::dataset::Items;
use crate::model::{Flag, Malformed, Segment, or_default};

/// A page. It is read as a whole where it is parsed, which may take a while.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    /// `None` if the page does not say; that is not the same as none.
    #[serde(default)]
    pub(super) environments: Option<Vec<Listed>>,
    #[serde(default)]
    pub(super) page_count: Option<u64>,
    #[serde(default)]
    pub(super) item_count: Option<u64>,
}

/// An environment as it is listed.
#[derive(Deserialize)]
#[serde(from = "Wire")]
pub(super) struct Listed {
    pub(super) id: String,
    /// Identifiers, as far as the items say.
    pub(super) environment: String,
    pub(super) project: String,
    pub(super) keys: BTreeSet<KeyHash>,
    /// One that cannot be used concerns its environment only.
    pub(super) items: Result<Items, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    id: String,
    // Where there is nothing to list, lists are left out.
    #[serde(default, deserialize_with = "or_default")]
    api_keys: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    feature_configs: Vec<Value>,
    #[serde(default, deserialize_with = "or_default")]
    segments: Vec<Value>,
}

impl Page {
    /// Environments of the page of this index. A page that does not list any where there should be some is of no use:
    /// it must not make environments disappear.
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

impl From<Wire> for Listed {
    fn from(wire: Wire) -> Self {
        let of_first = |name: &str| {
            let first = wire.feature_configs.first().or(wire.segments.first());
            first.and_then(|it| it[name].as_str()).unwrap_or_default().to_owned()
        };
        let (environment, project) = (of_first("environment"), of_first("project"));
        Self {
            environment,
            project,
            keys: wire.api_keys.iter().filter_map(|it| KeyHash::listed(it.as_str()?)).collect(),
            items: items(wire.feature_configs, wire.segments).map_err(|error| error.to_string()),
            id: wire.id,
        }
    }
}

fn items(flags: Vec<Value>, segments: Vec<Value>) -> Result<Items, Malformed> {
    Ok(Items {
        flags: flags.into_iter().map(|it| Flag::read(it).map(Arc::new)).collect::<Result<_, _>>()?,
        segments: segments.into_iter().map(|it| Segment::read(it).map(Arc::new)).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn page(json: &Value) -> Result<Page, serde_json::Error> {
        serde_json::from_str(&json.to_string())
    }

    #[test]
    fn lists_may_be_missing_and_ids_may_be_anything() {
        // F113
        let flag = json!({"feature": "a", "environment": "prod", "project": "shop", "version": 1});
        let read = page(&json!({"environments": [
            {"id": "no uuid", "apiKeys": ["A".repeat(64), "short", 7, null], "featureConfigs": [flag], "segments": null, "new": 1},
            {"id": "e2", "segments": [{"identifier": "s", "environment": "test"}]},
            {"id": "e3"},
        ]}));
        let entries = read.unwrap().entries(0).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|it| {
                let items = it.items.as_ref().unwrap();
                let counts = (it.keys.len(), items.flags.len(), items.segments.len());
                (it.id.as_str(), it.environment.as_str(), it.project.as_str(), counts)
            })
            .collect();
        assert_eq!(
            seen,
            [("no uuid", "prod", "shop", (1, 1, 0)), ("e2", "test", "", (0, 0, 1)), ("e3", "", "", (0, 0, 0))]
        );
    }

    #[test]
    fn one_environment_that_cannot_be_used_leaves_the_others_alone() {
        let entries = page(&json!({"environments": [{"id": "a", "featureConfigs": [{"feature": 7}]}, {"id": "b"}]}));
        let entries = entries.unwrap().entries(0).unwrap();
        assert_eq!(entries.iter().map(|it| it.items.is_ok()).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn saying_nothing_is_not_the_same_as_saying_none() {
        for (json, index, is_fine) in [
            (json!({}), 0, false),
            (json!([]), 0, false),
            (json!({"environments": null, "pageCount": 2}), 1, false),
            (json!({"environments": null}), 1, true),
            (json!({"environments": null, "itemCount": 0}), 0, true),
            (json!({"pageCount": 0}), 0, true),
            (json!({"environments": []}), 0, true),
        ] {
            assert_eq!(page(&json).unwrap().entries(index).is_ok(), is_fine, "{json}");
        }
        for json in [json!(7), json!({"environments": [{}]}), json!({"environments": "x"}), json!({"pageCount": -1})] {
            assert!(page(&json).is_err(), "{json}");
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
