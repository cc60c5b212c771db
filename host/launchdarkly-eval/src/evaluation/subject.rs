//! A context as one ruleset sees it: a small table of attribute lookups, filled on demand.

use std::cell::Cell;

use super::symbols::Symbols;
use crate::model::{Context, Part, Value};

/// The context of one request.
pub(super) struct Subject<'a> {
    context: &'a Context,
    symbols: &'a Symbols,
    /// The bits of the keys of all individual contexts.
    key_bits: u64,
    /// The individual context of each kind, by number.
    parts: Vec<Option<&'a Part>>,
    /// The lookup of each attribute reference, by number; `None` before the first lookup.
    attributes: Vec<Cell<Option<Lookup<'a>>>>,
}

/// The result of looking up an attribute reference.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lookup<'a> {
    /// The context has no individual context of that kind.
    NoContext,
    /// The individual context has no such value.
    NoValue,
    /// The value and the individual context it is in.
    Value(&'a Value, &'a Part),
}

impl<'a> Subject<'a> {
    /// Prepares `context` for items compiled with `symbols`.
    pub(super) fn new(context: &'a Context, symbols: &'a Symbols) -> Self {
        Self {
            context,
            symbols,
            key_bits: context.parts().iter().fold(0, |bits, part| bits | part.key_bit()),
            parts: symbols.kinds.values().map(|kind| context.part(kind)).collect(),
            attributes: vec![Cell::new(None); symbols.attributes.len()],
        }
    }

    /// The context itself.
    pub(super) fn context(&self) -> &'a Context {
        self.context
    }

    /// The individual context of the kind with this number.
    pub(super) fn part(&self, kind: u32) -> Option<&'a Part> {
        self.parts.get(kind as usize).copied().flatten()
    }

    /// Whether the key of any individual context has a bit of `filter`, without which it is in no set with this filter.
    pub(super) fn has_key_of(&self, filter: u64) -> bool {
        self.key_bits & filter != 0
    }

    /// Looks up the attribute reference with this number.
    pub(super) fn look_up(&self, attribute: u32) -> Lookup<'a> {
        let Some(place) = self.attributes.get(attribute as usize) else {
            return Lookup::NoContext;
        };
        if let Some(known) = place.get() {
            return known;
        }
        let (part, reference) = match self.symbols.attributes.value(attribute) {
            Some((kind, reference)) => (self.part(*kind), Some(reference)),
            None => (None, None),
        };
        let found = match part.zip(reference) {
            None => Lookup::NoContext,
            Some((part, reference)) => part.get(reference).map_or(Lookup::NoValue, |value| Lookup::Value(value, part)),
        };
        place.set(Some(found));
        found
    }
}
