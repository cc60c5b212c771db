//! Flags and segments with compiled clauses, found by identifier.

use std::sync::Arc;

use super::clause::Condition;
use super::outcome::Served;
use super::table::{Entry, Table};
use crate::model::{Clause, Distribution, Flag, Segment};

/// All flags and segments of an environment, compiled. Clones share everything.
#[derive(Clone, Default)]
pub(super) struct Compiled {
    pub(super) flags: Table<CompiledFlag>,
    pub(super) segments: Table<CompiledSegment>,
}

pub(super) struct CompiledFlag {
    pub(super) item: Arc<Flag>,
    /// In order of priority.
    pub(super) rules: Vec<CompiledRule>,
    weight: usize,
}

pub(super) struct CompiledRule {
    pub(super) conditions: Vec<Condition>,
    pub(super) serves: Serves,
}

/// What a matching rule serves.
pub(super) enum Serves {
    Distribution(Distribution),
    Variation(Box<str>),
    /// The next rule is evaluated.
    Nothing,
}

pub(super) struct CompiledSegment {
    pub(super) item: Arc<Segment>,
    /// In order of priority. All conditions of at least one of them must be met. If there are any, `rules` do not count.
    pub(super) group_rules: Vec<Vec<Condition>>,
    /// At least one of them must be met.
    pub(super) rules: Vec<Condition>,
    weight: usize,
}

impl Compiled {
    /// Compiles everything. Of two items with one identifier the first counts.
    pub(super) fn build(flags: &[Arc<Flag>], segments: &[Arc<Segment>]) -> Self {
        let flags = flags.iter().map(|it| Arc::new(CompiledFlag::new(it)));
        let segments = segments.iter().map(|it| Arc::new(CompiledSegment::new(it)));
        Self { flags: flags.collect(), segments: segments.collect() }
    }

    /// Compiles everything. Items that are part of this are not compiled again.
    pub(super) fn changed_to(&self, flags: &[Arc<Flag>], segments: &[Arc<Segment>]) -> Self {
        let flag = |item: &Arc<Flag>| {
            let known = self.flags.find(&item.feature).filter(|it| Arc::ptr_eq(&it.item, item));
            known.cloned().unwrap_or_else(|| Arc::new(CompiledFlag::new(item)))
        };
        let segment = |item: &Arc<Segment>| {
            let known = self.segments.find(&item.identifier).filter(|it| Arc::ptr_eq(&it.item, item));
            known.cloned().unwrap_or_else(|| Arc::new(CompiledSegment::new(item)))
        };
        Self { flags: flags.iter().map(flag).collect(), segments: segments.iter().map(segment).collect() }
    }

    /// Returns how many comparisons an evaluation of everything takes at most, approximately.
    pub(super) fn weight(&self) -> usize {
        self.flags.weight() + self.segments.weight()
    }
}

impl Entry for CompiledFlag {
    fn identifier(&self) -> &Arc<str> {
        &self.item.feature
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

impl Entry for CompiledSegment {
    fn identifier(&self) -> &Arc<str> {
        &self.item.identifier
    }

    fn weight(&self) -> usize {
        self.weight
    }
}

impl CompiledFlag {
    /// Compiles `item`.
    pub(super) fn new(item: &Arc<Flag>) -> Self {
        let rules = item.rules.iter().map(|rule| CompiledRule {
            conditions: compile(&rule.clauses),
            serves: match (&rule.serve.distribution, &rule.serve.variation) {
                (Some(distribution), _) => Serves::Distribution(distribution.clone()),
                (None, Some(variation)) => Serves::Variation(variation.as_str().into()),
                (None, None) => Serves::Nothing,
            },
        });
        let lists =
            item.variation_map.iter().map(|it| it.targets.len() + it.target_segments.as_ref().map_or(0, Vec::len));
        let rules: Vec<_> = rules.collect();
        let conditions = rules.iter().flat_map(|it| &it.conditions).map(Condition::weight);
        let weight = 1 + item.prerequisites.len() + lists.sum::<usize>() + conditions.sum::<usize>();
        Self { rules, weight, item: Arc::clone(item) }
    }

    /// Returns the variation at a position.
    pub(super) fn served(&self, position: usize) -> Served<'_> {
        let variation = &self.item.variations[position];
        Served { identifier: &variation.identifier, value: &variation.value }
    }
}

impl CompiledSegment {
    /// Compiles `item`.
    pub(super) fn new(item: &Arc<Segment>) -> Self {
        let group_rules: Vec<_> = item.group_rules.iter().map(|it| compile(&it.clauses)).collect();
        let rules = compile(&item.rules);
        let conditions = group_rules.iter().flatten().chain(&rules).map(Condition::weight).sum::<usize>();
        let weight = 1 + item.included.len() + item.excluded.len() + conditions;
        Self { group_rules, rules, weight, item: Arc::clone(item) }
    }

    /// Returns the segments that its rules name.
    pub(super) fn named_segments(&self) -> impl Iterator<Item = &str> {
        let old = if self.group_rules.is_empty() { &self.rules[..] } else { &[] };
        let conditions = old.iter().chain(self.group_rules.iter().flatten());
        conditions.flat_map(Condition::segments).map(|it| &**it)
    }
}

fn compile(clauses: &[Clause]) -> Vec<Condition> {
    clauses.iter().map(Condition::compile).collect()
}
