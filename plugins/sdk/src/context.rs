//! The context or target that flags are evaluated for.

use crate::bindings::host::context as generated;

/// A context or target. What a plugin does not read costs nothing.
pub trait Context {
    /// Returns the kinds, sorted. LaunchDarkly: `user` and kinds of the customer's own; Harness: `target`.
    fn kinds(&self) -> Vec<String>;

    /// Returns the key of a kind.
    fn key(&self, kind: &str) -> Option<ContextKey>;

    /// Returns the fully qualified key of all kinds together.
    fn canonical_key(&self) -> ContextKey;

    /// Returns the JSON text of an attribute of a kind. Grant `context-attributes:<pattern>`.
    fn attribute(&self, kind: &str, name: &str) -> Option<String>;

    /// Returns the names of the attributes of a kind that are granted, sorted.
    fn attributes(&self, kind: &str) -> Vec<String>;
}

/// The key of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextKey {
    /// A keyed digest: stable within one process of the gateway, useless outside.
    Fingerprint(String),
    /// The key itself, with the grant `context-key`.
    Plain(String),
}

impl Context for generated::Context {
    fn kinds(&self) -> Vec<String> {
        Self::kinds(self)
    }

    fn key(&self, kind: &str) -> Option<ContextKey> {
        Self::key(self, kind).map(ContextKey::from)
    }

    fn canonical_key(&self) -> ContextKey {
        Self::canonical_key(self).into()
    }

    fn attribute(&self, kind: &str, name: &str) -> Option<String> {
        Self::attribute(self, kind, name)
    }

    fn attributes(&self, kind: &str) -> Vec<String> {
        Self::attributes(self, kind)
    }
}

impl From<generated::ContextKey> for ContextKey {
    fn from(key: generated::ContextKey) -> Self {
        match key {
            generated::ContextKey::Fingerprint(text) => Self::Fingerprint(text),
            generated::ContextKey::Plain(text) => Self::Plain(text),
        }
    }
}
