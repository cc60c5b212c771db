//! Which SDKs there are, as far as they say so themselves.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Distinct SDKs that are told apart, over all environments. Callers say what they like, so their number is bounded.
const MAX_SDKS: usize = 500;
/// Longest word of which a label is made, in bytes.
const MAX_WORD: usize = 64;

/// Stands for whatever callers could make up without end.
pub(crate) const OTHER: &str = "other";

/// Type, version and language of an SDK.
pub(crate) type Sdk = [String; 3];

/// SDKs that have labels of their own.
#[derive(Default)]
pub(crate) struct KnownSdks(Mutex<HashSet<(String, Sdk)>>);

#[derive(Deserialize)]
struct Entry<'a> {
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

/// The SDK of an entry of `metricsData`; `None` if it cannot be read.
pub(crate) fn sdk_of(entry: &str) -> Option<Sdk> {
    Some(of(&serde_json::from_str::<Entry<'_>>(entry).ok()?))
}

fn of(entry: &Entry<'_>) -> Sdk {
    ["SDK_TYPE", "SDK_VERSION", "SDK_LANGUAGE"].map(|name| {
        let attribute = entry.attributes.iter().find(|it| it.key == name);
        attribute.and_then(|it| serde_json::from_str(it.value?.get()).ok()).unwrap_or_default()
    })
}

impl KnownSdks {
    /// The labels of an SDK; those that are one too many share theirs.
    pub(crate) fn bounded(&self, environment: &str, sdk: Sdk) -> Sdk {
        let sdk = sdk.map(|word| if word.len() > MAX_WORD { OTHER.to_owned() } else { word });
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn each_entry_says_which_sdk_it_was() {
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
    fn callers_cannot_make_it_grow_without_end() {
        let known = KnownSdks::default();
        let sdk = |version: &str| ["server".to_owned(), version.to_owned(), "go".to_owned()];
        for number in 0..MAX_SDKS {
            assert_eq!(known.bounded("e", sdk(&number.to_string()))[1], number.to_string());
        }
        assert_eq!(known.bounded("e", sdk("one too many")), [OTHER; 3].map(str::to_owned));
        assert_eq!(known.bounded("e", sdk("7"))[1], "7", "who is known stays known");
        assert_eq!(KnownSdks::default().bounded("e", sdk(&"x".repeat(65)))[1], OTHER);
    }
}
