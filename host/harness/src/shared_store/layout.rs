//! Names of keys and forms of values, as version 2 of the vendor's relay has them. Values are JSON.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use yardarm_core::Secret;
use yardarm_harness_eval::model::{Segment, Target};

use crate::data::items::Items;
use crate::identity::KeyHash;

/// State of the upstream stream of the primary.
pub(crate) const HEALTH: &str = "ffproxy_saas_stream_health";
/// Pattern of the inventories of all proxy keys.
pub(crate) const ALL_INVENTORIES: &str = "key-*-inventory";
/// End of the key of the digest of a list.
const DIGEST: &str = "-latest";

/// Names of the keys of an environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnvironmentKeys<'a>(pub(crate) &'a str);

/// Everything of one environment that is shared.
#[derive(Clone, Default)]
pub(crate) struct SharedEnvironment {
    pub(crate) id: String,
    pub(crate) keys: BTreeSet<KeyHash>,
    pub(crate) items: Items,
}

/// Names of all keys that belong to a proxy key, without those of digests and targets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inventory(pub(crate) BTreeSet<String>);

impl EnvironmentKeys<'_> {
    /// Returns the key of the list of API keys.
    pub(crate) fn api_keys(self) -> String {
        format!("env-{}-api-configs", self.0)
    }

    pub(crate) fn flags(self) -> String {
        format!("env-{}-feature-configs", self.0)
    }

    pub(crate) fn flag(self, identifier: &str) -> String {
        format!("env-{}-feature-config-{identifier}", self.0)
    }

    pub(crate) fn segments(self) -> String {
        format!("env-{}-segments", self.0)
    }

    pub(crate) fn segment(self, identifier: &str) -> String {
        format!("env-{}-segment-{identifier}", self.0)
    }

    pub(crate) fn target(self, identifier: &str) -> String {
        format!("env-{}-target-config-{identifier}", self.0)
    }

    /// Returns the keys of the digests of flags and segments.
    pub(crate) fn digests(self) -> [String; 2] {
        [self.flags(), self.segments()].map(|it| it + DIGEST)
    }
}

/// Returns the key of an API key, whose value is the ID of its environment.
pub(crate) fn key_name(hash: &KeyHash) -> String {
    format!("auth-key-{}", hash.as_str())
}

/// Returns the hash in the name of such a key.
pub(crate) fn hash_of(name: &str) -> Option<KeyHash> {
    KeyHash::listed(name.strip_prefix("auth-key-")?)
}

/// Returns the key of the inventory of a proxy key.
pub(crate) fn inventory_key(proxy_key: &Secret) -> String {
    format!("key-{}-inventory", proxy_key.expose())
}

/// Returns the proxy key in the name of its inventory.
pub(super) fn proxy_key_of(name: &str) -> Option<Secret> {
    let key = name.strip_prefix("key-")?.strip_suffix("-inventory")?;
    Some(Secret::new(key))
}

/// Returns the ID of the environment that a list of API keys, flags or segments belongs to.
pub(crate) fn environment_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("env-")?;
    ["-api-configs", "-feature-configs", "-segments"].into_iter().find_map(|end| rest.strip_suffix(end))
}

/// Returns the value of a target.
pub(super) fn target_text(target: &Target) -> Bytes {
    let mut json = json!({
        "identifier": target.identifier, "name": target.name, "account": "", "org": "", "environment": "", "project": "",
        "attributes": target.attributes,
    });
    if let Some(anonymous) = target.anonymous {
        json["anonymous"] = anonymous.into();
    }
    json.to_string().into()
}

impl Inventory {
    /// Reads the value; `None` if it is no object.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let assets: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(json).ok()?;
        Some(Self(assets.into_keys().collect()))
    }

    /// Returns the value.
    pub(crate) fn text(&self) -> Bytes {
        let assets: BTreeMap<&str, &str> = self.0.iter().map(|it| (it.as_str(), "")).collect();
        json!(assets).to_string().into()
    }
}

