//! Evaluation contexts: the users, organisations or devices that flags are evaluated for.

mod attributes;
mod identity;
mod parse;
mod write;

use std::borrow::Cow;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::json::Mismatch;
use super::json::syntax::SyntaxError;
use super::keys::KeySet;
use super::reference::Reference;
use super::value::Value;

pub use self::identity::ContextKeys;

/// The kind of a context that does not name one.
pub(crate) const USER: &str = "user";

/// A context: one or several individual contexts of different kinds.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Sorted by kind, no kind twice; empty only by default.
    parts: Vec<Part>,
    /// Bytes of the JSON that it was parsed from.
    size: usize,
    /// Bytes of the longest text that a flag can refer to.
    longest_text: usize,
}

/// An individual context: the attributes of one user, organisation, device, …
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Always text, like `key`; kept as values because attribute references can name them.
    kind: Value,
    key: Value,
    name: Option<Value>,
    anonymous: Value,
    /// Sorted by name; no name twice, no nulls.
    attributes: Vec<(Box<str>, Value)>,
    /// Only users of the old schema have one, and only bucketing sees it.
    secondary: Option<Box<str>>,
    private: Vec<Box<str>>,
}

/// Why a JSON text is not an evaluation context. The texts are those of the vendor's relay, which clients see.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContextError {
    /// Not JSON.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A property, or the whole, has the wrong JSON type.
    #[error("expected {expected}{}, got {found} at position {position}", if *nullable { " or null" } else { "" })]
    Type {
        /// The type that belongs there.
        expected: &'static str,
        /// Whether `null` would have been accepted too.
        nullable: bool,
        /// The type that was found.
        found: &'static str,
        /// Byte offset of the value.
        position: usize,
    },
    /// No `key`.
    #[error("\"key\" property not found in JSON context object")]
    KeyMissing,
    /// `key` is null.
    #[error("context key must not be null")]
    KeyNull,
    /// `key` is empty in a context with `kind`.
    #[error("context key must not be empty")]
    KeyEmpty,
    /// `kind` is empty.
    #[error("context kind cannot be empty")]
    KindEmpty,
    /// `kind` is `kind`.
    #[error("\"kind\" is not a valid context kind")]
    KindReserved,
    /// `kind` has characters other than ASCII letters, digits, `.`, `_` and `-`.
    #[error("context kind contains disallowed characters")]
    KindCharacters,
    /// A multi-context inside a multi-context.
    #[error("single context cannot have the kind \"multi\"")]
    KindMulti,
    /// A multi-context with nothing in it.
    #[error("multi-context must contain at least one kind")]
    MultiEmpty,
    /// Two individual contexts of one kind.
    #[error("multi-context cannot have same kind more than once")]
    MultiDuplicate,
}

impl Context {
    /// Reads a context of the new format, a multi-context, or a user of the old format.
    ///
    /// # Errors
    ///
    /// When the text is not JSON or not a context; the error's text is fit for the client.
    pub fn parse(json: &[u8]) -> Result<Self, ContextError> {
        parse::context(json)
    }

    /// The fully qualified key: the same for two contexts exactly if they have the same kinds and keys.
    #[must_use]
    pub fn canonical_key(&self) -> Cow<'_, str> {
        canonical_key(self.parts.iter().map(|part| (part.kind(), part.key())))
    }

    /// Whether this is a user of the old format with an empty key, which is parsed but cannot be evaluated.
    #[must_use]
    pub fn has_empty_key(&self) -> bool {
        matches!(&*self.parts, [part] if part.key().is_empty())
    }

    /// The hash that a browser must send in secure mode: HMAC-SHA256 of the canonical key, in lower-case hex.
    #[must_use]
    pub fn secure_mode_hash(&self, sdk_key: &str) -> String {
        // HMAC takes keys of every length; the other arm cannot be reached.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(sdk_key.as_bytes()) else {
            return String::new();
        };
        mac.update(self.canonical_key().as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    /// Whether `hash` is the secure mode hash, in a time that does not depend on where they differ.
    #[must_use]
    pub fn verify_hash(&self, sdk_key: &str, hash: &str) -> bool {
        let expected = self.secure_mode_hash(sdk_key);
        let difference = expected.bytes().zip(hash.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b));
        !expected.is_empty() && expected.len() == hash.len() && difference == 0
    }

    /// Writes the context as JSON of the new format, also if it was read from the old one.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        write::context(self, out);
    }

    /// Bytes of the JSON that it was parsed from.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The `secondary` property of each individual context, sorted by kind. [`Context::write_json`] does not write it.
    pub fn secondaries(&self) -> impl Iterator<Item = Option<&str>> {
        self.parts.iter().map(Part::secondary)
    }

    /// Bytes of the longest text that a flag can refer to.
    pub(crate) fn longest_text(&self) -> usize {
        self.longest_text
    }

    /// The individual contexts, sorted by kind.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The individual context of this kind.
    pub(crate) fn part(&self, kind: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.kind() == kind)
    }

    /// Whether the whole context is one individual context of kind `user`.
    pub(crate) fn is_plain_user(&self) -> bool {
        matches!(&*self.parts, [part] if part.kind() == USER)
    }
}

