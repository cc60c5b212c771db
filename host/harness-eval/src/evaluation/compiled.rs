//! Flags and segments with compiled clauses, found by identifier.

use std::collections::HashMap;
use std::sync::Arc;

use super::clause::Condition;
use super::outcome::Served;
use crate::model::{Clause, Distribution, Flag, Segment};

/// All flags and segments of an environment, compiled.
pub(super) struct Compiled {
    /// In order of identifier.
    pub(super) flags: Vec<Arc<CompiledFlag>>,
    pub(super) flag_index: HashMap<Arc<str>, usize>,
    pub(super) segments: Vec<Arc<CompiledSegment>>,
    pub(super) segment_index: HashMap<Arc<str>, usize>,
    /// How many comparisons an evaluation of everything takes at most, approximately.
    pub(super) weight: usize,
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
    /// Compiles everything. Items that are part of `before` are not compiled again.
    pub(super) fn build(flags: &[Arc<Flag>], segments: &[Arc<Segment>], before: Option<&Self>) -> Self {
        let flag = |item: &Arc<Flag>| {
            let known = before.and_then(|it| it.flag(&item.feature)).filter(|it| Arc::ptr_eq(&it.item, item));
            known.cloned().unwrap_or_else(|| Arc::new(CompiledFlag::new(item)))
        };
        let segment = |item: &Arc<Segment>| {
            let known = before.and_then(|it| it.segment(&item.identifier));
            let known = known.filter(|it| Arc::ptr_eq(&it.item, item));
            known.cloned().unwrap_or_else(|| Arc::new(CompiledSegment::new(item)))
        };
        let mut flags: Vec<_> = flags.iter().map(flag).collect();
        flags.sort_by(|left, right| left.item.feature.cmp(&right.item.feature));
        flags.dedup_by(|later, earlier| later.item.feature == earlier.item.feature);
        let segments: Vec<_> = segments.iter().map(segment).collect();
        let flag_index = flags.iter().enumerate().map(|(index, it)| (Arc::clone(&it.item.feature), index)).collect();
        let mut segment_index = HashMap::new();
        for (index, segment) in segments.iter().enumerate() {
            segment_index.entry(Arc::clone(&segment.item.identifier)).or_insert(index);
        }
        let weight =
            flags.iter().map(|it| it.weight).sum::<usize>() + segments.iter().map(|it| it.weight).sum::<usize>();
        Self { flags, flag_index, segments, segment_index, weight }
    }

    /// Returns the flag of an identifier.
    pub(super) fn flag(&self, feature: &str) -> Option<&Arc<CompiledFlag>> {
        self.flags.get(*self.flag_index.get(feature)?)
    }

    /// Returns the segment of an identifier.
    pub(super) fn segment(&self, identifier: &str) -> Option<&Arc<CompiledSegment>> {
        self.segments.get(*self.segment_index.get(identifier)?)
    }
}

impl CompiledFlag {
    fn new(item: &Arc<Flag>) -> Self {
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
    fn new(item: &Arc<Segment>) -> Self {
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
