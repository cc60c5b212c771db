//! Numbers in place of names, by which compiled flags and segments refer to each other.
//!
//! The tables only grow, so that all rulesets of one environment share them: a change adds the names that are new and
//! copies nothing. Numbers never change and are never reused, so an item that did not change is shared as it is.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use yardarm_go_regex::Pattern;

use super::operator::Test;
use crate::model::{Literal, Operator, Reference, ReferenceError};

/// The number of the kind `user`.
pub(super) const USER_KIND: u32 = 0;

/// All names that compiled items use, numbered in the order in which they were first seen.
///
/// A flag or segment has a number as soon as something names it, whether it exists or not.
#[derive(Debug)]
pub(super) struct Symbols {
    pub(super) flags: Numbering<Arc<str>>,
    pub(super) segments: Numbering<Arc<str>>,
    pub(super) kinds: Numbering<Arc<str>>,
    /// Attribute references, each with the number of the kind it looks at.
    pub(super) attributes: Numbering<(u32, Reference)>,
    /// Numbers of conditions by their keys; see [`condition_key`].
    condition_numbers: Mutex<HashMap<Box<[u8]>, u32>>,
    conditions: boxcar::Vec<Condition>,
    patterns: Mutex<HashMap<Box<str>, Arc<Pattern>>>,
}

/// An attribute and a test of it. Flags repeat each other (`country in …`, `plan in …`), so equal conditions have one
/// number, are compiled once and are decided once per context.
#[derive(Debug)]
pub(super) struct Condition {
    /// The number of a reference, or [`Test::ANY_KIND`].
    pub(super) attribute: u32,
    pub(super) test: Test,
}

/// Values and their numbers. Reading a value takes no lock.
#[derive(Debug)]
pub(super) struct Numbering<T> {
    numbers: Mutex<HashMap<T, u32>>,
    values: boxcar::Vec<T>,
}

impl Symbols {
    /// An empty table.
    pub(super) fn new() -> Self {
        let symbols = Self {
            flags: Numbering::new(),
            segments: Numbering::new(),
            kinds: Numbering::new(),
            attributes: Numbering::new(),
            condition_numbers: Mutex::default(),
            conditions: boxcar::Vec::new(),
            patterns: Mutex::default(),
        };
        let user = symbols.kind("");
        debug_assert_eq!(user, USER_KIND, "the first kind to be numbered");
        symbols
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.flags.len()
            + self.segments.len()
            + self.attributes.len()
            + locked(&self.patterns).len()
            + self.conditions.count()
    }

    /// The condition with this number.
    pub(super) fn condition_at(&self, number: u32) -> Option<&Condition> {
        self.conditions.get(number as usize)
    }

    /// How many conditions there are.
    pub(super) fn condition_count(&self) -> usize {
        self.conditions.count()
    }

    /// The number of the flag `key`.
    pub(super) fn flag(&self, key: &str) -> u32 {
        self.flags.number(key, || key.into())
    }

    /// The number of a context kind; empty is `user`.
    pub(super) fn kind(&self, kind: &str) -> u32 {
        let kind = if kind.is_empty() { "user" } else { kind };
        self.kinds.number(kind, || kind.into())
    }

    /// The number of the segment `key`.
    pub(super) fn segment(&self, key: &str) -> u32 {
        self.segments.number(key, || key.into())
    }

    /// The number of the attribute reference `attribute` of contexts of `context_kind`.
    ///
    /// # Errors
    ///
    /// When it is not a valid reference.
    pub(super) fn attribute(&self, context_kind: &str, attribute: &str) -> Result<u32, ReferenceError> {
        let key = (self.kind(context_kind), Reference::beside(context_kind, attribute)?);
        Ok(self.attributes.number(&key, || key.clone()))
    }

    /// The number of the condition that `attribute` passes `operator` with one of `values`.
    pub(super) fn condition(&self, attribute: u32, operator: Operator, values: &[Literal]) -> u32 {
        let key = condition_key(attribute, operator, values);
        let mut numbers = locked(&self.condition_numbers);
        if let Some(number) = numbers.get(&*key) {
            return *number;
        }
        let test = Test::compile(operator, values, |text| self.pattern(text));
        let number = number_of(self.conditions.push(Condition { attribute, test }));
        numbers.insert(key, number);
        number
    }

    /// The pattern with this text; the same for all clauses that have it.
    pub(super) fn pattern(&self, text: &str) -> Arc<Pattern> {
        let mut patterns = locked(&self.patterns);
        if let Some(pattern) = patterns.get(text) {
            return Arc::clone(pattern);
        }
        let pattern = Arc::new(Pattern::new(text));
        patterns.insert(text.into(), Arc::clone(&pattern));
        pattern
    }
}

impl<T: Clone + Eq + Hash> Numbering<T> {
    fn new() -> Self {
        Self { numbers: Mutex::default(), values: boxcar::Vec::new() }
    }

    /// The number of `value`, if it has one.
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, value: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
    {
        locked(&self.numbers).get(value).copied()
    }

    /// The number of `value`, which is assigned now if it has none; `own` makes the value that is stored.
    pub(super) fn number<Q: Eq + Hash + ?Sized>(&self, value: &Q, own: impl FnOnce() -> T) -> u32
    where
        T: Borrow<Q>,
    {
        let mut numbers = locked(&self.numbers);
        if let Some(number) = numbers.get(value) {
            return *number;
        }
        let value = own();
        let number = number_of(self.values.push(value.clone()));
        numbers.insert(value, number);
        number
    }

    /// The value with this number.
    pub(super) fn value(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }

    /// All values in order of their numbers.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().map(|(_, value)| value)
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.count()
    }
}

/// Numbers are taken by items of one payload; four billion do not fit into memory.
fn number_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// A panic while a lock is held leaves the table as it was, or with a value that has no number yet.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A condition as bytes: equal conditions have equal bytes. The order of values and repeated ones make no difference.
fn condition_key(attribute: u32, operator: Operator, values: &[Literal]) -> Box<[u8]> {
    let mut parts: Vec<_> = values.iter().map(literal_key).collect();
    parts.sort_unstable();
    parts.dedup();
    let mut key = Vec::with_capacity(5 + parts.iter().map(Vec::len).sum::<usize>());
    key.extend_from_slice(&attribute.to_le_bytes());
    key.push(operator as u8);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key.into()
}

fn literal_key(value: &Literal) -> Vec<u8> {
    match value {
        Literal::Text(text) => [&[0], &text.len().to_le_bytes()[..], text.as_bytes()].concat(),
        Literal::Number(number) => [&[1], &number.to_bits().to_le_bytes()[..]].concat(),
        Literal::Boolean(boolean) => vec![2 + u8::from(*boolean)],
    }
}
