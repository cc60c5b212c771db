//! Events, flag data and results that are built item by item.

use crate::json::Object;
use crate::{Edit, Evaluation, Event, EventEdit, Events, ItemHead, Items, ResultEdit, Results};

/// Flag data of LaunchDarkly's environment `production`, until changed.
#[derive(Debug, Clone)]
pub struct Payload {
    vendor: String,
    environment: String,
    /// Without a text if deleted.
    changed: Vec<(ItemHead, Option<String>)>,
    others: Vec<(String, String, String)>,
}

/// Evaluated results.
#[derive(Debug, Clone, Default)]
pub struct Evaluated(Vec<Evaluation>);

/// A batch of events.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    events: Vec<Event>,
    schema: Option<u32>,
}

impl Batch {
    /// Creates a batch.
    pub fn of(events: impl IntoIterator<Item = Event>) -> Self {
        Self { events: events.into_iter().collect(), schema: None }
    }

    /// Sets the version of the event format.
    #[must_use]
    pub fn with_schema(mut self, version: u32) -> Self {
        self.schema = Some(version);
        self
    }

    /// Returns the texts of the events as they would be forwarded.
    #[must_use]
    pub fn edited(&self, edits: &[EventEdit]) -> Vec<String> {
        let text = |body: &Vec<u8>| String::from_utf8_lossy(body).into_owned();
        let mut forwarded = Vec::new();
        for (event, at) in self.events.iter().zip(0..) {
            let edit = edits.iter().find(|edit| match edit {
                EventEdit::Drop(index) | EventEdit::Replace { index, .. } => *index == at,
                EventEdit::Add(_) => false,
            });
            match edit {
                None => forwarded.extend(event.body.clone()),
                Some(EventEdit::Replace { bodies, .. }) => forwarded.extend(bodies.iter().map(text)),
                Some(_) => (),
            }
        }
        forwarded.extend(edits.iter().filter_map(|edit| match edit {
            EventEdit::Add(body) => Some(text(body)),
            _ => None,
        }));
        forwarded
    }
}

impl Events for Batch {
    fn len(&self) -> u32 {
        u32::try_from(self.events.len()).unwrap_or(u32::MAX)
    }

    fn all(&self) -> Vec<Event> {
        self.events.clone()
    }

    fn get(&self, index: u32) -> Option<Event> {
        self.events.get(index as usize).cloned()
    }

    fn kinds(&self) -> Vec<Option<String>> {
        self.events.iter().map(|event| event.kind.clone()).collect()
    }

    fn schema(&self) -> Option<u32> {
        self.schema
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            vendor: "launchdarkly".to_owned(),
            environment: "production".to_owned(),
            changed: Vec::new(),
            others: Vec::new(),
        }
    }
}

impl Payload {
    /// Sets the vendor and the name of the environment.
    #[must_use]
    pub fn of(mut self, vendor: &str, environment: &str) -> Self {
        vendor.clone_into(&mut self.vendor);
        environment.clone_into(&mut self.environment);
        self
    }

    /// Adds an item that was deleted.
    #[must_use]
    pub fn with_deleted(mut self, kind: &str, key: &str, version: u64) -> Self {
        self.changed.push((head(kind, key, version, true), None));
        self
    }

    /// Adds an item that changed; its version is read from the JSON text, 0 if it has none.
    #[must_use]
    pub fn with_changed(mut self, kind: &str, key: &str, json: &str) -> Self {
        let object = Object::parse(json).unwrap_or_default();
        let version = object.get("version").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.changed.push((head(kind, key, version, false), Some(json.to_owned())));
        self
    }

    /// Adds an item that did not change.
    #[must_use]
    pub fn with_unchanged(mut self, kind: &str, key: &str, json: &str) -> Self {
        self.others.push((kind.to_owned(), key.to_owned(), json.to_owned()));
        self
    }

    /// Returns the changed and added items as SDKs would receive them: kind, key and JSON text.
    #[must_use]
    pub fn edited(&self, edits: &[Edit]) -> Vec<(String, String, String)> {
        let changed = self.changed.iter().zip(0..);
        let kept =
            changed.filter_map(|((head, json), at)| Some((head, json.as_ref()?, at))).filter_map(|(head, json, at)| {
                let edit = edits.iter().find(|edit| match edit {
                    Edit::Drop(index) | Edit::Replace { index, .. } => *index == at,
                    Edit::Add { .. } => false,
                });
                let json = match edit {
                    None => json.clone(),
                    Some(Edit::Replace { body, .. }) => String::from_utf8_lossy(body).into_owned(),
                    Some(_) => return None,
                };
                Some((head.kind.clone(), head.key.clone(), json))
            });
        let added = edits.iter().filter_map(|edit| match edit {
            Edit::Add { kind, key, body, .. } => {
                Some((kind.clone(), key.clone(), String::from_utf8_lossy(body).into_owned()))
            }
            _ => None,
        });
        kept.chain(added).collect()
    }
}

