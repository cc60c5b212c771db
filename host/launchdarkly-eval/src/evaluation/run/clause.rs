//! Whether clauses match the context.

use super::super::clause::{ClauseKind, CompiledClause};
use super::{Halt, Run};

impl<'a> Run<'a> {
    /// Whether all of `clauses` match; stops at the first that does not, so a malformed one behind it is not seen.
    pub(super) fn all_match(&mut self, clauses: &'a [CompiledClause]) -> Result<bool, Halt> {
        for clause in clauses {
            if !self.matches(clause)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn matches(&mut self, clause: &'a CompiledClause) -> Result<bool, Halt> {
        let hit = match &clause.condition {
            ClauseKind::Segments(segments) => self.is_in_any(segments)?,
            ClauseKind::Kinds(test) => self.subject.context().parts().iter().any(|part| test.hits(part.kind_value())),
            ClauseKind::Attribute(condition) => match self.decide_condition(*condition) {
                Some(hit) => hit,
                // Nothing to compare, so nothing to negate.
                None => return Ok(false),
            },
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
