//! Whether clauses match the context.

use std::ops::Range;

use super::super::clause::{ClauseKind, Clauses, CompiledClause};
use super::{Halt, Run};

impl Run<'_> {
    /// Whether all clauses in a range of `clauses` match; stops at the first that does not, so a malformed one
    /// behind it is not seen.
    pub(super) fn all_match(&mut self, clauses: &Clauses, range: Range<u32>) -> Result<bool, Halt> {
        for clause in clauses.range(range) {
            if !self.matches(*clause, clauses)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn matches(&mut self, clause: CompiledClause, clauses: &Clauses) -> Result<bool, Halt> {
        let hit = match clause.kind {
            ClauseKind::Condition => match self.decide_condition(clause.number) {
                Some(hit) => hit,
                // Nothing to compare, so nothing to negate.
                None => return Ok(false),
            },
            ClauseKind::Segment => self.contains(clause.number)?,
            ClauseKind::SegmentList => self.is_in_any(clauses.segment_list(clause.number))?,
            ClauseKind::Malformed => return Err(Halt::Malformed),
        };
        Ok(hit != clause.negate)
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
