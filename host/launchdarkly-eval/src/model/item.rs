//! What flags and segments have in common: a key, a version, and the JSON as it was sent.
//!
//! The properties that evaluation needs are checked when an item arrives and are not kept: an item is its JSON and a few
//! facts. They are parsed again when the item is compiled, which most environments of a gateway never need.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Malformed;
use super::json::JsonReader;
use super::rule::{properties, text, version};

/// One flag or segment at one version, or the tombstone of a deleted one.
pub struct Item<B: Body> {
    key: Arc<str>,
    json: Bytes,
    head: Head,
    facts: B::Facts,
}

/// Properties that every item has.
#[derive(Debug, Clone, Default)]
struct Head {
    /// The property `key`; `None` if it is the key that the item was sent under. Behind a thin pointer, because nearly no
    /// item has one and there are many items.
    name: Option<Box<Box<str>>>,
    version: i64,
    /// Whether the version that was sent is invalid: a fraction, or a number that is negative or too large.
    has_odd_version: bool,
    deleted: bool,
}

/// What is known of an item besides its JSON and its version. With these, there is the item again without parsing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFacts<F> {
    name: Option<Box<str>>,
    facts: F,
}

/// The properties of one kind of item that evaluation needs, with defaults filled in.
pub trait Body: Default {
    /// Name of the type in `Debug` output.
    const TYPE: &'static str;

    /// The properties that are needed without compilation.
    type Facts: Default + Send + Sync;

    /// Returns the properties that are needed without compilation.
    fn facts(&self) -> Self::Facts;

    /// Reads the property `name`, or skips it.
    ///
    /// # Errors
    ///
    /// When a known property has another JSON type than it must have.
    fn read(&mut self, name: &str, reader: &mut JsonReader<'_>) -> Result<(), Malformed>;
}

impl<B: Body> Item<B> {
    /// Reads the item that was sent under `key`.
    ///
    /// Absent properties have their defaults, `null` is the same as absent, unknown properties are left alone.
    ///
    /// # Errors
    ///
    /// When a known property has another JSON type than it must have.
    pub fn parse(key: &str, json: &RawValue) -> Result<Self, Malformed> {
        Self::parse_owned(key.into(), json)
    }

    /// Reads an item as [`Item::parse`] does, with a key that is shared already.
    ///
    /// # Errors
    ///
    /// When a known property has another JSON type than it must have.
    pub fn parse_owned(key: Arc<str>, json: &RawValue) -> Result<Self, Malformed> {
        Self::read(key, Bytes::copy_from_slice(json.get().as_bytes()), json.get())
    }

    /// Reads an item as [`Item::parse`] does; it shares the bytes of the `message` that `json` is a part of.
    ///
    /// # Errors
    ///
    /// When a known property has another JSON type than it must have.
    ///
    /// # Panics
    ///
    /// When `json` is not a part of `message`.
    pub fn parse_within(message: &Bytes, key: Arc<str>, json: &RawValue) -> Result<Self, Malformed> {
        Self::read(key, message.slice_ref(json.get().as_bytes()), json.get())
    }

    fn read(key: Arc<str>, json: Bytes, text: &str) -> Result<Self, Malformed> {
        let (mut head, mut body, mut sent_name) = (Head::default(), B::default(), Box::<str>::default());
        properties(&mut JsonReader::new(text), |name, reader| {
            match name {
                "key" => sent_name = self::text(reader)?,
                "version" => {
                    let (version, is_version) = version(reader)?;
                    (head.version, head.has_odd_version) = (version, !is_version);
                }
                "deleted" => head.deleted = reader.boolean()?,
                _ => body.read(name, reader)?,
            }
            Ok(())
        })?;
        head.name = (*sent_name != *key).then(|| Box::new(sent_name));
        Ok(Self { key, json, head, facts: body.facts() })
    }

    /// Returns what is known of the item; `None` for a tombstone, and for an item with an invalid version.
    #[must_use]
    pub fn item_facts(&self) -> Option<ItemFacts<B::Facts>>
    where
        B::Facts: Clone,
    {
        let Head { name, has_odd_version, deleted, .. } = &self.head;
        (!deleted && !has_odd_version).then(|| ItemFacts { name: name.as_deref().cloned(), facts: self.facts.clone() })
    }

    /// Returns the item that this is the content of. Nothing is checked again.
    #[must_use]
    pub fn with_facts(key: Arc<str>, version: i64, json: Bytes, facts: ItemFacts<B::Facts>) -> Self {
        let ItemFacts { name, facts } = facts;
        Self { key, json, head: Head { name: name.map(Box::new), version, ..Head::default() }, facts }
    }

    /// Returns the tombstone of a deleted item: its key and the version of the deletion.
    #[must_use]
    pub fn tombstone(key: &str, version: i64) -> Self {
        let head = Head { version, deleted: true, name: Some(Box::default()), ..Head::default() };
        Self { key: key.into(), json: Bytes::new(), head, facts: B::Facts::default() }
    }

    /// Returns the same item with bytes of its own, so that the message that it came with can be freed.
    #[must_use]
    pub fn detached(&self) -> Self
    where
        B::Facts: Clone,
    {
        let (key, json) = (Arc::clone(&self.key), Bytes::copy_from_slice(&self.json));
        Self { key, json, head: self.head.clone(), facts: self.facts.clone() }
    }

    /// Returns the key that the item was sent under.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Returns the version.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.head.version
    }

    /// Whether the version that was sent can be compared with others: a whole number from 0 to 2^53 - 1.
    #[must_use]
    pub fn has_valid_version(&self) -> bool {
        !self.head.has_odd_version
    }

    /// Whether this is a tombstone.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.head.deleted
    }

    /// Returns the item exactly as it was sent; empty for a tombstone that was not sent as an item.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Returns the property `key` inside, which is hashed and shown; the item is found by the key it was sent under.
    pub(crate) fn name(&self) -> &str {
        self.head.name.as_ref().map_or(&self.key, |name| name)
    }

    /// Returns the properties that are needed without compilation.
    pub(crate) fn facts(&self) -> &B::Facts {
        &self.facts
    }

    /// Parses the properties that evaluation needs.
    pub(crate) fn body(&self) -> B {
        let mut body = B::default();
        // The JSON was checked when the item arrived; a tombstone has none.
        let text = std::str::from_utf8(&self.json).unwrap_or_default();
        let _ = properties(&mut JsonReader::new(text), |name, reader| match name {
            "key" | "version" | "deleted" => {
                reader.skip();
                Ok(())
            }
            _ => body.read(name, reader),
        });
        body
    }
}

impl<B: Body> fmt::Debug for Item<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(B::TYPE).field("key", &self.key).field("version", &self.version()).finish_non_exhaustive()
    }
}
