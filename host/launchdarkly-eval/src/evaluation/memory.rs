//! What an evaluation remembers: results of conditions, segments and flags, by their numbers.
//!
//! Each thread reuses one memory for all its evaluations. A new evaluation forgets everything by counting up, so that it
//! neither allocates nor clears what it does not use.

use std::cell::Cell;

use super::outcome::Outcome;
use super::run::SegmentMembership;

thread_local! {
    static SPARE: Cell<Memory> = Cell::default();
}

/// The memory of one evaluation.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) verdicts: Verdicts,
    pub(super) segments: Memos<SegmentMembership>,
    pub(super) flags: Memos<Outcome>,
}

/// The result of a condition for the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Hit = 1,
    Miss = 2,
    /// There is nothing to compare.
    Absent = 3,
}

/// Results of conditions. One byte each, because there are many: the verdict, and the evaluation in the other bits.
#[derive(Default)]
pub(super) struct Verdicts {
    evaluation: u8,
    slots: Vec<u8>,
}

/// Results of flags or segments.
pub(super) struct Memos<T> {
    evaluation: u32,
    slots: Vec<(u32, Memo<T>)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Memo<T> {
    Unknown,
    /// Being decided, further out.
    Open,
    Known(T),
}

impl Verdict {
    /// Whether a clause with the condition matches, given whether it is negated.
    pub(super) fn is_match(self, negate: bool) -> bool {
        // If there is nothing to compare, there is nothing to negate.
        self == if negate { Self::Miss } else { Self::Hit }
    }
}

impl Memory {
    /// Takes the memory of this thread for an evaluation among so many items, with nothing in it.
    pub(super) fn take(conditions: usize, segments: usize, flags: usize) -> Self {
        let mut memory = SPARE.take();
        memory.verdicts.clear(conditions);
        memory.segments.clear(segments);
        memory.flags.clear(flags);
        memory
    }

    /// Gives the memory back for the next evaluation.
    pub(super) fn give_back(self) {
        SPARE.set(self);
    }
}

impl Verdicts {
    const BITS: u8 = 3;
    const STEP: u8 = Self::BITS + 1;

    fn clear(&mut self, count: usize) {
        self.evaluation = self.evaluation.wrapping_add(Self::STEP);
        if self.evaluation == 0 {
            self.slots.fill(0);
            self.evaluation = Self::STEP;
        }
        if self.slots.len() < count {
            self.slots.resize(count, 0);
        }
    }

    /// The verdict on the condition with this number, if it is known.
    pub(super) fn get(&self, number: u32) -> Option<Verdict> {
        let slot = *self.slots.get(number as usize)?;
        match slot.wrapping_sub(self.evaluation) {
            1 => Some(Verdict::Hit),
            2 => Some(Verdict::Miss),
            3 => Some(Verdict::Absent),
            _ => None,
        }
    }

    /// Remembers a verdict.
    pub(super) fn set(&mut self, number: u32, verdict: Verdict) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = self.evaluation | verdict as u8;
        }
    }
}

impl<T: Copy> Memos<T> {
    fn clear(&mut self, count: usize) {
        self.evaluation = self.evaluation.wrapping_add(1);
        if self.evaluation == 0 {
            self.slots.clear();
            self.evaluation = 1;
        }
        if self.slots.len() < count {
            self.slots.resize(count, (0, Memo::Unknown));
        }
    }

    pub(super) fn get(&self, number: u32) -> Memo<T> {
        match self.slots.get(number as usize) {
            Some((evaluation, memo)) if *evaluation == self.evaluation => *memo,
            _ => Memo::Unknown,
        }
    }

    pub(super) fn set(&mut self, number: u32, memo: Memo<T>) {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            *slot = (self.evaluation, memo);
        }
    }
}

impl<T> Default for Memos<T> {
    fn default() -> Self {
        Self { evaluation: 0, slots: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_earlier_evaluations_is_remembered() {
        let (mut verdicts, mut memos) = (Verdicts::default(), Memos::default());
        for round in 0..1000_u32 {
            verdicts.clear(3);
            memos.clear(3);
            let number = round % 3;
            assert!((0..3).all(|it| verdicts.get(it).is_none() && matches!(memos.get(it), Memo::Unknown)), "{round}");
            verdicts.set(number, Verdict::Miss);
            memos.set(number, Memo::Known(round));
            assert_eq!(verdicts.get(number), Some(Verdict::Miss));
            assert!(matches!(memos.get(number), Memo::Known(it) if it == round));
        }
        assert_eq!(verdicts.get(3), None, "there are three");
    }
}
