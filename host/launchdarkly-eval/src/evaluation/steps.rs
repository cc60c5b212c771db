//! How a flag is decided: the clauses of its rules, and what each rule leads to, as steps in one piece of memory.
//!
//! A request that evaluates all flags reads megabytes, more than the cache of a core. So steps are small, lie in the order
//! in which they are taken, and refer to each other by index.

use super::bucket::{bucket, fraction};
use super::clause::{ClauseKind, CompiledClause};
use super::subject::Subject;
use super::symbols::Symbols;
use crate::model;

/// In place of the index of a variation that does not exist.
const NO_VARIATION: u32 = u32::MAX;

/// Cache lines of steps that are read ahead; an evaluation that matches an early rule reads no more.
const MAX_LINES: usize = 16;

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Continues if the clause matches, otherwise with the step at `otherwise`, where the next rule begins.
    Clause { kind: ClauseKind, negate: bool, number: u32, otherwise: u32 },
    /// Ends with the variation at this index, which exists.
    Variation { is_tracked: bool, index: u32 },
    /// Ends with one of so many shares behind the next step, by the hash of an attribute.
    Rollout { is_experiment: bool, is_tracked: bool, attribute: u32, shares: u32 },
    /// Where the text of the flag has the start of the hash input for the rollout before: `key.salt.` or `seed.`.
    HashPrefix { start: u32, end: u32 },
    /// A share of a rollout, with the sum of all weights up to here and the index of its variation.
    Share { is_untracked: bool, end: f32, variation: u32 },
    /// Ends with no value: a variation that does not exist, no choice, a rollout among nothing, or one by an invalid
    /// reference.
    Malformed,
}

const _: () = assert!(size_of::<Step>() == 12, "the duration of an evaluation depends on the size of steps");

/// The steps of one flag.
#[derive(Debug)]
pub(super) struct Steps(Box<[Step]>);

/// The variation that a step chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The index of a variation, which exists.
    pub(super) variation: u32,
    pub(super) in_experiment: bool,
    /// Whether the rule or the fallthrough is an experiment of the older model.
    pub(super) is_tracked: bool,
}

/// Collects the steps of a flag and the start of its text.
pub(super) struct StepCompiler<'a> {
    flag: &'a model::Flag,
    body: &'a model::FlagBody,
    symbols: &'a Symbols,
    steps: Vec<Step>,
    segment_lists: Vec<Box<[u32]>>,
    text: Vec<u8>,
    /// `key.salt.`, with which the hash input of most rollouts starts.
    usual_prefix: Option<Step>,
}

/// Everything that a [`StepCompiler`] collected.
pub(super) struct Compiled {
    pub(super) steps: Steps,
    pub(super) segment_lists: Box<[Box<[u32]>]>,
    pub(super) text: Vec<u8>,
}

impl Steps {
    /// The step at `index`.
    pub(super) fn at(&self, index: u32) -> Option<&Step> {
        self.0.get(index as usize)
    }

    /// Reads the first cache lines of the steps, and returns anything.
    pub(super) fn read_ahead(&self) -> u32 {
        const PER_LINE: usize = 64 / size_of::<Step>();
        self.0.chunks(PER_LINE).take(MAX_LINES).fold(0, |sum, line| match line {
            [Step::Clause { number, .. }, ..] => sum ^ number,
            _ => sum,
        })
    }

    /// All clauses.
    pub(super) fn clauses(&self) -> impl Iterator<Item = CompiledClause> {
        self.0.iter().filter_map(|step| match *step {
            Step::Clause { kind, negate, number, .. } => Some(CompiledClause { kind, negate, number }),
            _ => None,
        })
    }

    /// What the step at `index` chooses for `subject`; `None` if there is no such variation. `text` is that of the flag.
    pub(super) fn choose(&self, index: u32, text: &[u8], subject: &Subject<'_>) -> Option<Chosen> {
        match *self.at(index)? {
            Step::Variation { is_tracked, index } => {
                Some(Chosen { variation: index, in_experiment: false, is_tracked })
            }
            Step::Rollout { is_experiment, is_tracked, attribute, shares } => {
                let (prefix, shares) = self.0.get(index as usize + 1..)?.get(..=shares as usize)?.split_first()?;
                let Step::HashPrefix { start, end } = *prefix else { return None };
                // Experiments are about the context itself, whose secondary key does not count.
                let bucket = bucket(subject, attribute, text.get(start as usize..end as usize)?, !is_experiment);
                let is_reached = |step: &&Step| matches!(step, Step::Share { end, .. } if bucket.value < *end);
                let (share, is_counted) = match shares.iter().find(is_reached) {
                    Some(share) => (share, bucket.kind_found),
                    // Rounding left a gap, or all weights are 0. The vendor's evaluator does not look at the kind here.
                    None => (shares.last()?, true),
                };
                let Step::Share { is_untracked, variation, .. } = *share else { return None };
                let in_experiment = is_experiment && !is_untracked && is_counted;
                (variation != NO_VARIATION).then_some(Chosen { variation, in_experiment, is_tracked })
            }
            Step::Clause { .. } | Step::HashPrefix { .. } | Step::Share { .. } | Step::Malformed => None,
        }
    }
}