impl SharedEnvironment {
    /// Returns all keys with their values.
    pub(crate) fn texts(&self) -> BTreeMap<String, Bytes> {
        let names = EnvironmentKeys(&self.id);
        let id = Bytes::from(json!(self.id).to_string());
        let api_keys: Vec<_> = self.keys.iter().map(key_name).collect();
        let mut texts: BTreeMap<_, _> = api_keys.iter().map(|it| (it.clone(), id.clone())).collect();
        texts.insert(names.api_keys(), json!(api_keys).to_string().into());
        let flags: Vec<_> = self.items.flags.iter().map(|it| (names.flag(&it.feature), it.json().clone())).collect();
        let segments = self.items.segments.iter();
        let segments: Vec<_> = segments.map(|it| (names.segment(&it.identifier), segment_text(it))).collect();
        let [flags_digest, segments_digest] = names.digests();
        for (name, digest_name, items) in
            [(names.flags(), flags_digest, &flags), (names.segments(), segments_digest, &segments)]
        {
            let list = list(items.iter().map(|it| &it.1));
            let digest = hex::encode(Sha256::digest(&list));
            texts.extend([(name, list), (digest_name, json!(digest).to_string().into())]);
        }
        texts.extend(flags);
        texts.extend(segments);
        texts
    }
}

/// Returns whether an inventory has this key.
pub(crate) fn is_asset(name: &str) -> bool {
    !name.ends_with("-feature-configs-latest") && !name.ends_with("-segments-latest")
}

/// Returns a segment with both kinds of rules: the vendor's relay sends its SDKs the older ones of the database, so they
/// are derived where there are none.
fn segment_text(segment: &Segment) -> Bytes {
    let parsed = |text: &Bytes| serde_json::from_slice::<Value>(text).unwrap_or_default();
    let mut json = parsed(segment.json());
    let has = |name: &str| json[name].as_array().is_some_and(|it| !it.is_empty());
    if !has("servingRules") || has("rules") {
        return segment.json().clone();
    }
    if let Some(rules) = parsed(segment.with_rules().json()).get_mut("rules") {
        json["rules"] = rules.take();
    }
    json.to_string().into()
}

fn list<'a>(items: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut out = vec![b'['];
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.push(b']');
    out.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use yardarm_harness_eval::model::Flag;

    use super::*;

    #[test]
    fn every_key_and_value_is_that_of_the_vendor() {
        let clause = json!({"attribute": "a", "op": "in", "values": ["x"], "negate": false});
        let segment = json!({"identifier": "s", "name": "S", "servingRules": [{"ruleId": "r", "priority": 1, "clauses": [clause]}]});
        let flag = Flag::read(json!({"feature": "f", "version": 2})).unwrap();
        let environment = SharedEnvironment {
            id: "e".to_owned(),
            keys: [KeyHash::of("k")].into(),
            items: Items {
                flags: [Arc::new(flag)].into_iter().collect(),
                segments: [Arc::new(Segment::read(segment.clone()).unwrap())].into_iter().collect(),
            },
        };
        let texts = environment.texts();
        let value = |name: &str| serde_json::from_slice::<Value>(&texts[name]).unwrap();
        let key = key_name(&KeyHash::of("k"));
        let names = [
            &*key,
            "env-e-api-configs",
            "env-e-feature-config-f",
            "env-e-feature-configs",
            "env-e-feature-configs-latest",
            "env-e-segment-s",
            "env-e-segments",
            "env-e-segments-latest",
        ];
        assert_eq!(texts.keys().collect::<Vec<_>>(), names);
        assert_eq!((value(&key), value("env-e-api-configs")), (json!("e"), json!([key])));
        assert_eq!(value("env-e-feature-configs"), json!([value("env-e-feature-config-f")]));
        let digest = hex::encode(Sha256::digest(&texts["env-e-segments"]));
        assert_eq!(value("env-e-segments-latest"), json!(digest));
        assert_eq!(value("env-e-segment-s")["rules"], json!([clause]), "derived for SDKs that need them");
        assert_eq!(value("env-e-segment-s")["servingRules"], segment["servingRules"]);
        assert_eq!(names.iter().filter(|it| is_asset(it)).count(), 6);
    }

    #[test]
    fn names_are_read_again() {
        let hash = KeyHash::of("k");
        assert_eq!(hash_of(&key_name(&hash)), Some(hash));
        assert_eq!(proxy_key_of(&inventory_key(&Secret::new("p-1"))).unwrap().expose(), "p-1");
        assert_eq!(environment_of(&EnvironmentKeys("a-b").flags()), Some("a-b"));
        assert_eq!(environment_of("env-a-feature-config-x"), None);
        let inventory = Inventory(["a", "b"].map(str::to_owned).into());
        assert_eq!(inventory.text(), r#"{"a":"","b":""}"#);
        assert_eq!(Inventory::read(br#"{"a":"","b":"7"}"#), Some(inventory));
    }
}
