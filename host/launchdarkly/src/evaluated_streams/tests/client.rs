//! Client-side SDKs as far as streams go: what they do with `put`, `patch` and `delete`.

use std::sync::Arc;

use serde_json::{Map, Value};
use yardarm_core::change_log::{Cursor, UpdateSource, Version};

/// How a release decides whether an update is news.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rules {
    /// js-client-sdk-common of launchdarkly-js-client-sdk 3 and the Node client: what has no version is always news.
    Legacy,
    /// @launchdarkly/js-client-sdk 4.
    Current,
}

/// A client that listens.
pub(super) struct Client {
    rules: Rules,
    source: Arc<dyn UpdateSource>,
    cursor: Cursor,
    /// Results and what is left of deleted ones, by key.
    items: Map<String, Value>,
    /// Names of the events that came since somebody looked.
    heard: Vec<String>,
}

impl Client {
    pub(super) fn new(rules: Rules, source: Arc<dyn UpdateSource>) -> Self {
        Self { rules, source, cursor: Cursor::new(0, Version::default()), items: Map::new(), heard: Vec::new() }
    }

    /// Reads everything there is.
    pub(super) fn reads(&mut self) {
        while let Some(frame) = self.source.next(&mut self.cursor) {
            let text = String::from_utf8(frame.payload().to_vec()).expect("UTF-8");
            if text == ":\n" {
                self.heard.push("heartbeat".to_owned());
                continue;
            }
            let events = text.strip_suffix("\n\n").expect("a whole event");
            for event in events.split("\n\n") {
                let (name, data) = event.split_once('\n').expect("two lines");
                let name = name.strip_prefix("event: ").expect("a name");
                let data = data.strip_prefix("data: ").expect("data");
                assert!(!data.contains(['\n', '\r']), "{data}");
                self.takes(name, serde_json::from_str(data).expect(data));
                self.heard.push(name.to_owned());
            }
        }
    }

    /// What it has heard since it was asked last: names of events.
    pub(super) fn heard(&mut self) -> Vec<String> {
        self.reads();
        std::mem::take(&mut self.heard)
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
        let is_news = match self.rules {
            Rules::Legacy => known.is_none_or(|known| known == 0 || version == 0 || version > known),
            Rules::Current => known.is_none_or(|known| version > known),
        };
        if name == "delete" {
            assert_eq!(data.len(), 1, "{data:?}");
            data.insert("deleted".to_owned(), Value::Bool(true));
        } else {
            assert_eq!(name, "patch");
        }
        if is_news {
            self.items.insert(key, Value::Object(data));
        }
    }
}
