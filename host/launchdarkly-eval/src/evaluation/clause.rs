//! Clauses: single conditions on a context.

use super::operator::Test;
use super::run::{Halt, Run};
use super::symbols::Interner;
use crate::model::{self, Literal, Operator};

/// A clause, compiled.
#[derive(Debug)]
pub(super) struct Clause {
    condition: Condition,
    negate: bool,
}

#[derive(Debug)]
enum Condition {
    /// The context is in one of these segments.
    Segments(Box<[u32]>),
    /// The kind of any individual context hits.
    Kinds(Test),
    /// What an attribute reference leads to hits; by the number of the condition.
    Attribute(u32),
    /// No attribute, or an invalid reference to one.
    Malformed,
}

impl Clause {
    /// Compiles `clause`.
    pub(super) fn compile(clause: &model::Clause, interner: &mut Interner) -> Self {
        let condition = if clause.operator == Operator::SegmentMatch {
            let keys = clause.values.iter().filter_map(|value| match value {
                Literal::Text(key) => Some(interner.segment(key)),
                Literal::Number(_) | Literal::Boolean(_) => None,
            });
            Condition::Segments(keys.collect())
        } else if &*clause.attribute == "kind" {
            // The plain name only: `/kind` is the kind of the one context that is looked at.
            Condition::Kinds(Test::compile(clause.operator, &clause.values, interner))
        } else {
            match interner.attribute(&clause.context_kind, &clause.attribute) {
                Ok(attribute) => Condition::Attribute(interner.condition(attribute, clause.operator, &clause.values)),
                Err(_) => Condition::Malformed,
            }
        };
        Self { condition, negate: clause.negate }
    }

    /// The numbers of the segments it asks for.
    pub(super) fn segments(&self) -> &[u32] {
        match &self.condition {
            Condition::Segments(segments) => segments,
            _ => &[],
        }
    }
}

impl<'a> Run<'a> {
    /// Whether all of `clauses` match; stops at the first that does not, so a malformed one behind it is not seen.
    pub(super) fn all_match(&mut self, clauses: &'a [Clause]) -> Result<bool, Halt> {
        for clause in clauses {
            if !self.matches(clause)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn matches(&mut self, clause: &'a Clause) -> Result<bool, Halt> {
        let hit = match &clause.condition {
            Condition::Segments(segments) => self.is_in_any(segments)?,
            Condition::Kinds(test) => self.subject.context().parts().iter().any(|part| test.hits(part.kind_value())),
            Condition::Attribute(condition) => match self.decide_condition(*condition) {
                Some(hit) => hit,
                // Nothing to compare, so nothing to negate.
                None => return Ok(false),
            },
            Condition::Malformed => return Err(Halt::Malformed),
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
