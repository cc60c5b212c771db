//! The stream handling of client-side SDKs: how they apply `put`, `patch` and `delete`.

use std::sync::Arc;

use serde_json::{Map, Value};
use yardarm_core::change_log::{Cursor, UpdateSource, Version};

/// How a release decides whether an update is newer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rules {
    /// js-client-sdk-common of launchdarkly-js-client-sdk 3 and the Node client: updates without a version always count as newer.
    Legacy,
    /// @launchdarkly/js-client-sdk 4.
    Current,
}

/// A client with an open stream.
pub(super) struct Client {
    rules: Rules,
    source: Arc<dyn UpdateSource>,
    cursor: Cursor,
    /// What wakes the stream.
    _versions: tokio::sync::watch::Receiver<Version>,
    /// Results and tombstones, by key.
    items: Map<String, Value>,
    /// Names of the events since the last call of [`Client::received`].
    received: Vec<String>,
}

impl Client {
    pub(super) fn new(rules: Rules, source: Arc<dyn UpdateSource>) -> Self {
        let (cursor, versions) = (Cursor::new(0, Version::default()), source.versions());
        Self { rules, source, cursor, _versions: versions, items: Map::new(), received: Vec::new() }
    }

    /// Reads all pending events.
    pub(super) fn reads(&mut self) {
        while let Some(frame) = self.source.next(&mut self.cursor) {
            let text = String::from_utf8(frame.payload().to_vec()).expect("UTF-8");
            if text == ":\n" {
                self.received.push("heartbeat".to_owned());
                continue;
            }
            let events = text.strip_suffix("\n\n").expect("a whole event");
            for event in events.split("\n\n") {
                let (name, data) = event.split_once('\n').expect("two lines");
                let name = name.strip_prefix("event: ").expect("a name");
                let data = data.strip_prefix("data: ").expect("data");
                assert!(!data.contains(['\n', '\r']), "{data}");
                self.takes(name, serde_json::from_str(data).expect(data));
                self.received.push(name.to_owned());
            }
        }
    }

    /// Takes the names of the events since the last call.
    pub(super) fn received(&mut self) -> Vec<String> {
        self.reads();
        std::mem::take(&mut self.received)
    }

    /// Results as the application sees them.
    pub(super) fn results(&self) -> Value {
        let live = self.items.iter().filter(|(_, it)| it.get("deleted").is_none());
        live.map(|(key, item)| (key.clone(), item.clone())).collect()
    }

    fn takes(&mut self, name: &str, data: Value) {
        let Value::Object(mut data) = data else { panic!("{data}") };
        if name == "put" {
            self.items = data;
            return;
        }
        let Some(Value::String(key)) = data.remove("key") else { panic!("no key in {data:?}") };
        let version = data["version"].as_i64().expect("a version");
        let known = self.items.get(&key).map(|it| it["version"].as_i64().expect("a version"));
        let is_newer = match self.rules {
            Rules::Legacy => known.is_none_or(|known| known == 0 || version == 0 || version > known),
            Rules::Current => known.is_none_or(|known| version > known),
        };
        if name == "delete" {
            assert_eq!(data.len(), 1, "{data:?}");
            data.insert("deleted".to_owned(), Value::Bool(true));
        } else {
            assert_eq!(name, "patch");
        }
        if is_newer {
            self.items.insert(key, Value::Object(data));
        }
    }
}
