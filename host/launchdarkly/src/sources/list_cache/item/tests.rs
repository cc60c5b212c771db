use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::config::{CommonConfig, EnvironmentConfig};
use crate::sources::auto_config_state::{AutoConfigMessage, AutoConfigState};

const COMMON: CommonConfig =
    CommonConfig { allowed_origins: Vec::new(), allowed_headers: Vec::new(), prefix: None, table_name: None };
const NOW_MS: u64 = 1_700_000_000_000;

/// Returns the list after this message of LaunchDarkly.
fn list(environments: &Value, filters: &Value) -> AutoConfigState {
    let message = json!({"path": "/", "data": {"environments": environments, "filters": filters}}).to_string();
    let mut state = AutoConfigState::new(COMMON);
    state.apply(AutoConfigMessage::read("put", &message).unwrap(), NOW_MS);
    state
}

fn restored(items: &BTreeMap<String, Vec<u8>>) -> AutoConfigState {
    let mut state = AutoConfigState::new(COMMON);
    let items = items.iter().map(|(name, plain)| read(name, plain).unwrap()).collect();
    state.take_cached(items, NOW_MS);
    state
}

fn configs(state: &AutoConfigState) -> Vec<(EnvironmentConfig, String)> {
    state.variants().into_iter().map(|it| (it.config, it.filter.to_string())).collect()
}

#[test]
fn v042_items_have_the_form_of_the_relay() {
    let described = json!({
        "envID": "id-1", "envKey": "production", "envName": "Production", "projKey": "shop", "projName": "Shop",
        "sdkKey": {"value": "sdk-2", "expiring": {"value": "sdk-1", "timestamp": NOW_MS + 1}},
        "mobKey": "mob-1", "defaultTtl": 5, "secureMode": true, "version": 7,
    });
    let state = list(&json!({"id-1": described}), &json!({"f": {"projKey": "shop", "key": "small", "version": 3}}));
    let items = items(&state.to_persisted());
    let values: BTreeMap<_, Value> =
        items.iter().map(|(name, plain)| (name.as_str(), serde_json::from_slice(plain).unwrap())).collect();
    let item = |kind: &str, data: &Value| json!({"kind": kind, "modelVersion": 2, "data": data});
    assert_eq!(values["env:id-1"], item("environment", &described));
    assert_eq!(values["filter:f"], item("filter", &json!({"projKey": "shop", "key": "small", "version": 3})));
    assert_eq!(values.len(), 2);
    assert_eq!(configs(&restored(&items)), configs(&state));
}

#[test]
fn v042_both_versions_are_read() {
    let data = json!({"envID": "id-1", "sdkKey": {"value": "sdk-1"}, "version": 1});
    for version in [1, 2] {
        let plain = json!({"kind": "environment", "modelVersion": version, "data": data, "more": 1}).to_string();
        let CachedItem::Environment(environment) = read("env:id-1", plain.as_bytes()).unwrap() else { panic!() };
        assert_eq!((environment.id.as_str(), environment.version), ("id-1", 1));
    }
}

#[test]
fn v041_other_content_is_refused() {
    let data = json!({"envID": "id-1", "sdkKey": {"value": "sdk-1"}});
    for (name, plain) in [
        ("env:id-1", json!({"kind": "environment", "modelVersion": 3, "data": data})),
        ("env:id-1", json!({"kind": "environment", "modelVersion": 0, "data": data})),
        ("env:id-1", json!({"kind": "environment", "data": data})),
        ("env:id-1", json!({"kind": "project", "modelVersion": 2, "data": data})),
        ("env:id-2", json!({"kind": "environment", "modelVersion": 2, "data": data})),
        ("id-1", json!({"kind": "environment", "modelVersion": 2, "data": data})),
        ("env:id-1", json!({"kind": "filter", "modelVersion": 2, "data": {"projKey": "p", "key": "k"}})),
        ("env:id-1", json!({"kind": "environment", "modelVersion": 2, "data": []})),
        ("env:id-1", json!({"kind": 1, "modelVersion": 2, "data": data})),
        ("env:id-1", json!([])),
    ] {
        assert!(read(name, plain.to_string().as_bytes()).is_err(), "{name}: {plain}");
    }
    for plain in [&b""[..], b"{", b"\xff"] {
        assert!(read("env:id-1", plain).is_err());
    }
}

prop_compose! {
    fn key()(value in "[a-z0-9-]{1,8}", name in option::of("[a-z]{1,4}"), expiry in option::of(NOW_MS + 1..NOW_MS * 2))
        -> Value
    {
        listed_key(&KeptKey { value, name, expires_ms: expiry })
    }
}

proptest! {
    /// Whatever LaunchDarkly sends, the environment that is read from the cache accepts the same keys for as long.
    #[test]
    fn v042_a_list_is_restored_as_it_was(
        anchor in "[a-z0-9-]{1,8}",
        expiring in option::of(("[a-z0-9-]{1,8}", NOW_MS + 1..NOW_MS * 2)),
        mobile in option::of("[a-z0-9-]{1,8}"),
        lists in option::of((prop::collection::vec(key(), 0..4), prop::collection::vec(key(), 0..4))),
        ttl in 0_u64..100,
        secure in any::<bool>(),
        version in 0_i64..1000,
    ) {
        let mut described = json!({
            "envID": "id", "envKey": "e", "envName": "E", "projKey": "p", "projName": "P",
            "sdkKey": {"value": anchor}, "mobKey": mobile.unwrap_or_default(),
            "defaultTtl": ttl, "secureMode": secure, "version": version,
        });
        if let Some((value, at)) = expiring {
            described["sdkKey"]["expiring"] = json!({"value": value, "timestamp": at});
        }
        if let Some((sdk, mobile)) = lists {
            described["sdkKeys"] = sdk.into();
            described["mobileKeys"] = mobile.into();
        }
        let state = list(&json!({"id": described}), &json!({}));
        prop_assert_eq!(configs(&restored(&items(&state.to_persisted()))), configs(&state), "{}", described);
    }
}
