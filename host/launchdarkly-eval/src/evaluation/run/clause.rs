//! Whether clauses match the context.

use std::ops::Range;

use super::super::clause::{ClauseKind, Clauses, CompiledClause};
use super::{Halt, Run};

impl Run<'_> {
    /// Whether all clauses of a segment in a range match; stops at the first that does not, so a malformed one
    /// behind it is not seen.
    pub(super) fn all_match(&mut self, clauses: &Clauses, range: Range<u32>) -> Result<bool, Halt> {
        for clause in clauses.range(range) {
            if !self.matches(*clause, clauses.segment_lists())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether one clause matches; `segment_lists` are those of its flag or segment.
    ///
    /// Most clauses are conditions that other flags have, too, and are decided already.
    #[inline]
    pub(super) fn matches(&mut self, clause: CompiledClause, segment_lists: &[Box<[u32]>]) -> Result<bool, Halt> {
        match self.known_verdict(clause.number).filter(|_| clause.kind == ClauseKind::Condition) {
            Some(verdict) => Ok(verdict.is_match(clause.negate)),
            None => self.decide_clause(clause, segment_lists),
        }
    }

    #[inline(never)]
    fn decide_clause(&mut self, clause: CompiledClause, segment_lists: &[Box<[u32]>]) -> Result<bool, Halt> {
        let is_in_segment = match clause.kind {
            ClauseKind::Condition => return Ok(self.decide_condition(clause.number).is_match(clause.negate)),
            ClauseKind::Segment => self.contains(clause.number)?,
            ClauseKind::SegmentList => {
                let list = segment_lists.get(clause.number as usize);
                self.is_in_any(list.map_or(&[], |list| list))?
            }
            ClauseKind::Malformed => return Err(Halt::Malformed),
        };
        Ok(is_in_segment != clause.negate)
    }

    fn is_in_any(&mut self, segments: &[u32]) -> Result<bool, Halt> {
        for segment in segments {
            if self.contains(*segment)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
