//! What flags and segments have in common: a key, a version, and the JSON as it was sent.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Malformed;
use super::json::JsonReader;
use super::rule::{properties, text, version};

/// One flag or segment at one version, or the tombstone of a deleted one.
pub struct Item<B> {
    key: Arc<str>,
    json: Bytes,
    head: Head,
    body: B,
}

/// Properties that every item has.
#[derive(Debug, Default)]
struct Head {
    name: Box<str>,
    version: i64,
    /// Whether the version that was sent is invalid: a fraction, or a number that is negative or too large.
    has_odd_version: bool,
    deleted: bool,
}

/// The properties of one kind of item that evaluation needs, with defaults filled in.
pub trait Body: Default {
    /// Name of the type in `Debug` output.
    const TYPE: &'static str;

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
        let (mut head, mut body) = (Head::default(), B::default());
        properties(&mut JsonReader::new(json.get()), |name, reader| {
            match name {
                "key" => head.name = text(reader)?,
                "version" => {
                    let (version, is_version) = version(reader)?;
                    (head.version, head.has_odd_version) = (version, !is_version);
                }
                "deleted" => head.deleted = reader.boolean()?,
                _ => body.read(name, reader)?,
            }
            Ok(())
        })?;
        Ok(Self { key: key.into(), json: Bytes::copy_from_slice(json.get().as_bytes()), head, body })
    }

    /// Returns the tombstone of a deleted item: its key and the version of the deletion.
    #[must_use]
    pub fn tombstone(key: &str, version: i64) -> Self {
        let head = Head { version, deleted: true, ..Head::default() };
        Self { key: key.into(), json: Bytes::new(), head, body: B::default() }
    }
}

impl<B> Item<B> {
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
        &self.head.name
    }

    /// Returns the parsed properties.
    pub(crate) fn body(&self) -> &B {
        &self.body
    }
}

impl<B: Body> fmt::Debug for Item<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(B::TYPE).field("key", &self.key).field("version", &self.version()).finish_non_exhaustive()
    }
}