impl PartialEq for Context {
    /// Whether both have the same content, however it was written.
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Part {
    fn longest_text(&self) -> usize {
        let values =
            [&self.kind, &self.key].into_iter().chain(&self.name).chain(self.attributes.iter().map(|it| &it.1));
        values.map(Value::longest_text).chain(self.secondary.as_deref().map(str::len)).max().unwrap_or(0)
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> &str {
        text(&self.kind)
    }

    /// Its kind as the value of the attribute `kind`.
    pub(crate) fn kind_value(&self) -> &Value {
        &self.kind
    }

    /// Its key.
    pub(crate) fn key(&self) -> &str {
        text(&self.key)
    }

    /// Whether its key is one of `keys`.
    pub(crate) fn key_is_in(&self, keys: &KeySet) -> bool {
        matches!(&self.key, Value::Text(key) if keys.contains(key))
    }

    /// Whether its key has a bit of `filter`, without which it is in no set with this filter.
    pub(crate) fn key_passes(&self, filter: u64) -> bool {
        self.key_bit() & filter != 0
    }

    /// The bit that its key has in filters; none if the key is not a text.
    pub(crate) fn key_bit(&self) -> u64 {
        match &self.key {
            Value::Text(key) => key.bit(),
            _ => 0,
        }
    }

    /// The text that is appended to the hash input of rollouts other than experiments.
    pub(crate) fn secondary(&self) -> Option<&str> {
        self.secondary.as_deref()
    }

    /// The value that `reference` leads to.
    pub(crate) fn get(&self, reference: &Reference) -> Option<&Value> {
        let (name, path) = reference.parts().split_first()?;
        let attribute = match &**name {
            "key" => &self.key,
            "kind" => &self.kind,
            "name" => self.name.as_ref()?,
            "anonymous" => &self.anonymous,
            name => {
                let index = self.attributes.binary_search_by(|(it, _)| (**it).cmp(name)).ok()?;
                &self.attributes[index].1
            }
        };
        path.iter().try_fold(attribute, |value, name| value.property(name)).filter(|value| **value != Value::Null)
    }
}

impl From<Mismatch> for ContextError {
    fn from(mismatch: Mismatch) -> Self {
        Self::Type {
            expected: mismatch.expected.name(),
            nullable: mismatch.nullable,
            found: mismatch.found.name(),
            position: mismatch.position,
        }
    }
}

fn text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text.as_str(),
        _ => "",
    }
}

/// The fully qualified key of individual contexts, given as kind and key and sorted by kind.
fn canonical_key<'a>(parts: impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone) -> Cow<'a, str> {
    if parts.len() == 1
        && let Some((USER, key)) = parts.clone().next()
    {
        return Cow::Borrowed(key);
    }
    let parts: Vec<_> = parts.map(|(kind, key)| format!("{kind}:{}", escape(key))).collect();
    Cow::Owned(parts.join(":"))
}

/// A key, escaped for a fully qualified key of several parts.
fn escape(key: &str) -> String {
    key.replace('%', "%25").replace(':', "%3A")
}

#[cfg(test)]
mod tests;
