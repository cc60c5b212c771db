//! The context of the next enrichment plugin of a chain: with the attributes of earlier ones.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::hooks::{ContextAttribute, ContextView};

/// A context with attributes that plugins have set.
#[derive(Clone)]
pub(super) struct EnrichedContext {
    base: Arc<dyn ContextView>,
    /// By kind and name.
    attributes: BTreeMap<(String, String), Bytes>,
}

impl EnrichedContext {
    pub(super) fn new(base: Arc<dyn ContextView>) -> Self {
        Self { base, attributes: BTreeMap::new() }
    }

    /// Returns the view for the next plugin.
    pub(super) fn view(&self) -> Arc<dyn ContextView> {
        if self.attributes.is_empty() { Arc::clone(&self.base) } else { Arc::new(self.clone()) }
    }

    /// Sets validated attributes.
    pub(super) fn apply(&mut self, attributes: Vec<ContextAttribute>) {
        self.attributes.extend(attributes.into_iter().map(|it| ((it.kind, it.name), it.value)));
    }

    /// Returns all attributes that were set.
    pub(super) fn into_attributes(self) -> Vec<ContextAttribute> {
        let attribute = |((kind, name), value)| ContextAttribute { kind, name, value };
        self.attributes.into_iter().map(attribute).collect()
    }
}

impl ContextView for EnrichedContext {
    fn kinds(&self) -> Vec<&str> {
        self.base.kinds()
    }

    fn key(&self, kind: &str) -> Option<&str> {
        self.base.key(kind)
    }

    fn canonical_key(&self) -> Cow<'_, str> {
        self.base.canonical_key()
    }

    fn attributes(&self, kind: &str) -> Vec<String> {
        let mut names = self.base.attributes(kind);
        names.extend(self.attributes.keys().filter(|(it, _)| it == kind).map(|(_, name)| name.clone()));
        names.sort();
        names.dedup();
        names
    }

    fn attribute(&self, kind: &str, name: &str) -> Option<String> {
        match self.attributes.get(&(kind.to_owned(), name.to_owned())) {
            Some(value) => String::from_utf8(value.to_vec()).ok(),
            None => self.base.attribute(kind, name),
        }
    }
}
