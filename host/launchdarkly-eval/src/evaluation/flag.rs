//! Flags, compiled: names resolved to numbers, values parsed, everything that is written prepared.

use std::ops::Range;
use std::sync::Arc;

use super::bucket::CompiledRollout;
use super::clause::{ClauseCompiler, Clauses};
use super::prepared::{Preparation, Prepared};
use super::symbols::Symbols;
use crate::model::{self, KeySet};

/// A flag, compiled. What evaluation reads of it lies in a few pieces of memory.
#[derive(Debug)]
pub(super) struct CompiledFlag {
    source: Arc<model::Flag>,
    /// The number of its key.
    pub(super) number: u32,
    /// Whether targeting is on.
    pub(super) on: bool,
    /// Whether the fallthrough is an experiment of the older model.
    pub(super) tracks_fallthrough: bool,
    /// The choice for when it is off; `None` for no value.
    pub(super) off: Option<CompiledChoice>,
    pub(super) fallthrough: CompiledChoice,
    pub(super) prerequisites: Box<[CompiledPrerequisite]>,
    /// In the order in which they are tried.
    pub(super) targets: Box<[CompiledTarget]>,
    pub(super) rules: Box<[CompiledRule]>,
    pub(super) clauses: Clauses,
    pub(super) rollouts: Box<[CompiledRollout]>,
    pub(super) prepared: Prepared,
}

#[derive(Debug)]
pub(super) struct CompiledPrerequisite {
    /// Number of the flag.
    pub(super) flag: u32,
    /// The variation that it must have; `None` if no flag has it.
    pub(super) variation: Option<u32>,
    pub(super) key: Box<str>,
}

#[derive(Debug)]
pub(super) struct CompiledTarget {
    pub(super) kind: u32,
    pub(super) choice: CompiledChoice,
    /// The filter of `keys`, here because most targets do not match.
    pub(super) filter: u64,
    pub(super) keys: Arc<KeySet>,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    /// The end of its clauses, which begin where those of the previous rule end.
    pub(super) clauses_end: u32,
    pub(super) choice: CompiledChoice,
    /// Whether it is an experiment of the older model.
    pub(super) is_tracked: bool,
    /// Its ID as a JSON string in the prepared text; empty if it has none.
    pub(super) id: Range<u32>,
}

/// The result for a context that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompiledChoice {
    /// The index of a variation, which exists.
    Variation(u32),
    /// The index of a rollout of the flag.
    Rollout(u32),
    /// A variation that does not exist, no choice, a rollout among nothing, or one by an invalid reference.
    Malformed,
}

/// Compiles one flag.
struct FlagCompiler<'a> {
    flag: &'a model::Flag,
    body: &'a model::FlagBody,
    symbols: &'a Symbols,
    rollouts: Vec<CompiledRollout>,
    /// `key.salt.`, with which the hash input of most rollouts starts.
    prefix: Option<Arc<str>>,
}

impl CompiledFlag {
    /// Compiles `source`.
    pub(super) fn compile(source: &Arc<model::Flag>, symbols: &Symbols) -> Self {
        let body = source.body();
        let mut compiler = FlagCompiler { flag: source, body: &body, symbols, rollouts: Vec::new(), prefix: None };
        let (mut clauses, mut preparation) = (ClauseCompiler::default(), Preparation::new(source, &body));
        let rules = body.rules.iter().map(|rule| CompiledRule {
            clauses_end: clauses.add(&rule.clauses, symbols),
            choice: compiler.choice(&rule.choice),
            is_tracked: rule.track_events,
            id: preparation.add_rule_id(&rule.id),
        });
        let rules = rules.collect();
        let prerequisites = body.prerequisites.iter().map(|it| CompiledPrerequisite {
            flag: symbols.flag(&it.key),
            variation: u32::try_from(it.variation).ok(),
            key: it.key.clone(),
        });
        Self {
            source: Arc::clone(source),
            number: symbols.flag(source.key()),
            on: body.on,
            tracks_fallthrough: body.track_events_fallthrough,
            off: body.off_variation.map(|index| compiler.variation(index)),
            fallthrough: compiler.choice(&body.fallthrough),
            prerequisites: prerequisites.collect(),
            targets: compiler.targets(),
            rules,
            clauses: clauses.finish(),
            rollouts: compiler.rollouts.into(),
            prepared: preparation.finish(),
        }
    }

    /// The flag that it was compiled from.
    pub(super) fn source(&self) -> &Arc<model::Flag> {
        &self.source
    }

    /// The numbers of its prerequisites.
    pub(super) fn prerequisite_numbers(&self) -> impl Iterator<Item = u32> {
        self.prerequisites.iter().map(|it| it.flag)
    }

    /// The numbers of the segments that its rules refer to.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        self.clauses.segments()
    }
}

impl FlagCompiler<'_> {
    fn variation(&self, index: i64) -> CompiledChoice {
        existing(index, self.body).map_or(CompiledChoice::Malformed, CompiledChoice::Variation)
    }

    fn choice(&mut self, choice: &model::Choice) -> CompiledChoice {
        match (choice.variation, &choice.rollout) {
            (Some(variation), _) => self.variation(variation),
            (None, Some(rollout)) if !rollout.shares.is_empty() => self.rollout(rollout),
            (None, _) => CompiledChoice::Malformed,
        }
    }

    fn rollout(&mut self, rollout: &model::Rollout) -> CompiledChoice {
        let prefix = match rollout.seed {
            Some(seed) => format!("{seed}.").into(),
            None => {
                let (name, salt) = (self.flag.name(), &self.body.salt);
                Arc::clone(self.prefix.get_or_insert_with(|| format!("{name}.{salt}.").into()))
            }
        };
        let index = |variation| existing(variation, self.body);
        let Ok(compiled) = CompiledRollout::compile(rollout, prefix, index, self.symbols) else {
            return CompiledChoice::Malformed;
        };
        self.rollouts.push(compiled);
        CompiledChoice::Rollout(u32::try_from(self.rollouts.len() - 1).unwrap_or(u32::MAX))
    }

    /// The targets in the order in which they count.
    ///
    /// `contextTargets` gives the order if it is there. An entry for users without keys stands for the first entry of
    /// `targets` with the same variation; the other entries of `targets` do not count then.
    fn targets(&self) -> Box<[CompiledTarget]> {
        let body = self.body;
        let compile = |target: &model::Target| CompiledTarget {
            kind: self.symbols.kind(&target.context_kind),
            choice: self.variation(target.variation),
            filter: target.keys.filter(),
            keys: Arc::clone(&target.keys),
        };
        if body.context_targets.is_empty() {
            return body.targets.iter().map(compile).collect();
        }
        let is_placeholder =
            |target: &model::Target| matches!(&*target.context_kind, "" | "user") && target.keys.is_empty();
        let targets = body.context_targets.iter().filter_map(|target| {
            if is_placeholder(target) {
                body.targets.iter().find(|it| it.variation == target.variation).map(compile)
            } else {
                Some(compile(target))
            }
        });
        targets.collect()
    }
}

/// `variation` as an index, if there is such a variation.
fn existing(variation: i64, body: &model::FlagBody) -> Option<u32> {
    let index = u32::try_from(variation).ok()?;
    ((index as usize) < body.variations.len()).then_some(index)
}
