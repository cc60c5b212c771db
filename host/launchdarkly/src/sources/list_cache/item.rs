//! Items of the cache: one environment or payload filter each, as LaunchDarkly's stream describes it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use yardarm_launchdarkly_eval::model::normalize_json;

use crate::sources::auto_config_state::{CachedItem, Filter};
use crate::sources::persisted_list::{KeptKey, PersistedFilter, PersistedList, PersistedListEntry};
use crate::sources::representation::{Malformed, Object, Representation};

const ENVIRONMENT: &str = "environment";
const FILTER: &str = "filter";
/// Version 2 may contain lists of keys; in all else it is version 1.
const MODEL_VERSION: i64 = 2;

/// An item that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidItem {
    #[error("malformed JSON ({0})")]
    Json(#[from] serde_json::Error),
    #[error("not UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("unknown kind or version of its model")]
    Unknown,
    #[error("its name is that of another item")]
    OtherName,
}

/// Returns all items of a list, unencrypted, by name.
pub(super) fn items(list: &PersistedList) -> BTreeMap<String, Vec<u8>> {
    let environments = list.environments.iter().map(|it| (environment_name(&it.id), ENVIRONMENT, environment(it)));
    let filters = list.filters.iter().map(|it| (filter_name(&it.id), FILTER, filter(it)));
    let item = |(name, kind, data)| {
        (name, json!({"kind": kind, "modelVersion": MODEL_VERSION, "data": data}).to_string().into_bytes())
    };
    environments.chain(filters).map(item).collect()
}

/// Reads a decrypted item.
pub(super) fn read(name: &str, plain: &[u8]) -> Result<CachedItem, InvalidItem> {
    let value: Value = serde_json::from_str(&normalize_json(std::str::from_utf8(plain)?))?;
    let all = Object::of(&value, "item")?;
    let data = all.get("data").unwrap_or(&Value::Null);
    match (all.text("kind")?, all.number("modelVersion")?) {
        (ENVIRONMENT, 1..=MODEL_VERSION) => {
            let environment = Representation::read(data)?;
            if name != environment_name(&environment.id) {
                return Err(InvalidItem::OtherName);
            }
            Ok(CachedItem::Environment(Box::new(environment)))
        }
        (FILTER, 1..=MODEL_VERSION) => {
            let id = name.strip_prefix("filter:").ok_or(InvalidItem::OtherName)?;
            Ok(CachedItem::Filter(id.to_owned(), Filter::read(data)?))
        }
        _ => Err(InvalidItem::Unknown),
    }
}

fn environment_name(id: &str) -> String {
    format!("env:{id}")
}

fn filter_name(id: &str) -> String {
    format!("filter:{id}")
}

fn environment(entry: &PersistedListEntry) -> Value {
    let anchor = |keys: &[KeptKey]| keys.first().map(|it| it.value.clone()).unwrap_or_default();
    let mut sdk_key = json!({"value": anchor(&entry.sdk_keys)});
    let mut all = json!({
        "envID": entry.id,
        "envKey": entry.env_key,
        "envName": entry.env_name,
        "mobKey": anchor(&entry.mobile_keys),
        "projKey": entry.proj_key,
        "projName": entry.proj_name,
        "defaultTtl": entry.ttl_seconds.unwrap_or(0) / 60,
        "secureMode": entry.secure_mode,
        "version": entry.version,
    });
    if entry.is_listed {
        let list = |keys: &[KeptKey]| keys.iter().map(listed_key).collect::<Vec<_>>();
        all["sdkKeys"] = list(&entry.sdk_keys).into();
        all["mobileKeys"] = list(&entry.mobile_keys).into();
    } else if let Some((old, at)) = entry.sdk_keys.iter().skip(1).find_map(|it| Some((it, it.expires_ms?))) {
        sdk_key["expiring"] = json!({"value": old.value, "timestamp": at});
    }
    all["sdkKey"] = sdk_key;
    all
}

fn listed_key(key: &KeptKey) -> Value {
    let mut all = Map::new();
    all.insert("value".to_owned(), key.value.clone().into());
    all.extend(key.name.clone().map(|it| ("key".to_owned(), it.into())));
    all.extend(key.expires_ms.map(|it| ("expiry".to_owned(), it.into())));
    all.into()
}

fn filter(filter: &PersistedFilter) -> Value {
    json!({"projKey": filter.project, "key": filter.key, "version": filter.version})
}

#[cfg(test)]
mod tests;
