//! Which flags a change of a flag or segment can affect.

use std::sync::Arc;

use super::flag::CompiledFlag;
use super::segment::CompiledSegment;

/// For each flag and segment, the items that refer to it.
#[derive(Debug)]
pub(super) struct Dependants {
    /// By number of a flag: flags that have it as a prerequisite.
    flags_of_flags: Vec<Vec<u32>>,
    /// By number of a segment: flags whose rules refer to it.
    flags_of_segments: Vec<Vec<u32>>,
    /// By number of a segment: segments whose rules refer to it.
    segments_of_segments: Vec<Vec<u32>>,
}

impl Dependants {
    /// Inverts the references of these flags and segments, each at its number.
    pub(super) fn of(flags: &[Option<Arc<CompiledFlag>>], segments: &[Option<Arc<CompiledSegment>>]) -> Self {
        let mut dependants = Self {
            flags_of_flags: vec![Vec::new(); flags.len()],
            flags_of_segments: vec![Vec::new(); segments.len()],
            segments_of_segments: vec![Vec::new(); segments.len()],
        };
        for (number, flag) in numbered(flags) {
            flag.prerequisites.iter().for_each(|it| add(&mut dependants.flags_of_flags, it.flag, number));
            flag.segments().for_each(|segment| add(&mut dependants.flags_of_segments, segment, number));
        }
        for (number, segment) in numbered(segments) {
            segment.segments().for_each(|inner| add(&mut dependants.segments_of_segments, inner, number));
        }
        dependants
    }

    /// The flags that a change of the flag with this number can affect, itself included, in no order.
    pub(super) fn of_flag(&self, number: u32) -> Vec<u32> {
        closure(vec![number], &self.flags_of_flags)
    }

    /// The flags that a change of the segment with this number can affect, in no order.
    pub(super) fn of_segment(&self, number: u32) -> Vec<u32> {
        let segments = closure(vec![number], &self.segments_of_segments);
        let flags = segments.iter().filter_map(|segment| self.flags_of_segments.get(*segment as usize)).flatten();
        closure(flags.copied().collect(), &self.flags_of_flags)
    }
}

fn numbered<T>(items: &[Option<Arc<T>>]) -> impl Iterator<Item = (u32, &T)> {
    (0..).zip(items).filter_map(|(number, item)| Some((number, item.as_deref()?)))
}

fn add(index: &mut [Vec<u32>], of: u32, dependant: u32) {
    // References of one item come together, so a repeated one is the last.
    if let Some(dependants) = index.get_mut(of as usize)
        && dependants.last() != Some(&dependant)
    {
        dependants.push(dependant);
    }
}

/// `start` and everything that is reached from there.
fn closure(mut start: Vec<u32>, edges: &[Vec<u32>]) -> Vec<u32> {
    let mut seen = vec![false; edges.len()];
    let mut reached = Vec::new();
    while let Some(number) = start.pop() {
        if let Some(seen) = seen.get_mut(number as usize)
            && !*seen
        {
            *seen = true;
            reached.push(number);
            start.extend_from_slice(&edges[number as usize]);
        }
    }
    reached
}