impl<'a> StepCompiler<'a> {
    /// Starts with no steps. `body` is that of `flag`.
    pub(super) fn new(flag: &'a model::Flag, body: &'a model::FlagBody, symbols: &'a Symbols) -> Self {
        Self { flag, body, symbols, steps: Vec::new(), segment_lists: Vec::new(), text: Vec::new(), usual_prefix: None }
    }

    /// Adds a rule: its clauses, and its choice.
    pub(super) fn rule(&mut self, rule: &model::Rule) {
        let start = self.steps.len();
        for clause in &rule.clauses {
            let CompiledClause { kind, negate, number } =
                CompiledClause::compile(clause, self.symbols, &mut self.segment_lists);
            self.steps.push(Step::Clause { kind, negate, number, otherwise: 0 });
        }
        self.choice(&rule.choice, rule.track_events);
        let end = self.next_index();
        for step in &mut self.steps[start..] {
            if let Step::Clause { otherwise, .. } = step {
                *otherwise = end;
            }
        }
    }

    /// Adds a choice; returns the index of its step.
    pub(super) fn choice(&mut self, choice: &model::Choice, is_tracked: bool) -> u32 {
        match (choice.variation, &choice.rollout) {
            (Some(variation), _) => self.variation(variation, is_tracked),
            (None, Some(rollout)) if !rollout.shares.is_empty() => self.rollout(rollout, is_tracked),
            (None, _) => self.add(Step::Malformed),
        }
    }

    /// Adds the choice of a variation; returns the index of its step.
    pub(super) fn variation(&mut self, index: i64, is_tracked: bool) -> u32 {
        let step = self.existing(index).map_or(Step::Malformed, |index| Step::Variation { is_tracked, index });
        self.add(step)
    }

    /// Returns everything that was added.
    pub(super) fn finish(self) -> Compiled {
        let Self { steps, segment_lists, text, .. } = self;
        Compiled { steps: Steps(steps.into()), segment_lists: segment_lists.into(), text }
    }

    fn rollout(&mut self, rollout: &model::Rollout, is_tracked: bool) -> u32 {
        // An experiment is about the context itself; other attributes are ignored, valid or not.
        let attribute = if rollout.experiment || rollout.bucket_by.is_empty() { "key" } else { &*rollout.bucket_by };
        let Ok(attribute) = self.symbols.attribute(&rollout.context_kind, attribute) else {
            return self.add(Step::Malformed);
        };
        let shares = number(rollout.shares.len());
        let index = self.add(Step::Rollout { is_experiment: rollout.experiment, is_tracked, attribute, shares });
        let prefix = self.prefix(rollout.seed);
        self.add(prefix);
        let mut end = 0.0;
        for share in &rollout.shares {
            end += fraction(share.weight);
            let variation = self.existing(share.variation).unwrap_or(NO_VARIATION);
            self.add(Step::Share { is_untracked: share.untracked, end, variation });
        }
        index
    }

    fn prefix(&mut self, seed: Option<i64>) -> Step {
        if let (None, Some(prefix)) = (seed, self.usual_prefix) {
            return prefix;
        }
        let start = number(self.text.len());
        match seed {
            Some(seed) => self.text.extend_from_slice(format!("{seed}.").as_bytes()),
            None => self.text.extend_from_slice(format!("{}.{}.", self.flag.name(), self.body.salt).as_bytes()),
        }
        let prefix = Step::HashPrefix { start, end: number(self.text.len()) };
        if seed.is_none() {
            self.usual_prefix = Some(prefix);
        }
        prefix
    }

    /// `variation` as an index, if there is such a variation.
    fn existing(&self, variation: i64) -> Option<u32> {
        let index = u32::try_from(variation).ok()?;
        ((index as usize) < self.body.variations.len()).then_some(index)
    }

    fn add(&mut self, step: Step) -> u32 {
        let index = self.next_index();
        self.steps.push(step);
        index
    }

    /// The index of the step that is added next.
    pub(super) fn next_index(&self) -> u32 {
        number(self.steps.len())
    }
}

/// A count of parts of one flag, whose JSON has less than four gigabytes.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
