//! Events of upstream streams (F019, F026 to F031, F113, F114). Reading an event never fails, so that no event ends a stream.

use std::time::Duration;

use serde_json::Value;
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::as_version;
use yardarm_vendor::upstream::{LogThrottle, shortened};

use crate::data::items::{ChangeEvent, Domain};
use crate::identity::KeyHash;

/// Limits log lines about unknown events.
pub(crate) static UNKNOWN_EVENTS: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A flag or a segment has changed. The environment is named in streams of several environments.
    Item { environment: Option<String>, event: ChangeEvent },
    /// The environments or API keys that a proxy key leads to have changed.
    Scope(Scope),
    /// Text that is no JSON object, so that its subject is unknown.
    NoJson,
    /// An unknown event, with a description for the log.
    Unknown(String),
}

/// Changes of the environments and API keys that a proxy key leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It leads to these environments in addition.
    Added(Vec<String>),
    /// It does not lead to these environments any more.
    Removed(Vec<String>),
    /// These environments have got an API key.
    KeyAdded(Vec<String>, KeyHash),
    /// These environments have lost an API key.
    KeyRemoved(Vec<String>, KeyHash),
    /// The proxy key was deleted.
    Deleted,
}

impl Message {
    /// Reads the data of an event.
    pub(crate) fn read(data: &str) -> Self {
        let Ok(Value::Object(message)) = lenient_json::from_slice(data.as_bytes()) else {
            return Self::NoJson;
        };
        let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (event, domain, identifier) = (text("event"), text("domain"), text("identifier"));
        let item = match domain.as_str() {
            "flag" => Some(Domain::Flag),
            "target-segment" => Some(Domain::TargetSegment),
            _ => None,
        };
        if let Some(domain) = item.filter(|_| !identifier.is_empty()) {
            let environment = Some(text("environment")).filter(|it| !it.is_empty());
            let version = message.get("version").and_then(as_version).unwrap_or_default();
            return Self::Item { environment, event: ChangeEvent { event, domain, identifier, version } };
        }
        let environments = || {
            let all = message.get("environments").and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let key = || KeyHash::listed(&text("apiKey"));
        let scope = match (domain.as_str(), event.as_str()) {
            ("proxy", "environmentsAdded") => Some(Scope::Added(environments())),
            ("proxy", "environmentsRemoved") => Some(Scope::Removed(environments())),
            ("proxy", "apiKeyAdded") => key().map(|key| Scope::KeyAdded(environments(), key)),
            ("proxy", "apiKeyRemoved") => key().map(|key| Scope::KeyRemoved(environments(), key)),
            ("proxy", "proxyKeyDeleted") => Some(Scope::Deleted),
            _ => None,
        };
        scope.map_or_else(
            || Self::Unknown(format!("event `{}` of domain `{}`", shortened(&event), shortened(&domain))),
            Self::Scope,
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn item(environment: Option<&str>, event: &str, domain: Domain, version: i64) -> Message {
        let event = ChangeEvent { event: event.to_owned(), domain, identifier: "x".to_owned(), version };
        Message::Item { environment: environment.map(str::to_owned), event }
    }

    #[test]
    fn events_are_distinguished() {
        // F026, F027, F113, F114
        let hash = "A".repeat(64);
        let key = KeyHash::listed(&hash).unwrap();
        let ids = || vec!["e1".to_owned(), "e2".to_owned()];
        let proxy =
            |event: &str| json!({"event": event, "domain": "proxy", "environments": ["e1", "e2"], "apiKey": hash});
        for (data, expected) in [
            (
                json!({"event": "patch", "domain": "flag", "identifier": "x", "version": 7}),
                item(None, "patch", Domain::Flag, 7),
            ),
            (
                json!({"event": "delete", "domain": "target-segment", "identifier": "x", "environment": "e", "new": {}}),
                item(Some("e"), "delete", Domain::TargetSegment, 0),
            ),
            (
                json!({"event": null, "domain": "flag", "identifier": "x", "version": "7", "environment": ""}),
                item(None, "", Domain::Flag, 0),
            ),
            (proxy("environmentsAdded"), Message::Scope(Scope::Added(ids()))),
            (proxy("environmentsRemoved"), Message::Scope(Scope::Removed(ids()))),
            (proxy("apiKeyAdded"), Message::Scope(Scope::KeyAdded(ids(), key.clone()))),
            (proxy("apiKeyRemoved"), Message::Scope(Scope::KeyRemoved(ids(), key))),
            (json!({"event": "proxyKeyDeleted", "domain": "proxy"}), Message::Scope(Scope::Deleted)),
            (
                json!({"event": "environmentsAdded", "domain": "proxy", "environments": null}),
                Message::Scope(Scope::Added(Vec::new())),
            ),
        ] {
            assert_eq!(Message::read(&data.to_string()), expected, "{data}");
        }
    }

    #[test]
    fn unknown_events_are_ignored() {
        for data in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            r#"{"event":"patch","domain":"moon","identifier":"x"}"#,
            r#"{"event":"patch","domain":"flag"}"#,
            r#"{"event":"patch","domain":"flag","identifier":7}"#,
            r#"{"event":"apiKeyAdded","domain":"proxy","environments":["e"],"apiKey":"short"}"#,
            r#"{"event":"newThing","domain":"proxy"}"#,
        ] {
            assert!(matches!(Message::read(data), Message::Unknown(_) | Message::NoJson), "{data}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(data in ".*") {
            let _ = Message::read(&data);
        }

        #[test]
        fn events_about_items_are_read(
            event in "create|patch|delete|[a-z]*", identifier in ".+", version in 0..=yardarm_harness_eval::model::MAX_VERSION, environment in ".+",
        ) {
            let data = json!({
                "event": event, "domain": "flag", "identifier": identifier, "version": version, "environment": environment,
            });
            let event = ChangeEvent { event, domain: Domain::Flag, identifier, version };
            prop_assert_eq!(Message::read(&data.to_string()), Message::Item { environment: Some(environment), event });
        }
    }
}
