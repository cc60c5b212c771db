//! One request's evaluation of flags, with the results that it remembers.

mod clause;
mod segment;

use std::mem;

use super::flag::{CompiledChoice, CompiledFlag};
use super::memberships::{BigSegmentsStatus, Memberships};
use super::outcome::{Failure, Outcome, Reason};
use super::ruleset::Ruleset;
use super::subject::{Lookup, Subject};

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
    flags: Vec<Memo<Outcome>>,
    segments: Vec<Memo<SegmentMembership>>,
    conditions: Vec<Verdict>,
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

#[derive(Debug, Clone, Copy)]
enum Memo<T> {
    Unknown,
    /// Being decided, further out.
    Open,
    Known(T),
}

/// The result of a condition for the context. One byte, because there are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Unknown,
    Hit,
    Miss,
    /// There is nothing to compare.
    Absent,
}

/// Whether the context is in a segment.
#[derive(Debug, Clone, Copy)]
struct SegmentMembership {
    inside: Result<bool, Halt>,
    status: Option<BigSegmentsStatus>,
}

/// A variation index and why.
type Decision = (Option<u32>, Reason);

impl<'a> Run<'a> {
    /// Prepares to evaluate flags of `ruleset` for `subject`.
    pub(super) fn new(ruleset: &'a Ruleset, subject: Subject<'a>, memberships: Option<&'a Memberships>) -> Self {
        Self {
            ruleset,
            subject,
            memberships,
            flags: vec![Memo::Unknown; ruleset.flag_count()],
            segments: vec![Memo::Unknown; ruleset.segment_count()],
            conditions: vec![Verdict::Unknown; ruleset.symbols().conditions().len()],
            status: None,
            depth: 0,
        }
    }

    /// Evaluates the flag with this number.
    pub(super) fn evaluate(&mut self, number: u32) -> Option<Outcome> {
        let flag = self.ruleset.flag(number)?;
        Some(match self.flag(number, flag) {
            Ok(outcome) => outcome,
            Err(item) => self.evaluate_deep(number, flag, item),
        })
    }

    /// Records the status of a lookup; the worst one counts.
    pub(super) fn note(&mut self, status: Option<BigSegmentsStatus>) {
        self.status = self.status.max(status);
    }

    /// Whether the condition with this number hits; nothing if there is nothing to compare.
    pub(super) fn decide_condition(&mut self, number: u32) -> Option<bool> {
        let verdict = self.conditions.get_mut(number as usize)?;
        if *verdict == Verdict::Unknown {
            let condition = self.ruleset.symbols().conditions().get(number as usize)?;
            *verdict = match self.subject.look_up(condition.attribute) {
                Lookup::Value(value, _) if condition.test.hits(value) => Verdict::Hit,
                Lookup::Value(..) => Verdict::Miss,
                Lookup::NoContext | Lookup::NoValue => Verdict::Absent,
            };
        }
        match verdict {
            Verdict::Hit => Some(true),
            Verdict::Miss => Some(false),
            Verdict::Absent | Verdict::Unknown => None,
        }
    }

    /// Whether the context is in the segment with this number; a segment that does not exist contains no context.
    pub(super) fn contains(&mut self, number: u32) -> Result<bool, Halt> {
        let Some(segment) = self.ruleset.segment(number) else {
            return Ok(false);
        };
        match self.segments[number as usize] {
            Memo::Known(known) => {
                self.note(known.status);
                return known.inside;
            }
            Memo::Open => return Err(Halt::Cycle),
            Memo::Unknown if self.depth >= MAX_DEPTH => return Err(Halt::TooDeep(Item::Segment(number))),
            Memo::Unknown => (),
        }
        let outer = self.status.take();
        self.segments[number as usize] = Memo::Open;
        self.depth += 1;
        let inside = self.find_in(segment);
        self.depth -= 1;
        let status = mem::replace(&mut self.status, outer);
        self.note(status);
        // A failure inside something larger has not met everything it would have met on its own.
        let final_answer = inside.is_ok() || (self.depth == 0 && !matches!(inside, Err(Halt::TooDeep(_))));
        self.segments[number as usize] =
            if final_answer { Memo::Known(SegmentMembership { inside, status }) } else { Memo::Unknown };
        inside
    }

