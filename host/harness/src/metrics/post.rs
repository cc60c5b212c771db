//! A post of an SDK, read entry by entry. Entries that cannot be read, and those beyond a limit, are counted and left out.

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use yardarm_core::hooks::Event;
use yardarm_harness_eval::lenient_json;

use super::sdks::{Sdk, sdk_of};
use super::sums::{is_target, timestamp};

/// Entries of one post that are read. SDKs send a few hundred.
const MAX_ENTRIES: usize = 50_000;

/// Kinds of entries, as event plugins see them.
const METRIC: &str = "metric";
const TARGET: &str = "target";

/// The entries of a post.
#[derive(Default)]
pub(crate) struct Post {
    /// One event per entry, so that plugins see each under its kind.
    pub(super) events: Vec<Event>,
    /// The SDK of each metric.
    pub(crate) sdks: Vec<Sdk>,
    /// Entries that are no objects.
    pub(super) malformed: usize,
    /// Entries beyond the limit.
    pub(super) excess: usize,
}

impl Post {
    /// Reads a post. Invalid Unicode is replaced.
    ///
    /// # Errors
    /// When it is no JSON object, or its lists are no arrays.
    pub(crate) fn read(body: &Bytes) -> Result<Self, serde_json::Error> {
        let body = match lenient_json::text(body) {
            std::borrow::Cow::Borrowed(_) => body.clone(),
            std::borrow::Cow::Owned(text) => Bytes::from(text),
        };
        let mut post = Self::default();
        let mut json = serde_json::Deserializer::from_slice(&body);
        Lists { body: &body, post: &mut post }.deserialize(&mut json)?;
        json.end()?;
        Ok(post)
    }

    /// Returns the number of entries that the SDK sent.
    pub(super) fn received(&self) -> usize {
        self.events.len() + self.malformed + self.excess
    }

    fn add(&mut self, kind: &'static str, body: &Bytes, raw: &RawValue) {
        let text = raw.get();
        if self.events.len() >= MAX_ENTRIES {
            self.excess += 1;
        } else if text.starts_with('{') {
            let is_metric = kind == METRIC;
            if is_metric {
                self.sdks.extend(sdk_of(text));
            }
            let at_ms = if is_metric { timestamp(text) } else { None };
            self.events.push(Event { kind: Some(kind.into()), at_ms, body: body.slice_ref(text.as_bytes()) });
        } else {
            // An event filter would fail on an entry that is no object.
            self.malformed += 1;
        }
    }
}

/// Returns the event with this text, which a plugin has written.
pub(super) fn written_entry(body: Bytes) -> Event {
    let kind = if is_target(&body) { TARGET } else { METRIC };
    let at_ms = std::str::from_utf8(&body).ok().filter(|_| kind == METRIC).and_then(timestamp);
    Event { kind: Some(kind.into()), at_ms, body }
}

/// The object with its two lists.
struct Lists<'b, 'p> {
    body: &'b Bytes,
    post: &'p mut Post,
}

/// One of the lists.
struct EntryList<'b, 'p> {
    kind: &'static str,
    body: &'b Bytes,
    post: &'p mut Post,
}

impl<'de> DeserializeSeed<'de> for Lists<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Lists<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of metrics")
    }

    /// `null` is an empty post.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let kind = match &*name {
                "metricsData" => METRIC,
                "targetData" => TARGET,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(EntryList { kind, body: self.body, post: self.post })?;
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for EntryList<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for EntryList<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(raw) = entries.next_element::<&RawValue>()? {
            self.post.add(self.kind, self.body, raw);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(body: &[u8]) -> Option<(usize, usize, usize)> {
        let post = Post::read(&Bytes::copy_from_slice(body)).ok()?;
        Some((post.events.len(), post.malformed, post.excess))
    }

    #[test]
    fn a_bad_entry_is_left_out_and_counted() {
        let many = format!(r#"{{"targetData":[{}7],"metricsData":[{{}}]}}"#, "{},".repeat(MAX_ENTRIES + 4));
        for (body, expected) in [
            (
                &br#"{"metricsData":[{"a":1},7,{"b":"\ud83d"},null,[]],"targetData":[{"c":2}],"x":[1]}"#[..],
                Some((3, 3, 0)),
            ),
            (b"{\"targetData\":[{\"a\":\"\xff\"},{\"b\":\"\x01\"}]}", Some((2, 0, 0))),
            (br#"{"metricsData":null}"#, Some((0, 0, 0))),
            (b"{}", Some((0, 0, 0))),
            (b"null", Some((0, 0, 0))),
            (many.as_bytes(), Some((MAX_ENTRIES, 0, 6))),
            (b"{", None),
            (b"[]", None),
            (b"{} x", None),
            (br#"{"metricsData":7}"#, None),
            (br#"{"metricsData":[{]}"#, None),
        ] {
            assert_eq!(counts(body), expected, "{:.60}", String::from_utf8_lossy(body));
        }
        let body = Bytes::from_static(b"{\"targetData\":[{\"a\":\"\xff\"}]}");
        assert_eq!(Post::read(&body).unwrap().events[0].body, "{\"a\":\"\u{fffd}\"}");
    }
}
