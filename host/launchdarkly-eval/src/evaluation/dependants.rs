//! Which flags a change of a flag or segment can affect.

use std::collections::HashSet;

use imbl::OrdSet;

use super::flag::CompiledFlag;
use super::segment::CompiledSegment;

/// For each flag and segment, the items that refer to it. Clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Dependants {
    /// Flags that have a flag as a prerequisite.
    flags_of_flags: References,
    /// Flags whose rules refer to a segment.
    flags_of_segments: References,
    /// Segments whose rules refer to a segment.
    segments_of_segments: References,
}

/// Pairs of an item and one that refers to it, by their numbers.
#[derive(Debug, Clone, Default)]
struct References(OrdSet<(u32, u32)>);

impl Dependants {
    /// Replaces the references that the flag with this number makes.
    pub(super) fn replace_flag(&mut self, number: u32, old: Option<&CompiledFlag>, new: Option<&CompiledFlag>) {
        let flags = |flag: Option<&CompiledFlag>| unique(flag.iter().flat_map(|it| it.prerequisite_numbers()));
        let segments = |flag: Option<&CompiledFlag>| unique(flag.iter().flat_map(|it| it.segments()));
        self.flags_of_flags.replace(number, &flags(old), &flags(new));
        self.flags_of_segments.replace(number, &segments(old), &segments(new));
    }

    /// Replaces the references that the segment with this number makes.
    pub(super) fn replace_segment(
        &mut self,
        number: u32,
        old: Option<&CompiledSegment>,
        new: Option<&CompiledSegment>,
    ) {
        let segments = |segment: Option<&CompiledSegment>| unique(segment.iter().flat_map(|it| it.segments()));
        self.segments_of_segments.replace(number, &segments(old), &segments(new));
    }

    /// The flags that a change of the flag with this number can affect, itself included, in no order.
    pub(super) fn of_flag(&self, number: u32) -> HashSet<u32> {
        self.flags_of_flags.closure(vec![number])
    }

    /// The flags that a change of the segment with this number can affect, in no order.
    pub(super) fn of_segment(&self, number: u32) -> HashSet<u32> {
        let segments = self.segments_of_segments.closure(vec![number]);
        let flags = segments.into_iter().flat_map(|segment| self.flags_of_segments.to(segment));
        self.flags_of_flags.closure(flags.collect())
    }
}

impl References {
    fn replace(&mut self, from: u32, old: &HashSet<u32>, new: &HashSet<u32>) {
        for to in old.difference(new) {
            self.0.remove(&(*to, from));
        }
        for to in new.difference(old) {
            self.0.insert((*to, from));
        }
    }

    /// The items that refer to this one.
    fn to(&self, number: u32) -> impl Iterator<Item = u32> {
        self.0.range((number, 0)..=(number, u32::MAX)).map(|(_, from)| *from)
    }

    /// `start` and everything that refers to it, directly or through others.
    fn closure(&self, mut start: Vec<u32>) -> HashSet<u32> {
        let mut reached = HashSet::new();
        while let Some(number) = start.pop() {
            if reached.insert(number) {
                start.extend(self.to(number));
            }
        }
        reached
    }
}

fn unique(numbers: impl Iterator<Item = u32>) -> HashSet<u32> {
    numbers.collect()
}
