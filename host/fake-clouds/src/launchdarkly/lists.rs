//! The auto-configuration service: lists of environments, sent on a separate stream.

use serde_json::{Value, json};

use super::{FakeLaunchDarkly, event};

impl FakeLaunchDarkly {
    /// Replaces the list of an auto-configuration key, and sends it on open streams. `list` has `environments` and
    /// optionally `filters`.
    pub fn lists(&self, auto_key: &str, list: &Value) {
        self.add_environment(auto_key);
        self.with(auto_key, |stream| {
            stream.list = Some(list.clone());
            stream.has_data = true;
            stream.send(stream.put());
        });
    }

    /// Sends one entry, such as `/environments/ID`, on open streams of an auto-configuration key.
    pub fn lists_one(&self, auto_key: &str, path: &str, entry: &Value) {
        self.sends_event(auto_key, "patch", &json!({"path": path, "data": entry}));
        self.remember(auto_key, path, Some(entry));
    }

    /// Notifies open streams of an auto-configuration key that an entry was deleted.
    pub fn delists(&self, auto_key: &str, path: &str, version: i64) {
        self.sends_event(auto_key, "delete", &json!({"path": path, "version": version}));
        self.remember(auto_key, path, None);
    }

    /// Sends one event on open streams.
    pub fn sends_event(&self, key: &str, name: &str, data: &Value) {
        self.with(key, |stream| stream.send(event(name, data)));
    }

    /// Updates the list for clients that connect later.
    fn remember(&self, auto_key: &str, path: &str, entry: Option<&Value>) {
        let (section, id) = path.trim_start_matches('/').split_once('/').expect("a path of two");
        self.with(auto_key, |stream| {
            let Some(all) = stream.list.as_mut().and_then(Value::as_object_mut) else { return };
            let section = all.entry(section).or_insert_with(|| json!({}));
            if let Some(section) = section.as_object_mut() {
                match entry {
                    Some(entry) => section.insert(id.to_owned(), entry.clone()),
                    None => section.remove(id),
                };
            }
        });
    }
}
