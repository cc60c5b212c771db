//! One request's evaluation of flags, with the results that it remembers.

mod clause;
mod segment;

use std::mem;

use super::clause::CompiledClause;
use super::flag::{CompiledFlag, CompiledTarget};
use super::memberships::{BigSegmentsStatus, Memberships};
use super::memory::{Memo, Memory, Verdict};
use super::operator::Test;
use super::outcome::{Failure, Outcome, Reason};
use super::ruleset::Ruleset;
use super::steps::{Chosen, Step};
use super::subject::{Lookup, Subject};
use super::symbols::Condition;

/// How deep the evaluation of flags and segments recurses before the innermost is evaluated on its own first.
///
/// This bounds the stack; results do not depend on it.
const MAX_DEPTH: u32 = 100;

/// The evaluation of one context against one ruleset.
///
/// Each segment and each prerequisite is decided once. The result of a cycle does not depend on where it is entered,
/// because every flag or segment on it fails, so remembered results are the same as fresh ones.
pub(super) struct Run<'a> {
    pub(super) ruleset: &'a Ruleset,
    pub(super) subject: Subject<'a>,
    pub(super) memberships: Option<&'a Memberships>,
    memory: Memory,
    /// The worst status met in the flag or segment that is being decided.
    status: Option<BigSegmentsStatus>,
    depth: u32,
}

/// Why the evaluation of a flag or segment stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// A clause or segment rule is malformed.
    Malformed,
    /// A flag needs itself, or a segment contains itself.
    Cycle,
    /// This must be decided first.
    TooDeep(Item),
}

/// A flag or segment by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    Flag(u32),
    Segment(u32),
}

/// Whether the context is in a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentMembership {
    inside: Result<bool, Halt>,
    status: Option<BigSegmentsStatus>,
}

/// A variation index and why.
type Decision = (Option<u32>, Reason);

impl<'a> Run<'a> {
    /// Prepares to evaluate flags of `ruleset` for `subject`.
    pub(super) fn new(ruleset: &'a Ruleset, subject: Subject<'a>, memberships: Option<&'a Memberships>) -> Self {
        let conditions = ruleset.symbols().condition_count();
        let memory = Memory::take(conditions, ruleset.segment_count(), ruleset.flag_count());
        Self { ruleset, subject, memberships, memory, status: None, depth: 0 }
    }

    /// Evaluates a flag of the ruleset.
    pub(super) fn evaluate(&mut self, flag: &'a CompiledFlag) -> Outcome {
        match self.flag(flag) {
            Ok(outcome) => outcome,
            Err(item) => self.evaluate_deep(flag, item),
        }
    }

    /// Records the status of a lookup; the worst one counts.
    pub(super) fn note(&mut self, status: Option<BigSegmentsStatus>) {
        self.status = self.status.max(status);
    }

    /// The verdict on the condition with this number.
    pub(super) fn decide_condition(&mut self, number: u32) -> Verdict {
        let verdict = self.ruleset.symbols().condition_at(number).map_or(Verdict::Absent, |it| self.verdict(it));
        self.memory.verdicts.set(number, verdict);
        verdict
    }

    /// The verdict, if the condition was decided before.
    pub(super) fn known_verdict(&self, number: u32) -> Option<Verdict> {
        self.memory.verdicts.get(number)
    }

    fn verdict(&self, condition: &Condition) -> Verdict {
        let is_hit = if condition.attribute == Test::ANY_KIND {
            self.subject.context().parts().iter().any(|part| condition.test.hits(part.kind_value()))
        } else {
            match self.subject.look_up(condition.attribute) {
                Lookup::Value(value, _) => condition.test.hits(value),
                Lookup::NoContext | Lookup::NoValue => return Verdict::Absent,
            }
        };
        if is_hit { Verdict::Hit } else { Verdict::Miss }
    }

    /// Whether the context is in the segment with this number; a segment that does not exist contains no context.
    pub(super) fn contains(&mut self, number: u32) -> Result<bool, Halt> {
        let Some(segment) = self.ruleset.segment(number) else {
            return Ok(false);
        };
        match self.memory.segments.get(number) {
            Memo::Known(known) => {
                self.note(known.status);
                return known.inside;
            }
            Memo::Open => return Err(Halt::Cycle),
            Memo::Unknown if self.depth >= MAX_DEPTH => return Err(Halt::TooDeep(Item::Segment(number))),
            Memo::Unknown => (),
        }
        let outer = self.status.take();
        self.memory.segments.set(number, Memo::Open);
        self.depth += 1;
        let inside = self.find_in(segment);
        self.depth -= 1;
        let status = mem::replace(&mut self.status, outer);
        self.note(status);
        // A failure inside something larger has not met everything it would have met on its own.
        let final_answer = inside.is_ok() || (self.depth == 0 && !matches!(inside, Err(Halt::TooDeep(_))));
        let memo = if final_answer { Memo::Known(SegmentMembership { inside, status }) } else { Memo::Unknown };
        self.memory.segments.set(number, memo);
        inside
    }

