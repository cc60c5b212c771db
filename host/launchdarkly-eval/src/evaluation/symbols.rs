//! Numbers in place of names, by which compiled flags and segments refer to each other.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use yardarm_go_regex::Pattern;

use super::operator::Test;
use crate::model::{Literal, Operator, Reference, ReferenceError};

/// The number of the kind `user`.
pub(super) const USER_KIND: u32 = 0;

/// All names that compiled items use, numbered in the order in which they were first seen.
///
/// Numbers never change and are never reused, so an item that did not change is shared between rulesets as it is.
/// A flag or segment has a number as soon as something names it, whether it exists or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Symbols {
    pub(super) flags: Numbering<Arc<str>>,
    pub(super) segments: Numbering<Arc<str>>,
    pub(super) kinds: Numbering<Arc<str>>,
    /// Attribute references, each with the number of the kind it looks at.
    pub(super) attributes: Numbering<(u32, Reference)>,
    /// Numbers of conditions by their keys; see [`condition_key`].
    conditions: HashMap<Box<[u8]>, u32>,
    compiled: Vec<Arc<Condition>>,
    patterns: HashMap<Arc<str>, Arc<Pattern>>,
}

/// An attribute and a test of it. Flags repeat each other (`country in …`, `plan in …`), so equal conditions have one
/// number, are compiled once and are decided once per context.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) attribute: u32,
    pub(super) test: Test,
}

/// Values and their numbers.
#[derive(Debug, Clone)]
pub(super) struct Numbering<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

/// Assigns numbers while items are compiled; copies the shared table only for a new name.
pub(super) struct Interner {
    symbols: Arc<Symbols>,
}

impl Symbols {
    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.flags.values.len()
            + self.segments.values.len()
            + self.attributes.values.len()
            + self.patterns.len()
            + self.compiled.len()
    }

    /// All conditions, each at its number.
    pub(super) fn conditions(&self) -> &[Arc<Condition>] {
        &self.compiled
    }
}

impl<T: Clone + Eq + Hash> Numbering<T> {
    /// The number of `value`, if it has one.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> Option<u32>
    where
        T: std::borrow::Borrow<Q>,
    {
        self.numbers.get(value).copied()
    }

    /// All values, each at its number.
    pub(super) fn values(&self) -> &[T] {
        &self.values
    }

    fn add(&mut self, value: T) -> u32 {
        // Numbers are taken by items of one payload; four billion do not fit into memory.
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}

impl<T> Default for Numbering<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), values: Vec::new() }
    }
}

impl Interner {
    /// Continues with `symbols`, or starts with an empty table.
    pub(super) fn new(symbols: Option<Arc<Symbols>>) -> Self {
        let mut interner = Self { symbols: symbols.unwrap_or_default() };
        let user = interner.kind("");
        debug_assert_eq!(user, USER_KIND, "the first kind to be numbered");
        interner
    }

    /// The finished table.
    pub(super) fn finish(self) -> Arc<Symbols> {
        self.symbols
    }

    /// The number of the flag `key`.
    pub(super) fn flag(&mut self, key: &str) -> u32 {
        match self.symbols.flags.get(key) {
            Some(number) => number,
            None => Arc::make_mut(&mut self.symbols).flags.add(key.into()),
        }
    }

    /// The number of the segment `key`.
    pub(super) fn segment(&mut self, key: &str) -> u32 {
        match self.symbols.segments.get(key) {
            Some(number) => number,
            None => Arc::make_mut(&mut self.symbols).segments.add(key.into()),
        }
    }

    /// The number of a context kind; empty is `user`.
    pub(super) fn kind(&mut self, kind: &str) -> u32 {
        let kind = if kind.is_empty() { "user" } else { kind };
        match self.symbols.kinds.get(kind) {
            Some(number) => number,
            None => Arc::make_mut(&mut self.symbols).kinds.add(kind.into()),
        }
    }

    /// The number of the attribute reference `attribute` of contexts of `context_kind`.
    ///
    /// # Errors
    ///
    /// When it is not a valid reference.
    pub(super) fn attribute(&mut self, context_kind: &str, attribute: &str) -> Result<u32, ReferenceError> {
        let key = (self.kind(context_kind), Reference::beside(context_kind, attribute)?);
        Ok(match self.symbols.attributes.get(&key) {
            Some(number) => number,
            None => Arc::make_mut(&mut self.symbols).attributes.add(key),
        })
    }

    /// The number of the condition that `attribute` passes `operator` with one of `values`.
    pub(super) fn condition(&mut self, attribute: u32, operator: Operator, values: &[Literal]) -> u32 {
        let key = condition_key(attribute, operator, values);
        if let Some(number) = self.symbols.conditions.get(&*key) {
            return *number;
        }
        let test = Test::compile(operator, values, |text| self.pattern(text));
        let symbols = Arc::make_mut(&mut self.symbols);
        let number = u32::try_from(symbols.compiled.len()).unwrap_or(u32::MAX);
        symbols.compiled.push(Arc::new(Condition { attribute, test }));
        symbols.conditions.insert(key, number);
        number
    }

    /// The pattern with this text; the same for all clauses that have it.
    pub(super) fn pattern(&mut self, text: &str) -> Arc<Pattern> {
        if let Some(pattern) = self.symbols.patterns.get(text) {
            return Arc::clone(pattern);
        }
        let pattern = Arc::new(Pattern::new(text));
        Arc::make_mut(&mut self.symbols).patterns.insert(text.into(), Arc::clone(&pattern));
        pattern
    }
}

/// A condition as bytes: equal conditions have equal bytes.
fn condition_key(attribute: u32, operator: Operator, values: &[Literal]) -> Box<[u8]> {
    let mut key = Vec::with_capacity(8 + 16 * values.len());
    key.extend_from_slice(&attribute.to_le_bytes());
    key.push(operator as u8);
    for value in values {
        match value {
            Literal::Text(text) => {
                key.push(0);
                key.extend_from_slice(&text.len().to_le_bytes());
                key.extend_from_slice(text.as_bytes());
            }
            Literal::Number(number) => {
                key.push(1);
                key.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Literal::Boolean(boolean) => key.push(2 + u8::from(*boolean)),
        }
    }
    key.into()
}
