//! What an event of an upstream stream says (sections 3.7 and 6.3). Whatever comes, reading it never fails in a way that
//! would end the stream.

use std::time::Duration;

use serde_json::Value;
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::as_version;
use yardarm_vendor::upstream::{LogThrottle, shortened};

use crate::data::items::{ChangeEvent, Domain};
use crate::identity::KeyHash;

/// Log lines about events that are not understood.
pub(crate) static UNKNOWN: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A flag or a segment has changed. The environment stands in it where a stream is about many.
    Item { environment: Option<String>, event: ChangeEvent },
    /// What a proxy key leads to has changed.
    Scope(Scope),
    /// Text that is no JSON object, so that its subject is unknown.
    NoJson,
    /// Nothing that we know.
    Unknown(String),
}

/// Changes of what a proxy key leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It leads to these environments too.
    Added(Vec<String>),
    /// It leads to these no longer.
    Removed(Vec<String>),
    /// These environments have one more API key.
    KeyAdded(Vec<String>, KeyHash),
    /// These environments have one API key less.
    KeyRemoved(Vec<String>, KeyHash),
    /// There is no such proxy key any more.
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
    fn events_are_told_apart() {
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
    fn what_nobody_understands_harms_nobody() {
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
        fn no_text_is_too_strange(data in ".*") {
            let _ = Message::read(&data);
        }

        #[test]
        fn items_come_through(
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
