//! The SDKs that metrics come from, as the metrics name them.

use std::borrow::Cow;
use std::collections::HashSet;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Distinct SDKs with labels of their own, over all environments. Callers choose the names, so the number is bounded.
const MAX_SDKS: usize = 500;
/// Longest label, in bytes.
const MAX_LABEL: usize = 64;

/// Label for values that callers choose freely, beyond the bound.
pub(crate) const OTHER: &str = "other";

/// Type, version and language of an SDK.
pub(crate) type Sdk = [String; 3];

/// SDKs that have labels of their own.
#[derive(Default)]
pub(crate) struct KnownSdks(Mutex<HashSet<(String, Sdk)>>);

#[derive(Deserialize)]
struct MetricEntry<'a> {
    #[serde(borrow, default)]
    attributes: Vec<Attribute<'a>>,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

/// Returns the SDK of an entry of `metricsData`; `None` if it cannot be read.
pub(crate) fn sdk_of(entry: &str) -> Option<Sdk> {
    Some(of(&serde_json::from_str::<MetricEntry<'_>>(entry).ok()?))
}

fn of(entry: &MetricEntry<'_>) -> Sdk {
    ["SDK_TYPE", "SDK_VERSION", "SDK_LANGUAGE"].map(|name| {
        let attribute = entry.attributes.iter().find(|it| it.key == name);
        attribute.and_then(|it| serde_json::from_str(it.value?.get()).ok()).unwrap_or_default()
    })
}

impl KnownSdks {
    /// Returns the labels of an SDK. SDKs beyond the bound share theirs.
    pub(crate) fn bounded(&self, environment: &str, sdk: Sdk) -> Sdk {
        let sdk = sdk.map(|label| if label.len() > MAX_LABEL { OTHER.to_owned() } else { label });
        let mut known = self.0.lock();
        let entry = (environment.to_owned(), sdk);
        if known.contains(&entry) {
            return entry.1;
        }
        if known.len() >= MAX_SDKS {
            return [OTHER, OTHER, OTHER].map(str::to_owned);
        }
        known.insert(entry.clone());
        entry.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_names_its_sdk() {
        // F089
        let full = r#"{"attributes":[{"key":"SDK_TYPE","value":"server"},{"key":"SDK_VERSION","value":"1"},{"key":"SDK_LANGUAGE","value":"go"}]}"#;
        let bare =
            r#"{"attributes":[{"key":"SDK_TYPE","value":null},{"key":"target","value":7},{"key":"SDK_LANGUAGE"}]}"#;
        let none = || [String::new(), String::new(), String::new()];
        for (entry, expected) in [
            (full, Some(["server", "1", "go"].map(str::to_owned))),
            (bare, Some(none())),
            ("{}", Some(none())),
            ("7", None),
            (r#"{"attributes":7}"#, None),
        ] {
            assert_eq!(sdk_of(entry), expected, "{entry}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let known = KnownSdks::default();
        let sdk = |version: &str| ["server".to_owned(), version.to_owned(), "go".to_owned()];
        for number in 0..MAX_SDKS {
            assert_eq!(known.bounded("e", sdk(&number.to_string()))[1], number.to_string());
        }
        assert_eq!(known.bounded("e", sdk("one too many")), [OTHER; 3].map(str::to_owned));
        assert_eq!(known.bounded("e", sdk("7"))[1], "7", "known SDKs keep their labels");
        assert_eq!(KnownSdks::default().bounded("e", sdk(&"x".repeat(65)))[1], OTHER);
    }
}
