//! Clauses: single conditions on a context.

use super::operator::Test;
use super::symbols::Interner;
use crate::model::{self, Literal, Operator};

/// A clause, compiled.
#[derive(Debug)]
pub(super) struct CompiledClause {
    pub(super) condition: ClauseKind,
    pub(super) negate: bool,
}

#[derive(Debug)]
pub(super) enum ClauseKind {
    /// The context is in one of these segments.
    Segments(Box<[u32]>),
    /// The kind of any individual context matches.
    Kinds(Test),
    /// The value of an attribute matches; by the number of the condition.
    Attribute(u32),
    /// No attribute, or an invalid reference to one.
    Malformed,
}

impl CompiledClause {
    /// Compiles `clause`.
    pub(super) fn compile(clause: &model::Clause, interner: &mut Interner) -> Self {
        let condition = if clause.operator == Operator::SegmentMatch {
            let keys = clause.values.iter().filter_map(|value| match value {
                Literal::Text(key) => Some(interner.segment(key)),
                Literal::Number(_) | Literal::Boolean(_) => None,
            });
            ClauseKind::Segments(keys.collect())
        } else if &*clause.attribute == "kind" {
            // The plain name only: `/kind` is the kind of the one context that is looked at.
            ClauseKind::Kinds(Test::compile(clause.operator, &clause.values, |text| interner.pattern(text)))
        } else {
            match interner.attribute(&clause.context_kind, &clause.attribute) {
                Ok(attribute) => ClauseKind::Attribute(interner.condition(attribute, clause.operator, &clause.values)),
                Err(_) => ClauseKind::Malformed,
            }
        };
        Self { condition, negate: clause.negate }
    }

    /// The numbers of the segments that it refers to.
    pub(super) fn segments(&self) -> &[u32] {
        match &self.condition {
            ClauseKind::Segments(segments) => segments,
            _ => &[],
        }
    }
}