impl Evaluated {
    /// Adds a result, with its value as JSON text.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        let (flag, value) = (flag.to_owned(), value.to_owned());
        self.0.push(Evaluation { flag, value, variation: Some(0), reason: None });
        self
    }

    /// Returns the results as the SDK would receive them: flag and JSON text of the value.
    #[must_use]
    pub fn edited(&self, edits: &[ResultEdit]) -> Vec<(String, String)> {
        let sent = self.0.iter().zip(0..).filter_map(|(result, at)| {
            let edit = edits.iter().find(|edit| match edit {
                ResultEdit::Drop(index) | ResultEdit::Replace { index, .. } => *index == at,
                ResultEdit::Add { .. } => false,
            });
            let value = match edit {
                Some(ResultEdit::Replace { value: Some(value), .. }) => String::from_utf8_lossy(value).into_owned(),
                Some(ResultEdit::Drop(_)) => return None,
                _ => result.value.clone(),
            };
            Some((result.flag.clone(), value))
        });
        let added = edits.iter().filter_map(|edit| match edit {
            ResultEdit::Add { flag, value, .. } => Some((flag.clone(), String::from_utf8_lossy(value).into_owned())),
            _ => None,
        });
        sent.chain(added).collect()
    }
}

fn head(kind: &str, key: &str, version: u64, is_deleted: bool) -> ItemHead {
    ItemHead { kind: kind.to_owned(), key: key.to_owned(), version, is_deleted }
}

impl Items for Payload {
    fn vendor(&self) -> String {
        self.vendor.clone()
    }

    fn environment(&self) -> String {
        self.environment.clone()
    }

    fn list(&self, kind: &str) -> Vec<String> {
        let changed = self.changed.iter().filter(|(_, json)| json.is_some()).map(|(head, _)| (&head.kind, &head.key));
        let all = changed.chain(self.others.iter().map(|(kind, key, _)| (kind, key)));
        let mut keys: Vec<_> = all.filter(|it| it.0 == kind).map(|it| it.1.clone()).collect();
        keys.sort();
        keys
    }

    fn changed(&self) -> Vec<ItemHead> {
        self.changed.iter().map(|(head, _)| head.clone()).collect()
    }

    fn get(&self, index: u32) -> Option<String> {
        self.changed.get(index as usize)?.1.clone()
    }

    fn find(&self, kind: &str, key: &str) -> Option<u32> {
        let found = self.changed.iter().position(|(head, _)| head.kind == kind && head.key == key);
        found.and_then(|index| u32::try_from(index).ok())
    }

    fn other(&self, kind: &str, key: &str) -> Option<String> {
        let changed = self.find(kind, key).and_then(|index| self.get(index));
        let others = || self.others.iter().find(|it| it.0 == kind && it.1 == key).map(|it| it.2.clone());
        changed.or_else(others)
    }
}

impl Results for Evaluated {
    fn flags(&self) -> Vec<String> {
        self.0.iter().map(|result| result.flag.clone()).collect()
    }

    fn get(&self, index: u32) -> Option<Evaluation> {
        self.0.get(index as usize).cloned()
    }

    fn find(&self, flag: &str) -> Option<u32> {
        let found = self.0.iter().position(|result| result.flag == flag);
        found.and_then(|index| u32::try_from(index).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_applied() {
        let items = Payload::default()
            .with_changed("flag", "a", "{}")
            .with_changed("flag", "b", "{}")
            .with_unchanged("flag", "c", "{}");
        let edits = [Edit::drop(0), Edit::replace(1, "{\"on\":true}"), Edit::add("flag", "d", "{}")];
        let text = |kind: &str, key: &str, json: &str| (kind.to_owned(), key.to_owned(), json.to_owned());
        assert_eq!(items.edited(&edits), [text("flag", "b", "{\"on\":true}"), text("flag", "d", "{}")]);
        assert_eq!(items.other("flag", "c").as_deref(), Some("{}"));
        assert_eq!(items.find("segment", "a"), None);
        assert_eq!(items.list("flag"), ["a", "b", "c"]);
        let deleted = items.with_deleted("flag", "x", 9);
        assert_eq!((deleted.get(2), deleted.changed()[2].is_deleted), (None, true));
        assert_eq!(deleted.list("flag").len(), 3);

        let results = Evaluated::default().flag("a", "1").flag("b", "2");
        let edits = [ResultEdit::drop(0), ResultEdit::replace(1, "3"), ResultEdit::add("c", "4")];
        let sent = [("b", "3"), ("c", "4")].map(|(flag, value)| (flag.to_owned(), value.to_owned()));
        assert_eq!(results.edited(&edits), sent);
        assert_eq!(results.find("b"), Some(1));
    }

    #[test]
    fn edits_of_events_are_applied() {
        let events = Batch::of(["1", "2", "3"].map(|body| Event::new("custom", body))).with_schema(4);
        let edits = [
            EventEdit::Drop(0),
            EventEdit::Replace { index: 2, bodies: vec![b"a".to_vec(), b"b".to_vec()] },
            EventEdit::Add(b"c".to_vec()),
        ];
        assert_eq!(events.edited(&edits), ["2", "a", "b", "c"]);
        assert_eq!((events.len(), events.schema(), events.get(3)), (3, Some(4), None));
    }
}