    /// The result of a flag; `Err` names what must be decided first.
    fn flag(&mut self, number: u32, flag: &'a CompiledFlag) -> Result<Outcome, Item> {
        match self.flags[number as usize] {
            Memo::Known(outcome) => return Ok(outcome),
            _ if self.depth >= MAX_DEPTH => return Err(Item::Flag(number)),
            _ => (),
        }
        let outer = self.status.take();
        self.flags[number as usize] = Memo::Open;
        self.depth += 1;
        let mut prerequisites = 0;
        let decision = self.decide(flag, &mut prerequisites);
        self.depth -= 1;
        self.flags[number as usize] = Memo::Unknown;
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
            self.flags[number as usize] = Memo::Known(outcome);
        }
        Ok(outcome)
    }

    /// The order of evaluation: off, prerequisites, targets, rules, fallthrough.
    fn decide(&mut self, flag: &'a CompiledFlag, evaluated: &mut u32) -> Result<Decision, Halt> {
        if !flag.on {
            return Ok(off(flag, Reason::Off));
        }
        if let Some(index) = self.failed_prerequisite(flag, evaluated)? {
            return Ok(off(flag, Reason::PrerequisiteFailed { index }));
        }
        let target = flag
            .targets
            .iter()
            .find(|target| self.subject.part(target.kind).is_some_and(|part| part.key_is_in(&target.keys)));
        if let Some(target) = target {
            return Ok(variation(flag, target.variation, Reason::Target));
        }
        for (index, rule) in (0..).zip(&flag.rules) {
            if self.all_match(&rule.clauses)? {
                return Ok(self.choose(flag, &rule.choice, |in_experiment| Reason::Rule { index, in_experiment }));
            }
        }
        Ok(self.choose(flag, &flag.fallthrough, |in_experiment| Reason::Fallthrough { in_experiment }))
    }

    /// The index of the first prerequisite that is not met; counts those that were evaluated.
    fn failed_prerequisite(&mut self, flag: &'a CompiledFlag, evaluated: &mut u32) -> Result<Option<u32>, Halt> {
        for (index, prerequisite) in (0..).zip(&flag.prerequisites) {
            let Some(required) = self.ruleset.flag(prerequisite.flag) else {
                return Ok(Some(index));
            };
            if matches!(self.flags[prerequisite.flag as usize], Memo::Open) {
                return Err(Halt::Cycle);
            }
            let outcome = self.flag(prerequisite.flag, required).map_err(Halt::TooDeep)?;
            self.note(outcome.status);
            if outcome.is_fatal() {
                let cycle = outcome.reason == Reason::Malformed(Failure::Cycle);
                return Err(if cycle { Halt::Cycle } else { Halt::Malformed });
            }
            *evaluated += 1;
            // A flag that is off is never met, even if its off variation is the required one.
            let met = required.on && outcome.variation.map(i64::from) == Some(prerequisite.variation);
            if !met {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn choose(&self, flag: &CompiledFlag, choice: &CompiledChoice, reason: impl Fn(bool) -> Reason) -> Decision {
        match choice {
            CompiledChoice::Variation(index) => variation(flag, *index, reason(false)),
            CompiledChoice::Rollout(rollout) => match rollout.choose(&self.subject) {
                Some(chosen) => variation(flag, chosen.variation, reason(chosen.in_experiment)),
                None => (None, Reason::Malformed(Failure::Local)),
            },
            CompiledChoice::Malformed => (None, Reason::Malformed(Failure::Local)),
        }
    }

    /// Evaluates a flag whose chain of prerequisites is too long for recursion, from the innermost outwards.
    #[cold]
    fn evaluate_deep(&mut self, number: u32, flag: &'a CompiledFlag, first: Item) -> Outcome {
        let mut pending = vec![first];
        loop {
            let Some(item) = pending.last() else {
                match self.flag(number, flag) {
                    Ok(outcome) => return outcome,
                    Err(item) => pending.push(item),
                }
                continue;
            };
            let item = *item;
            let before = match item {
                Item::Flag(inner) => match self.ruleset.flag(inner) {
                    Some(flag) => self.flag(inner, flag).err(),
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
                Some(before) if pending.contains(&before) || before == Item::Flag(number) => self.fail(before),
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
                self.flags[number as usize] = Memo::Known(outcome);
            }
            Item::Segment(number) => {
                self.segments[number as usize] = Memo::Known(SegmentMembership { inside: Err(Halt::Cycle), status });
            }
        }
    }
}

fn off(flag: &CompiledFlag, reason: Reason) -> Decision {
    match flag.off_variation {
        Some(index) => variation(flag, index, reason),
        None => (None, reason),
    }
}

fn variation(flag: &CompiledFlag, index: i64, reason: Reason) -> Decision {
    match flag.index(index) {
        Some(index) => (Some(index), reason),
        None => (None, Reason::Malformed(Failure::Local)),
    }
}
