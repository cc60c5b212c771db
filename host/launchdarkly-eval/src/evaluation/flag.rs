//! Flags, compiled: names resolved to numbers, values parsed, everything that is written prepared.

use std::sync::Arc;

use super::bucket::CompiledRollout;
use super::clause::CompiledClause;
use super::prepared::Prepared;
use super::symbols::Interner;
use crate::model::{self, KeySet};

/// A flag, compiled.
#[derive(Debug)]
pub(super) struct CompiledFlag {
    source: Arc<model::Flag>,
    /// Whether targeting is on.
    pub(super) on: bool,
    /// The variation for when it is off, if there is one.
    pub(super) off_variation: Option<i64>,
    pub(super) prerequisites: Box<[CompiledPrerequisite]>,
    /// In the order in which they are tried.
    pub(super) targets: Box<[CompiledTarget]>,
    pub(super) rules: Box<[CompiledRule]>,
    pub(super) fallthrough: CompiledChoice,
    pub(super) prepared: Prepared,
}

#[derive(Debug)]
pub(super) struct CompiledPrerequisite {
    /// Number of the flag.
    pub(super) flag: u32,
    /// The variation that it must have.
    pub(super) variation: i64,
}

#[derive(Debug)]
pub(super) struct CompiledTarget {
    pub(super) kind: u32,
    pub(super) keys: Arc<KeySet>,
    pub(super) variation: i64,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) clauses: Box<[CompiledClause]>,
    pub(super) choice: CompiledChoice,
}

/// The result for a context that matched: a variation or a rollout.
#[derive(Debug)]
pub(super) enum CompiledChoice {
    Variation(i64),
    Rollout(CompiledRollout),
    /// Neither, a rollout among nothing, or one by an invalid reference.
    Malformed,
}

impl CompiledFlag {
    /// Compiles `source`.
    pub(super) fn compile(source: &Arc<model::Flag>, interner: &mut Interner) -> Self {
        let body = source.body();
        let choice = |choice: &model::Choice, interner: &mut Interner| compile_choice(choice, source, interner);
        let prerequisites = body
            .prerequisites
            .iter()
            .map(|it| CompiledPrerequisite { flag: interner.flag(&it.key), variation: it.variation })
            .collect();
        let targets = compile_targets(body, interner);
        let rules = body.rules.iter().map(|rule| CompiledRule {
            clauses: rule.clauses.iter().map(|clause| CompiledClause::compile(clause, interner)).collect(),
            choice: choice(&rule.choice, interner),
        });
        let rules = rules.collect();
        Self {
            on: body.on,
            off_variation: body.off_variation,
            prerequisites,
            targets,
            rules,
            fallthrough: choice(&body.fallthrough, interner),
            prepared: Prepared::new(source),
            source: Arc::clone(source),
        }
    }

    /// The flag that it was compiled from.
    pub(super) fn source(&self) -> &Arc<model::Flag> {
        &self.source
    }

    /// `variation` as an index, if there is such a variation.
    pub(super) fn index(&self, variation: i64) -> Option<u32> {
        let index = u32::try_from(variation).ok()?;
        ((index as usize) < self.prepared.variation_count()).then_some(index)
    }

    /// Whether the fallthrough is an experiment of the older model.
    pub(super) fn tracks_fallthrough(&self) -> bool {
        self.source.body().track_events_fallthrough
    }

    /// Whether the rule is an experiment of the older model.
    pub(super) fn tracks_rule(&self, index: u32) -> bool {
        self.source.body().rules.get(index as usize).is_some_and(|rule| rule.track_events)
    }

    /// The numbers of the segments that its rules refer to.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        self.rules.iter().flat_map(|rule| &rule.clauses).flat_map(CompiledClause::segments).copied()
    }
}

fn compile_choice(choice: &model::Choice, flag: &model::Flag, interner: &mut Interner) -> CompiledChoice {
    if let Some(variation) = choice.variation {
        return CompiledChoice::Variation(variation);
    }
    match &choice.rollout {
        Some(rollout) if !rollout.shares.is_empty() => {
            CompiledRollout::compile(rollout, flag.name(), &flag.body().salt, interner)
                .map_or(CompiledChoice::Malformed, CompiledChoice::Rollout)
        }
        _ => CompiledChoice::Malformed,
    }
}

/// The targets in the order in which they count.
///
/// `contextTargets` gives the order if it is there. An entry for users without keys stands for the first entry of
/// `targets` with the same variation; the other entries of `targets` do not count then.
fn compile_targets(body: &model::FlagBody, interner: &mut Interner) -> Box<[CompiledTarget]> {
    let mut compile = |target: &model::Target| CompiledTarget {
        kind: interner.kind(&target.context_kind),
        keys: Arc::clone(&target.keys),
        variation: target.variation,
    };
    if body.context_targets.is_empty() {
        return body.targets.iter().map(compile).collect();
    }
    let is_placeholder =
        |target: &model::Target| matches!(&*target.context_kind, "" | "user") && target.keys.is_empty();
    let targets = body.context_targets.iter().filter_map(|target| {
        if is_placeholder(target) {
            body.targets.iter().find(|it| it.variation == target.variation).map(&mut compile)
        } else {
            Some(compile(target))
        }
    });
    targets.collect()
}
