//! Flags and segments for tests.

use serde_json::{Value, json};

/// Returns a flag that is `true` for all contexts and visible to every kind of SDK.
pub(crate) fn flag(key: &str, version: i64) -> Value {
    json!({
        "key": key, "version": version, "on": true, "variations": [true, false], "fallthrough": {"variation": 0},
        "offVariation": 1, "prerequisites": [], "targets": [], "contextTargets": [], "rules": [], "salt": "s",
        "clientSideAvailability": {"usingMobileKey": true, "usingEnvironmentId": true}, "clientSide": true,
        "trackEvents": false, "trackEventsFallthrough": false, "debugEventsUntilDate": null, "deleted": false,
    })
}

/// Returns such a flag with other properties.
pub(crate) fn flag_with(key: &str, version: i64, properties: Value) -> Value {
    let mut flag = flag(key, version);
    for (name, value) in properties.as_object().expect("an object") {
        flag[name] = value.clone();
    }
    flag
}

/// Returns a segment without members.
pub(crate) fn segment(key: &str, version: i64) -> Value {
    json!({
        "key": key, "version": version, "included": [], "excluded": [], "includedContexts": [],
        "excludedContexts": [], "salt": "z", "rules": [], "generation": null, "deleted": false,
    })
}

/// Returns a data set.
pub(crate) fn data(flags: impl IntoIterator<Item = Value>, segments: impl IntoIterator<Item = Value>) -> Value {
    json!({"flags": by_key(flags), "segments": by_key(segments)})
}

/// Returns one flag `plain` of version 3 and one segment `crew` of version 2.
pub(crate) fn some_data() -> Value {
    data([flag("plain", 3)], [segment("crew", 2)])
}

/// Returns a data set of eight megabytes, more than socket buffers hold.
pub(crate) fn large_data() -> Value {
    let filler = "f".repeat(1 << 20);
    data((0..8).map(|index| flag_with(&format!("large{index}"), 1, json!({"filler": filler}))), [])
}

/// Returns the data of a `put` on `/all` for a data set.
pub(crate) fn put(data: Value) -> Value {
    json!({"path": "/", "data": data})
}

/// Returns items by their keys.
pub(crate) fn by_key(items: impl IntoIterator<Item = Value>) -> Value {
    items.into_iter().map(|item| (item["key"].as_str().expect("a key").to_owned(), item)).collect()
}