    /// The result of a flag; `Err` names what must be decided first.
    fn flag(&mut self, flag: &'a CompiledFlag) -> Result<Outcome, Item> {
        match self.memory.flags.get(flag.number) {
            Memo::Known(outcome) => return Ok(outcome),
            _ if self.depth >= MAX_DEPTH => return Err(Item::Flag(flag.number)),
            _ => (),
        }
        let outer = self.status.take();
        // Only a flag with prerequisites can be met again while it is being decided.
        if !flag.prerequisites.is_empty() {
            self.memory.flags.set(flag.number, Memo::Open);
        }
        self.depth += 1;
        let mut prerequisites = 0;
        let decision = self.decide(flag, &mut prerequisites);
        self.depth -= 1;
        if !flag.prerequisites.is_empty() {
            self.memory.flags.set(flag.number, Memo::Unknown);
        }
        let status = mem::replace(&mut self.status, outer);
        let (variation, reason) = match decision {
            Ok(decision) => decision,
            Err(Halt::Malformed) => (None, Reason::Malformed(Failure::Fatal)),
            Err(Halt::Cycle) => (None, Reason::Malformed(Failure::Cycle)),
            Err(Halt::TooDeep(item)) => return Err(item),
        };
        let outcome = Outcome { variation, reason, prerequisites, status };
        // On a cycle the status depends on where it was entered; only the outermost flag has seen all of it.
        if reason != Reason::Malformed(Failure::Cycle) || self.depth == 0 {
            self.memory.flags.set(flag.number, Memo::Known(outcome));
        }
        Ok(outcome)
    }

    /// The order of evaluation: off, prerequisites, targets, rules, fallthrough.
    fn decide(&mut self, flag: &'a CompiledFlag, evaluated: &mut u32) -> Result<Decision, Halt> {
        if !flag.on {
            return Ok(self.off(flag, Reason::Off));
        }
        if let Some(index) = self.failed_prerequisite(flag, evaluated)? {
            return Ok(self.off(flag, Reason::PrerequisiteFailed { index }));
        }
        if self.subject.has_key_of(flag.target_filter)
            && let Some(target) = flag.targets.iter().find(|target| self.is_targeted(target))
        {
            return Ok(self.choose(flag, target.choice, |_| Reason::Target));
        }
        let (mut step, mut rule) = (0, 0);
        while let Some(Step::Clause { kind, negate, number, otherwise }) = flag.steps.at(step).copied() {
            if self.matches(CompiledClause { kind, negate, number }, &flag.segment_lists)? {
                step += 1;
            } else {
                (step, rule) = (otherwise, rule + 1);
            }
        }
        Ok(self.choose(flag, step, |chosen| {
            let Chosen { in_experiment, is_tracked, .. } = chosen;
            if step < flag.fallthrough {
                Reason::Rule { index: rule, in_experiment, is_tracked }
            } else {
                Reason::Fallthrough { in_experiment, is_tracked }
            }
        }))
    }

    fn off(&self, flag: &CompiledFlag, reason: Reason) -> Decision {
        match flag.off {
            Some(choice) => self.choose(flag, choice, |_| reason),
            None => (None, reason),
        }
    }

    fn is_targeted(&self, target: &CompiledTarget) -> bool {
        let part = self.subject.part(target.kind);
        part.is_some_and(|part| part.key_passes(target.filter) && part.key_is_in(&target.keys))
    }

    /// The index of the first prerequisite that is not met; counts those that were evaluated.
    fn failed_prerequisite(&mut self, flag: &'a CompiledFlag, evaluated: &mut u32) -> Result<Option<u32>, Halt> {
        for (index, prerequisite) in (0..).zip(&flag.prerequisites) {
            let Some(required) = self.ruleset.flag(prerequisite.flag) else {
                return Ok(Some(index));
            };
            if matches!(self.memory.flags.get(prerequisite.flag), Memo::Open) {
                return Err(Halt::Cycle);
            }
            let outcome = self.flag(required).map_err(Halt::TooDeep)?;
            self.note(outcome.status);
            if outcome.is_fatal() {
                let cycle = outcome.reason == Reason::Malformed(Failure::Cycle);
                return Err(if cycle { Halt::Cycle } else { Halt::Malformed });
            }
            *evaluated += 1;
            // A flag that is off is never met, even if its off variation is the required one.
            let met = required.on && prerequisite.variation.is_some() && outcome.variation == prerequisite.variation;
            if !met {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn choose(&self, flag: &CompiledFlag, step: u32, reason: impl Fn(Chosen) -> Reason) -> Decision {
        match flag.steps.choose(step, flag.prepared.text(), &self.subject) {
            Some(chosen) => (Some(chosen.variation), reason(chosen)),
            None => (None, Reason::Malformed(Failure::Local)),
        }
    }

    /// Evaluates a flag whose chain of prerequisites is too long for recursion, from the innermost outwards.
    #[cold]
    fn evaluate_deep(&mut self, flag: &'a CompiledFlag, first: Item) -> Outcome {
        let mut pending = vec![first];
        loop {
            let Some(item) = pending.last() else {
                match self.flag(flag) {
                    Ok(outcome) => return outcome,
                    Err(item) => pending.push(item),
                }
                continue;
            };
            let item = *item;
            let before = match item {
                Item::Flag(inner) => match self.ruleset.flag(inner) {
                    Some(flag) => self.flag(flag).err(),
                    None => None,
                },
                Item::Segment(inner) => match self.contains(inner) {
                    Err(Halt::TooDeep(item)) => Some(item),
                    _ => None,
                },
            };
            match before {
                None => drop(pending.pop()),
                // An item that depends on itself is on a cycle, and so are all pending ones.
                Some(before) if pending.contains(&before) || before == Item::Flag(flag.number) => self.fail(before),
                Some(before) => pending.push(before),
            }
        }
    }

    /// Remembers that an item is on a cycle.
    fn fail(&mut self, item: Item) {
        let status = None;
        match item {
            Item::Flag(number) => {
                let reason = Reason::Malformed(Failure::Cycle);
                let outcome = Outcome { variation: None, reason, prerequisites: 0, status };
                self.memory.flags.set(number, Memo::Known(outcome));
            }
            Item::Segment(number) => {
                let inside = Err(Halt::Cycle);
                self.memory.segments.set(number, Memo::Known(SegmentMembership { inside, status }));
            }
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        mem::take(&mut self.memory).give_back();
    }
}
