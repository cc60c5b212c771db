//! Messages on the streams of the database, as version 2 of the vendor's relay sends them.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use yardarm_store::StreamEntry;

use super::SharedStore;
use crate::data::items::{ChangeEvent, Domain};
use crate::identity::KeyHash;

/// The stream of changes of flags, segments, keys and environments, from the primary to replicas.
pub(crate) const ITEM_EVENTS: &str = "proxy:sse_events";
/// The stream of states of the upstream stream, from the primary to replicas.
pub(crate) const CONTROL_EVENTS: &str = "proxy:primary_to_replica_control_events";
/// The stream of metrics, from replicas to the primary.
pub(crate) const METRICS: &str = "stream:sdk_metrics";

/// Entries that each stream of events keeps.
const EVENTS_LENGTH: usize = 1000;
/// Name of the only field of an entry.
const FIELD: &str = "event";

/// An event. The properties are in the order of the vendor's relay.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SharedEvent<'a> {
    event: &'a str,
    domain: &'a str,
    identifier: &'a str,
    version: i64,
    environment: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    environments: Option<[&'a str; 1]>,
    #[serde(rename = "apiKey")]
    api_key: &'a str,
}

/// States of the upstream stream, by the names in events and in the record of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlState {
    Initializing,
    Connected,
    Disconnected,
}

impl<'a> SharedEvent<'a> {
    /// Returns the event of a change of a flag or a segment.
    pub(crate) fn item(environment: &'a str, change: &'a ChangeEvent) -> Self {
        let domain = match change.domain {
            Domain::Flag => "flag",
            Domain::TargetSegment => "target-segment",
        };
        let ChangeEvent { event, identifier, version, .. } = change;
        Self { event, domain, identifier, version: *version, environment, ..Self::default() }
    }

    /// Returns the event of an API key that is no longer accepted.
    pub(crate) fn key_removed(environment: &'a str, key: &'a KeyHash) -> Self {
        let environments = Some([environment]);
        Self { event: "apiKeyRemoved", domain: "proxy", environments, api_key: key.as_str(), ..Self::default() }
    }

    /// Returns the event of an environment that is no longer served.
    pub(crate) fn environment_removed(environment: &'a str) -> Self {
        Self { event: "environmentsRemoved", domain: "proxy", environments: Some([environment]), ..Self::default() }
    }

    /// Returns the event with the state of the upstream stream, for replicas.
    pub(crate) fn control(state: ControlState) -> Self {
        Self { event: "stream_action", domain: state.as_str(), ..Self::default() }
    }

    fn text(&self) -> Bytes {
        serde_json::to_vec(self).expect("text and numbers are always JSON").into()
    }
}

/// Returns the entry of an event.
pub(crate) fn entry(stream: &'static str, event: &SharedEvent<'_>) -> StreamEntry {
    StreamEntry { stream, field: FIELD, text: event.text(), max_length: EVENTS_LENGTH }
}

/// Returns the entry of a post of metrics, which is a JSON object.
pub(crate) fn metrics_entry(store: &SharedStore, environment: &str, post: &[u8]) -> StreamEntry {
    let mut text = format!("{{\"environment_id\":{}", json!(environment)).into_bytes();
    let rest = post.strip_prefix(b"{").unwrap_or(b"}");
    if rest != b"}" {
        text.push(b',');
    }
    text.extend_from_slice(rest);
    StreamEntry { stream: METRICS, field: FIELD, text: text.into(), max_length: store.metrics_length() }
}

impl ControlState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Connected => "CONNECTED",
            Self::Disconnected => "DISCONNECTED",
        }
    }

    fn read(name: &str) -> Option<Self> {
        [Self::Initializing, Self::Connected, Self::Disconnected].into_iter().find(|it| it.as_str() == name)
    }

    /// Reads the event of a state; `None` if it is another event.
    pub(crate) fn of_event(json: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(json).ok()?;
        Self::read(event["domain"].as_str().filter(|_| event["event"] == "stream_action")?)
    }

    /// Reads the record of the state.
    pub(crate) fn of_record(json: &[u8]) -> Option<Self> {
        let record: Value = serde_json::from_slice(json).ok()?;
        Self::read(record["state"].as_str()?)
    }

    /// Returns the record of the state, which began at this time in Unix milliseconds.
    pub(crate) fn record(self, since: u64) -> Bytes {
        format!("{{\"state\":\"{}\",\"since\":{since}}}", self.as_str()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_properties_of_the_vendor_in_its_order() {
        let change = ChangeEvent { event: "patch".into(), domain: Domain::Flag, identifier: "f".into(), version: 7 };
        let key = KeyHash::of("k");
        let end = r#""apiKey":""}"#;
        for (event, expected) in [
            (
                SharedEvent::item("e", &change),
                format!(r#"{{"event":"patch","domain":"flag","identifier":"f","version":7,"environment":"e",{end}"#),
            ),
            (
                SharedEvent::environment_removed("e"),
                format!(
                    r#"{{"event":"environmentsRemoved","domain":"proxy","identifier":"","version":0,"environment":"","environments":["e"],{end}"#
                ),
            ),
            (
                SharedEvent::key_removed("e", &key),
                format!(
                    r#"{{"event":"apiKeyRemoved","domain":"proxy","identifier":"","version":0,"environment":"","environments":["e"],"apiKey":"{}"}}"#,
                    key.as_str()
                ),
            ),
        ] {
            assert_eq!(event.text(), expected);
        }
        for state in [ControlState::Initializing, ControlState::Connected, ControlState::Disconnected] {
            assert_eq!(ControlState::of_event(&SharedEvent::control(state).text()), Some(state));
            assert_eq!(ControlState::of_record(&state.record(5)), Some(state));
        }
        assert_eq!(ControlState::Connected.record(5), r#"{"state":"CONNECTED","since":5}"#);
        assert_eq!(ControlState::of_event(br#"{"event":"patch","domain":"CONNECTED"}"#), None);
    }
}
