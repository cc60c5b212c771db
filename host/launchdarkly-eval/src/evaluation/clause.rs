//! Clauses: single conditions on a context.

use std::ops::Range;

use super::operator::Test;
use super::symbols::Symbols;
use crate::model::{self, Literal, Operator};

/// The clauses of all rules of one segment, one after the other in memory.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    all: Box<[CompiledClause]>,
    /// The segments of clauses that refer to another number of segments than one.
    segment_lists: Box<[Box<[u32]>]>,
}

/// Collects the clauses of a segment.
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

    /// The lists of segments that clauses refer to by index.
    pub(super) fn segment_lists(&self) -> &[Box<[u32]>] {
        &self.segment_lists
    }

    /// The numbers of the segments that they refer to.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        segments(self.all.iter().copied(), &self.segment_lists)
    }
}

impl ClauseCompiler {
    /// Adds `clauses`; returns the number of all clauses so far.
    pub(super) fn add(&mut self, clauses: &[model::Clause], symbols: &Symbols) -> u32 {
        for clause in clauses {
            self.all.push(CompiledClause::compile(clause, symbols, &mut self.segment_lists));
        }
        // They are clauses of one item, whose JSON has less than four gigabytes.
        u32::try_from(self.all.len()).unwrap_or(u32::MAX)
    }

    /// Returns everything that was added.
    pub(super) fn finish(self) -> Clauses {
        Clauses { all: self.all.into(), segment_lists: self.segment_lists.into() }
    }
}

impl CompiledClause {
    /// Compiles `clause`. A list of segments is added to `segment_lists`.
    pub(super) fn compile(clause: &model::Clause, symbols: &Symbols, segment_lists: &mut Vec<Box<[u32]>>) -> Self {
        let (kind, number) = if clause.operator == Operator::SegmentMatch {
            let list = segments_of(clause, symbols);
            if let [number] = *list {
                (ClauseKind::Segment, number)
            } else {
                segment_lists.push(list);
                (ClauseKind::SegmentList, u32::try_from(segment_lists.len() - 1).unwrap_or(u32::MAX))
            }
        } else if &*clause.attribute == "kind" {
            // The plain name only: `/kind` is the kind of the one context that is looked at.
            (ClauseKind::Condition, symbols.condition(Test::ANY_KIND, clause.operator, &clause.values))
        } else {
            match symbols.attribute(&clause.context_kind, &clause.attribute) {
                Ok(attribute) => (ClauseKind::Condition, symbols.condition(attribute, clause.operator, &clause.values)),
                Err(_) => (ClauseKind::Malformed, 0),
            }
        };
        Self { kind, negate: clause.negate, number }
    }
}

/// The numbers of the segments that `clauses` refer to, by themselves or by a list.
pub(super) fn segments(
    clauses: impl Iterator<Item = CompiledClause>,
    segment_lists: &[Box<[u32]>],
) -> impl Iterator<Item = u32> {
    let single = clauses.filter(|it| it.kind == ClauseKind::Segment).map(|it| it.number);
    single.chain(segment_lists.iter().flatten().copied())
}

fn segments_of(clause: &model::Clause, symbols: &Symbols) -> Box<[u32]> {
    let keys = clause.values.iter().filter_map(|value| match value {
        Literal::Text(key) => Some(symbols.segment(key)),
        Literal::Number(_) | Literal::Boolean(_) => None,
    });
    keys.collect()
}
