//! Flags, compiled: names resolved to numbers, values parsed, everything that is written prepared.

use std::sync::Arc;

use super::clause::segments;
use super::prepared::Prepared;
use super::steps::{StepCompiler, Steps};
use super::symbols::Symbols;
use crate::model::{self, KeySet};

/// A flag, compiled. What evaluation reads of most flags lies in four pieces of memory: this, the steps, and the entries
/// and the text of what is prepared.
#[derive(Debug)]
pub(super) struct CompiledFlag {
    source: Arc<model::Flag>,
    /// The number of its key.
    pub(super) number: u32,
    /// Whether targeting is on.
    pub(super) on: bool,
    /// The step for when it is off; `None` for no value.
    pub(super) off: Option<u32>,
    /// The step after all rules.
    pub(super) fallthrough: u32,
    /// The bits of all keys in `targets`, by which most contexts pass them.
    pub(super) target_filter: u64,
    /// In the order in which they are tried.
    pub(super) targets: Box<[CompiledTarget]>,
    pub(super) prerequisites: Box<[CompiledPrerequisite]>,
    /// The rules, and what else chooses a variation.
    pub(super) steps: Steps,
    /// The segments of clauses that refer to another number of segments than one.
    pub(super) segment_lists: Box<[Box<[u32]>]>,
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
    /// The step that chooses the variation.
    pub(super) choice: u32,
    /// The filter of `keys`, here because most targets do not match.
    pub(super) filter: u64,
    pub(super) keys: Arc<KeySet>,
}

impl CompiledFlag {
    /// Compiles `source`.
    pub(super) fn compile(source: &Arc<model::Flag>, symbols: &Symbols) -> Self {
        let body = source.body();
        let mut steps = StepCompiler::new(source, &body, symbols);
        body.rules.iter().for_each(|rule| steps.rule(rule));
        let fallthrough = steps.choice(&body.fallthrough, body.track_events_fallthrough);
        let off = body.off_variation.map(|index| steps.variation(index, false));
        let target = |target: &model::Target| CompiledTarget {
            kind: symbols.kind(&target.context_kind),
            choice: steps.variation(target.variation, false),
            filter: target.keys.filter(),
            keys: Arc::clone(&target.keys),
        };
        let targets: Box<[_]> = targets(&body).map(target).collect();
        let steps = steps.finish();
        let prerequisites = body.prerequisites.iter().map(|it| CompiledPrerequisite {
            flag: symbols.flag(&it.key),
            variation: u32::try_from(it.variation).ok(),
            key: it.key.clone(),
        });
        Self {
            source: Arc::clone(source),
            number: symbols.flag(source.key()),
            on: body.on,
            off,
            fallthrough,
            target_filter: targets.iter().fold(0, |filter, it| filter | it.filter),
            targets,
            prerequisites: prerequisites.collect(),
            steps: steps.steps,
            segment_lists: steps.segment_lists,
            prepared: Prepared::new(source, &body, steps.text),
        }
    }

    /// Reads what an evaluation reads, and returns anything. See [`super::read_ahead`].
    pub(super) fn read_ahead(&self) -> u32 {
        self.steps.read_ahead() ^ self.prepared.read_ahead()
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
        segments(self.steps.clauses(), &self.segment_lists)
    }
}

/// The targets of a flag in the order in which they count.
///
/// `contextTargets` gives the order if it is there. An entry for users without keys stands for the first entry of
/// `targets` with the same variation; the other entries of `targets` do not count then.
fn targets(body: &model::FlagBody) -> impl Iterator<Item = &model::Target> {
    let without_order = if body.context_targets.is_empty() { &*body.targets } else { &[] };
    let ordered = body.context_targets.iter().filter_map(|target| {
        let is_placeholder = matches!(&*target.context_kind, "" | "user") && target.keys.is_empty();
        if is_placeholder { body.targets.iter().find(|it| it.variation == target.variation) } else { Some(target) }
    });
    without_order.iter().chain(ordered)
}
