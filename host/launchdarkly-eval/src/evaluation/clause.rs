//! Clauses: single conditions on a context.

use std::ops::Range;

use super::operator::Test;
use super::symbols::Symbols;
use crate::model::{self, Literal, Operator};

/// The clauses of all rules of one flag or segment, one after the other in memory.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    all: Box<[CompiledClause]>,
    /// The segments of clauses that refer to another number of segments than one.
    segment_lists: Box<[Box<[u32]>]>,
}

/// Collects the clauses of a flag or segment.
#[derive(Default)]
pub(super) struct ClauseCompiler {
    all: Vec<CompiledClause>,
    segment_lists: Vec<Box<[u32]>>,
}

/// A clause, compiled. Small, because a request passes thousands.
#[derive(Debug, Clone, Copy)]
pub(super) struct CompiledClause {
    pub(super) kind: ClauseKind,
    pub(super) negate: bool,
    /// The number of what `kind` names.
    pub(super) number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClauseKind {
    /// A condition holds.
    Condition,
    /// The context is in a segment.
    Segment,
    /// The context is in one of the segments of a list; by the index of the list.
    SegmentList,
    /// No attribute, or an invalid reference to one.
    Malformed,
}

impl Clauses {
    /// The clauses in a range.
    pub(super) fn range(&self, range: Range<u32>) -> &[CompiledClause] {
        self.all.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// The list of segments with this index.
    pub(super) fn segment_list(&self, index: u32) -> &[u32] {
        self.segment_lists.get(index as usize).map_or(&[], |list| list)
    }

    /// The numbers of the segments that they refer to.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        let single = self.all.iter().filter(|it| it.kind == ClauseKind::Segment).map(|it| it.number);
        single.chain(self.segment_lists.iter().flatten().copied())
    }
}

impl ClauseCompiler {
    /// Adds `clauses`; returns the number of all clauses so far.
    pub(super) fn add(&mut self, clauses: &[model::Clause], symbols: &Symbols) -> u32 {
        for clause in clauses {
            let compiled = self.compile(clause, symbols);
            self.all.push(compiled);
        }
        // They are clauses of one item, whose JSON has less than four gigabytes.
        u32::try_from(self.all.len()).unwrap_or(u32::MAX)
    }

    /// Returns everything that was added.
    pub(super) fn finish(self) -> Clauses {
        Clauses { all: self.all.into(), segment_lists: self.segment_lists.into() }
    }

    fn compile(&mut self, clause: &model::Clause, symbols: &Symbols) -> CompiledClause {
        let (kind, number) = if clause.operator == Operator::SegmentMatch {
            self.segments(clause, symbols)
        } else if &*clause.attribute == "kind" {
            // The plain name only: `/kind` is the kind of the one context that is looked at.
            let attribute = Test::ANY_KIND;
            (ClauseKind::Condition, symbols.condition(attribute, clause.operator, &clause.values))
        } else {
            match symbols.attribute(&clause.context_kind, &clause.attribute) {
                Ok(attribute) => (ClauseKind::Condition, symbols.condition(attribute, clause.operator, &clause.values)),
                Err(_) => (ClauseKind::Malformed, 0),
            }
        };
        CompiledClause { kind, negate: clause.negate, number }
    }

    fn segments(&mut self, clause: &model::Clause, symbols: &Symbols) -> (ClauseKind, u32) {
        let keys = clause.values.iter().filter_map(|value| match value {
            Literal::Text(key) => Some(symbols.segment(key)),
            Literal::Number(_) | Literal::Boolean(_) => None,
        });
        let list: Box<[u32]> = keys.collect();
        if let [number] = *list {
            return (ClauseKind::Segment, number);
        }
        self.segment_lists.push(list);
        (ClauseKind::SegmentList, u32::try_from(self.segment_lists.len() - 1).unwrap_or(u32::MAX))
    }
}
